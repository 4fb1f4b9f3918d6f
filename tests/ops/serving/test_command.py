"""The server's command line, its environment, and what is refused before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.servers.keeping import ServerError
from ops.serving.command import RESTRICTED, Installation, server_command, server_environment, write_backends
from ops.serving.server import refuse_open_door
from ops.settings import Settings, SettingsError, load

INSTALLED = Installation(
    server=Path("/wheel/bin/tritonserver"),
    python_backend=Path("/wheel/backends/python"),
    stub=Path("/wheel/stubs/triton_python_backend_stub"),
    caches=Path("/wheel/caches"),
    binaries=Path("/environment/bin"),
    libraries="/wheel/libs:/python/lib",
)


def command(**settings: str) -> list[str]:
    return server_command(
        load({f"RELEVANCE_{name}": value for name, value in settings.items()}),
        INSTALLED,
        models=Path("/models"),
        backends=Path("/backends"),
        shared_memory="relevance_x_",
        ports=(1, 2),
    )


def test_by_default_it_serves_grpc_on_loopback_alone_with_explicit_loading() -> None:
    given = command()
    assert given[0] == "/wheel/bin/tritonserver"
    for option in (
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",
        "--allow-http=false",
        "--grpc-address=127.0.0.1",
        "--grpc-port=1",
        "--metrics-address=127.0.0.1",
        "--metrics-port=2",
        "--model-repository=/models",
        "--backend-directory=/backends",
        "--cache-config=local,size=67108864",
        "--backend-config=python,shm-region-prefix-name=relevance_x_",
        "--backend-config=onnxruntime,shm-region-prefix-name=relevance_x_",
    ):
        assert option in given
    assert not [option for option in given if "ssl" in option or "restricted" in option]


def test_tls_clients_certificates_and_token() -> None:
    given = command(
        TRITON_SERVER__CERTIFICATE="/c.pem",
        TRITON_SERVER__KEY="/k.pem",
        TRITON_SERVER__CLIENT_CA_FILE="/ca.pem",
        SCORING__TOKEN="secret",
    )
    assert {"--grpc-use-ssl=true", "--grpc-server-cert=/c.pem", "--grpc-server-key=/k.pem"} <= set(given)
    assert {"--grpc-use-ssl-mutual=true", "--grpc-root-cert=/ca.pem"} <= set(given)
    (restricted,) = [option for option in given if "restricted" in option]
    assert restricted == f"--grpc-restricted-protocol={','.join(RESTRICTED)}:relevance-token=secret"
    assert {"inference", "model-repository", "shared-memory"} <= set(RESTRICTED)
    assert "health" not in RESTRICTED


def test_its_environment_has_no_secrets_of_ours_and_its_own_packages_first() -> None:
    inherited = {
        "PATH": "/usr/bin",
        "RELEVANCE_SCORING__TOKEN": "secret",
        "VIRTUAL_ENV": "/main",
        "LD_LIBRARY_PATH": "/cuda",
        "HOME": "/home/me",
    }
    given = server_environment(INSTALLED, inherited=inherited)
    assert given["PATH"] == "/environment/bin:/usr/bin"
    assert given["LD_LIBRARY_PATH"] == "/wheel/libs:/python/lib:/cuda"
    assert given["HOME"] == "/home/me"
    assert "secret" not in given.values()
    assert "VIRTUAL_ENV" not in given


def test_backends_are_made_anew(tmp_path: Path) -> None:
    wheel = tmp_path / "wheel"
    wheel.mkdir()
    for name in ("libtriton_python.so", "triton_python_backend_utils.py", "triton_python_backend_stub"):
        (wheel / name).write_text(name)
    installed = Installation(wheel, wheel, wheel / "triton_python_backend_stub", wheel, wheel, libraries="")
    (tmp_path / "backends" / "onnxruntime").mkdir(parents=True)
    (tmp_path / "backends" / "onnxruntime" / "old.py").write_text("")
    write_backends(installed, tmp_path / "backends")
    made = {str(path.relative_to(tmp_path / "backends")) for path in (tmp_path / "backends").rglob("*.*")}
    assert made == {
        "python/libtriton_python.so",
        "python/triton_python_backend_utils.py",
        "onnxruntime/model.py",
        "onnxruntime/students/__init__.py",
        "onnxruntime/students/export/__init__.py",
        "onnxruntime/students/export/graph_session.py",
    }
    assert (tmp_path / "backends" / "python" / "triton_python_backend_stub").exists()


@pytest.mark.parametrize(
    ("server", "scoring", "missing"),
    [
        ({"host": "0.0.0.0"}, {}, "a token .* and TLS"),
        ({"host": "0.0.0.0"}, {"token": "t"}, "set TLS"),
        ({"host": "10.0.0.1", "certificate": "/c", "key": "/k"}, {}, "set a token"),
    ],
)
def test_an_open_door_is_refused(server: dict[str, str], scoring: dict[str, str], missing: str) -> None:
    with pytest.raises(ServerError, match=missing):
        refuse_open_door(Settings.model_validate({"triton_server": server, "scoring": scoring}))


def test_doors_with_a_lock_and_doors_inside_are_not() -> None:
    for server, scoring in (
        ({}, {}),
        ({"host": "::1"}, {}),
        ({"host": "localhost"}, {}),
        ({"host": "0.0.0.0", "certificate": "/c", "key": "/k"}, {"token": "t"}),
        ({"host": "0.0.0.0", "certificate": "/c", "key": "/k", "client_ca_file": "/ca"}, {}),
    ):
        refuse_open_door(Settings.model_validate({"triton_server": server, "scoring": scoring}))


def test_half_a_certificate_is_no_setting() -> None:
    with pytest.raises(SettingsError, match="certificate and key go together"):
        load({"RELEVANCE_TRITON_SERVER__CERTIFICATE": "/c.pem"})
    with pytest.raises(SettingsError, match="client_ca_file needs certificate and key"):
        load({"RELEVANCE_TRITON_SERVER__CLIENT_CA_FILE": "/c.pem"})
    with pytest.raises(SettingsError, match="expected host:port"):
        load({"RELEVANCE_TRITON": "http://somewhere"})
