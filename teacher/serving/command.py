"""The command line and environment of vLLM's OpenAI-compatible server.

On a CPU the options are those that were measured to work; the ones for CUDA are vLLM's documented ones and were
not run on a GPU here. The key travels in the environment, where other users of the machine cannot read it.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping
from pathlib import Path

from ops.settings import Settings
from teacher.serving.environment import CACHE

#: Tokens a block of the KV cache; prefixes are shared in whole blocks.
CPU_BLOCK_TOKENS = 32
TCMALLOC = ("/usr/lib/*/libtcmalloc_minimal.so.4", "/usr/lib*/libtcmalloc_minimal.so.4")


def server_command(settings: Settings, *, python: Path, model: str, port: int) -> list[str]:
    """Return the command that serves `model` (folder or hub name) under the name `settings.teacher.model`."""
    server = settings.teacher_server
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", model, "--served-model-name", settings.teacher.model]
    command += ["--host", server.host, "--port", str(port)]
    command += ["--dtype", server.dtype, "--max-model-len", str(server.max_model_len)]
    # The model folder's own defaults (repetition penalty, top-k) would bend the grades' probabilities.
    command += ["--generation-config", "vllm"]
    command += ["--enable-prefix-caching", "--enable-prompt-tokens-details"]
    # Without the second a small model fills JSON with endless newlines.
    outputs = {"backend": "xgrammar", "disable_any_whitespace": True}
    command += ["--structured-outputs-config", json.dumps(outputs)]
    command += ["--disable-uvicorn-access-log"]
    if server.device == "cpu":
        return [*command, "--block-size", str(CPU_BLOCK_TOKENS)]
    command += ["--tensor-parallel-size", str(server.tensor_parallel)]
    command += ["--gpu-memory-utilization", str(server.gpu_memory_utilization)]
    if server.quantization:
        command += ["--quantization", server.quantization]
    return command


def server_environment(
    settings: Settings, *, python: Path, model: str, inherited: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables for vLLM: the inherited ones without this project's own, which hold passwords.

    VLLM_* variables that are already set win, except for the key.
    """
    server = settings.teacher_server
    kept = {
        name: value
        for name, value in inherited.items()
        if not name.startswith("RELEVANCE_")
        and name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "VLLM_API_KEY")
    }
    ours = {"VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1", "VLLM_CACHE_ROOT": str(CACHE / "vllm")}
    if Path(model).is_dir():
        ours |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if server.device == "cpu":
        ours |= {
            # The compiled model that it would keep fails to load at the second start.
            "VLLM_USE_AOT_COMPILE": "0",
            "VLLM_CPU_KVCACHE_SPACE": str(server.kv_cache_gib),
            "VLLM_CPU_OMP_THREADS_BIND": "auto",
        }
        if libraries := preloads(python, inherited.get("LD_PRELOAD", "")):
            kept["LD_PRELOAD"] = libraries
    environment = ours | kept
    if key := settings.teacher.api_key.get_secret_value():
        environment["VLLM_API_KEY"] = key
    return environment


def preloads(python: Path, given: str, *, tcmalloc: tuple[str, ...] = TCMALLOC) -> str:
    """Return LD_PRELOAD with the allocator and the OpenMP runtime that vLLM is faster with, where they exist."""
    wanted = {
        "libtcmalloc": [path for pattern in tcmalloc for path in sorted(glob.glob(pattern))],
        "libiomp5": sorted(glob.glob(str(python.parent.parent / "lib" / "libiomp5.so"))),
    }
    added = [found[0] for name, found in wanted.items() if found and name not in given]
    return ":".join(filter(None, [given, *added]))
