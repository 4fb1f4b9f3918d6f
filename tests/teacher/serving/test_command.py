from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from pydantic import SecretStr

from ops.settings import Settings, Teacher, TeacherServer
from teacher.serving.command import preloads, server_command, server_environment

PYTHON = Path("/env/bin/python")
KEY = "key-that-nobody-may-see"


def pairs(command: list[str]) -> dict[str, str]:
    return dict(itertools.pairwise(command))


def test_the_command_for_a_cpu() -> None:
    settings = Settings(teacher_server=TeacherServer(max_model_len=2048))
    command = server_command(settings, python=PYTHON, model="/weights", port=18010)
    assert command[:3] == ["/env/bin/python", "-m", "vllm.entrypoints.openai.api_server"]
    given = pairs(command)
    assert given["--model"] == "/weights"
    assert given["--served-model-name"] == "relevance-teacher"
    assert (given["--host"], given["--port"]) == ("127.0.0.1", "18010")
    assert (given["--dtype"], given["--block-size"], given["--max-model-len"]) == ("bfloat16", "32", "2048")
    assert given["--generation-config"] == "vllm"
    assert {"--enable-prefix-caching", "--enable-prompt-tokens-details"} <= set(command)
    assert "--gpu-memory-utilization" not in command


def test_the_command_for_gpus() -> None:
    server = TeacherServer(
        device="cuda", tensor_parallel=2, gpu_memory_utilization=0.8, quantization="fp8", max_model_len=4096
    )
    model = "Qwen/Qwen2.5-7B-Instruct"
    command = server_command(Settings(teacher_server=server), python=PYTHON, model=model, port=18000)
    given = pairs(command)
    assert given["--model"] == model
    assert given["--tensor-parallel-size"] == "2"
    assert given["--gpu-memory-utilization"] == "0.8"
    assert given["--quantization"] == "fp8"
    assert "--enable-prefix-caching" in command
    assert "--block-size" not in command
    unquantised = TeacherServer(device="cuda")
    command = server_command(Settings(teacher_server=unquantised), python=PYTHON, model=model, port=18000)
    assert "--quantization" not in command


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_key_travels_in_the_environment_alone(device: str) -> None:
    settings = Settings(
        teacher=Teacher(api_key=SecretStr(KEY)),
        teacher_server=TeacherServer.model_validate({"device": device}),
    )
    command = server_command(settings, python=PYTHON, model="m", port=1)
    assert not any(KEY in part for part in command)
    environment = server_environment(settings, python=PYTHON, model="m", inherited={})
    assert environment["VLLM_API_KEY"] == KEY


def test_vllm_inherits_no_secret_of_ours_and_no_path(tmp_path: Path) -> None:
    inherited = {
        "RELEVANCE_CLICKHOUSE": "https://user:password@host/db",
        "PYTHONPATH": "/elsewhere",
        "VLLM_API_KEY": "of another server",
        "VLLM_CPU_OMP_THREADS_BIND": "0-3",
        "PATH": "/bin",
    }
    found = server_environment(Settings(), python=PYTHON, model=str(tmp_path), inherited=inherited)
    assert not {"RELEVANCE_CLICKHOUSE", "PYTHONPATH", "VLLM_API_KEY"} & found.keys()
    assert found["PATH"] == "/bin"
    assert found["VLLM_CPU_OMP_THREADS_BIND"] == "0-3"
    assert (found["VLLM_USE_AOT_COMPILE"], found["VLLM_CPU_KVCACHE_SPACE"]) == ("0", "1")
    assert found["HF_HUB_OFFLINE"] == "1"


def test_a_hub_name_may_be_downloaded_and_a_gpu_gets_no_cpu_options() -> None:
    settings = Settings(teacher_server=TeacherServer(device="cuda"))
    found = server_environment(settings, python=PYTHON, model="Qwen/Qwen2.5-7B-Instruct", inherited={})
    assert "HF_HUB_OFFLINE" not in found
    assert "VLLM_CPU_KVCACHE_SPACE" not in found
    assert "LD_PRELOAD" not in found


def test_only_libraries_that_exist_are_preloaded(tmp_path: Path) -> None:
    python = tmp_path / "env" / "bin" / "python"
    none = (str(tmp_path / "none*.so.4"),)
    assert preloads(python, "", tcmalloc=none) == ""
    iomp = tmp_path / "env" / "lib" / "libiomp5.so"
    iomp.parent.mkdir(parents=True)
    iomp.touch()
    malloc = tmp_path / "libtcmalloc_minimal.so.4"
    malloc.touch()
    assert preloads(python, "", tcmalloc=none) == str(iomp)
    assert preloads(python, "/x.so", tcmalloc=none) == f"/x.so:{iomp}"
    assert preloads(python, "/other/libiomp5.so", tcmalloc=none) == "/other/libiomp5.so"
    assert preloads(python, "", tcmalloc=(str(malloc),)) == f"{malloc}:{iomp}"
