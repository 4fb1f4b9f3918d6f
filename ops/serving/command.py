"""The command line and environment of tritonserver, and its backends put together from the wheel and from git."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import triton_models
from ops.servers.steps import ROOT
from ops.settings import Settings

TEMPLATES = Path(triton_models.__file__).parent
#: What `onnxruntime`'s stand-in runs graphs with.
GRAPH_SESSION = [
    ROOT / "students" / name for name in ("__init__.py", "export/__init__.py", "export/graph_session.py")
]
#: Shared memory of one Python model at first; it grows with what is sent.
SHARED_MEMORY_BYTES = 4 * 1024 * 1024
#: What the token opens: all but health, which probes of the machine ask for.
RESTRICTED = (
    "inference",
    "model-repository",
    "metadata",
    "model-config",
    "statistics",
    "shared-memory",
    "trace",
    "logging",
)
#: The server adds it before a restricted protocol's key.
TOKEN_KEY = "relevance-token"
TOKEN_HEADER = f"triton-grpc-protocol-{TOKEN_KEY}"
EXITS_WITHIN_S = 5


@dataclass(frozen=True, slots=True)
class Installation:
    """Where things of the wheel lie. `libraries` is a search path for shared libraries."""

    server: Path
    python_backend: Path
    stub: Path
    caches: Path
    binaries: Path
    libraries: str


def installation_of(python: Path) -> Installation:
    """Return what the environment of the interpreter `python` holds."""
    ask = "import sys, sysconfig; print(sysconfig.get_path('purelib')); print(sysconfig.get_config_var('LIBDIR'))"
    ask += "; print('%d.%d' % sys.version_info[:2])"
    lines = subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    site, library_folder, version = Path(lines[0]), lines[1], lines[2]
    wheel = site / "pytriton" / "tritonserver"
    return Installation(
        server=wheel / "bin" / "tritonserver",
        python_backend=wheel / "backends" / "python",
        stub=wheel / "python_backend_stubs" / version / "triton_python_backend_stub",
        caches=wheel / "caches",
        binaries=python.parent,
        libraries=f"{site / 'nvidia_pytriton.libs'}:{library_folder}",
    )


def write_backends(installed: Installation, folder: Path) -> None:
    """Make the backends' directory anew: Python's with the stub of this Python, and onnxruntime's stand-in."""
    shutil.rmtree(folder, ignore_errors=True)
    python = folder / "python"
    python.mkdir(parents=True)
    for path in (
        installed.python_backend / "libtriton_python.so",
        installed.python_backend / "triton_python_backend_utils.py",
        installed.stub,
    ):
        shutil.copy(path, python / path.name)
    onnxruntime = folder / "onnxruntime"
    onnxruntime.mkdir()
    shutil.copy(TEMPLATES / "onnxruntime_backend" / "model.py", onnxruntime / "model.py")
    # Its process sees none of the project but what lies beside it.
    for path in GRAPH_SESSION:
        target = onnxruntime / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def server_command(
    settings: Settings,
    installed: Installation,
    *,
    models: Path,
    backends: Path,
    shared_memory: str,
    ports: tuple[int, int],
) -> list[str]:
    """Return the command that serves the folder `models`, with nothing loaded, on `ports` (gRPC, metrics).

    `shared_memory` begins the name of every shared memory region, so that they can be found and removed.
    """
    server = settings.triton_server
    command = [str(installed.server), f"--model-repository={models}", f"--backend-directory={backends}"]
    command += ["--model-control-mode=explicit", "--disable-auto-complete-config", "--allow-http=false"]
    command += [f"--grpc-address={server.host}", f"--grpc-port={ports[0]}"]
    command += ["--metrics-address=127.0.0.1", f"--metrics-port={ports[1]}"]
    command += [f"--cache-directory={installed.caches}"]
    command += [f"--cache-config=local,size={server.response_cache_mib * 1024 * 1024}"]
    command += [f"--exit-timeout-secs={EXITS_WITHIN_S}", "--log-verbose=0"]
    for backend in ("python", "onnxruntime"):
        command += [f"--backend-config={backend},shm-region-prefix-name={shared_memory}"]
        command += [f"--backend-config={backend},shm-default-byte-size={SHARED_MEMORY_BYTES}"]
    if server.certificate and server.key:
        command += ["--grpc-use-ssl=true", f"--grpc-server-cert={server.certificate}"]
        command += [f"--grpc-server-key={server.key}"]
    if server.client_ca_file:
        command += ["--grpc-use-ssl-mutual=true", f"--grpc-root-cert={server.client_ca_file}"]
    if token := settings.scoring.token.get_secret_value():
        command += [f"--grpc-restricted-protocol={','.join(RESTRICTED)}:{TOKEN_KEY}={token}"]
    return command


def server_environment(installed: Installation, *, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for the server: without this project's own, which hold passwords.

    Its Python models find their packages through PATH. PYTHONPATH is for the program that starts it; they ignore it.
    """
    kept = {
        name: value
        for name, value in inherited.items()
        if not name.startswith("RELEVANCE_") and name not in ("PYTHONHOME", "VIRTUAL_ENV")
    }
    return kept | {
        "PATH": f"{installed.binaries}{os.pathsep}{kept.get('PATH', os.defpath)}",
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [installed.libraries, kept.get("LD_LIBRARY_PATH")])),
        "PYTHONPATH": str(ROOT),
        # numpy's other thread would spin for tens of milliseconds after each product, on a core that a graph needs.
        "OPENBLAS_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
