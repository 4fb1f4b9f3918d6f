"""Judgements per second of the teacher on vLLM beside plain transformers: same model, prompts and machine, one run.

    python -m ops.bench.teacher_throughput [--pairs N] [--single N] [--plain N] [--batches B ...] [--base]

Pairs come from the demo's shop, ordered by query, each asked once per way, so that no answer profits from an
earlier one of the same pair. The share of cached prompt tokens is vLLM's own count; memory is resident, shared pages
counted once. VLLM_* variables reach the server, such as VLLM_CPU_OMP_THREADS_BIND=0-1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.bench.machine import announce
from ops.servers import processes
from ops.servers.steps import ROOT
from ops.settings import Settings, load
from ops.shop.judged_pairs import JudgedPair, shop_pairs
from ops.stack.ports import free_port
from streams.records import Judgement
from teacher.client import TeacherClient
from teacher.judging import Judge
from teacher.parsing import Chain, Refusal, parse
from teacher.policy import Policy, configured
from teacher.prompt import Mode, messages
from teacher.serving import address
from teacher.serving.environment import ensure_environment, project_environment
from teacher.serving.weights import model_to_serve

PER_QUERY = 8
GIVE_UP_S = 3600
RATIO_AIM = 3.0
HITS_AIM = 0.8


@dataclass(frozen=True, slots=True)
class Figures:
    """One way of judging, measured. `readable` answers of `pairs` were judgements; `hits` is a share or None."""

    name: str
    pairs: int
    readable: int
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    hits: float | None = None

    @property
    def per_s(self) -> float:
        """Return the pairs answered per second."""
        return self.pairs / self.seconds

    def line(self) -> str:
        """Return the row to print."""
        hits = "" if self.hits is None else f"  {self.hits:6.1%} of prompt tokens cached"
        return (
            f"{self.name:32s} {self.per_s:7.2f} pairs/s  {self.completion_tokens / self.seconds:6.0f} tokens/s"
            f"  {self.prompt_tokens / self.pairs:5.0f} + {self.completion_tokens / self.pairs:4.1f} tokens a pair"
            f"  {self.readable} of {self.pairs} readable{hits}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=256, help="asked of vLLM, many at a time")
    parser.add_argument("--single", type=int, default=16, help="asked one at a time, of both")
    parser.add_argument(
        "--plain", type=int, default=48, help="of the pairs, asked of transformers in batches"
    )
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--batches", type=int, nargs="*", default=[8, 16])
    parser.add_argument("--base", action="store_true", help="the small model without the project's adapter")
    arguments = parser.parse_args()
    announce("ops.bench.teacher_throughput")
    wanted = arguments.pairs + arguments.single
    found = shop_pairs(sampled_queries=-(-wanted // PER_QUERY), per_query=PER_QUERY)[:wanted]
    single, pairs = found[: arguments.single], found[arguments.single :]
    with tempfile.TemporaryDirectory() as folder:
        settings = load(os.environ | {"RELEVANCE_RUN_DIR": folder, "RELEVANCE_TEACHER_URL": ""})
        with served(settings, base=arguments.base) as url:
            many = asked(url, settings, Mode.CHAIN, pairs, concurrency=arguments.concurrency)
            asked(url, settings, Mode.SCORE, pairs, concurrency=arguments.concurrency)
            one = asked(url, settings, Mode.CHAIN, single, concurrency=1)
            print(f"vLLM's processes: {server_memory_mb(settings):,.0f} MB", flush=True)
        python = ensure_environment(settings.teacher_server, say=print)
        server = settings.teacher_server.model_copy(update={"base": arguments.base})
        model = model_to_serve(server, python, say=print)
    plain_one = plain(python, model, settings, single, batch=1)
    plain_many = [
        plain(python, model, settings, pairs[: arguments.plain], batch=size) for size in arguments.batches
    ]
    best = max((each.per_s for each in [*plain_many, plain_one]), default=plain_one.per_s)
    print(f"one at a time, vLLM / transformers: {one.per_s / plain_one.per_s:.2f}")
    print(f"vLLM / the best of transformers: {many.per_s / best:.2f} (aim: at least {RATIO_AIM:g})")
    print(f"prompt tokens from the prefix cache: {many.hits or 0:.1%} (aim: at least {HITS_AIM:.0%})")


@contextmanager
def served(settings: Settings, *, base: bool) -> Iterator[str]:
    """Start the teacher's server as a user does; yield its base URL."""
    port = free_port(settings.teacher_server.port)
    command = [sys.executable, "-m", "ops.cli.main", "--run-dir", str(settings.run_dir), "teacher", "serve"]
    command += ["--port", str(port), *(["--base"] if base else [])]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        until_s = time.monotonic() + GIVE_UP_S
        while (found := address.read(settings.run_dir)) is None:
            if process.poll() is not None or time.monotonic() > until_s:
                raise SystemExit("the teacher's server did not start, see above")
            time.sleep(0.5)
        yield found.url
    finally:
        process.terminate()
        process.wait(timeout=60)


def asked(
    url: str, settings: Settings, mode: Mode, pairs: Sequence[JudgedPair], *, concurrency: int
) -> Figures:
    """Judge the pairs at vLLM; print and return the figures."""
    teacher = settings.teacher

    async def judge() -> list[Judgement | Refusal]:
        client = TeacherClient(
            [url],
            model=teacher.model,
            api_key=teacher.api_key.get_secret_value(),
            concurrency=concurrency,
            timeout_s=GIVE_UP_S,
        )
        async with client:
            judging = Judge(
                client,
                policy=configured(teacher),
                mode=mode,
                teacher_id="bench",
                max_tokens=teacher.max_tokens,
                temperature=teacher.temperature,
            )
            return await judging.judge_all(pairs)

    before = prefix_cache(url)
    began_s = time.perf_counter()
    results = asyncio.run(judge())
    seconds = time.perf_counter() - began_s
    after = prefix_cache(url)
    figures = Figures(
        name=f"vLLM {mode}, {concurrency} at a time",
        pairs=len(results),
        readable=sum(isinstance(result, Judgement) for result in results),
        seconds=seconds,
        prompt_tokens=sum(result.prompt_tokens for result in results),
        completion_tokens=sum(result.completion_tokens for result in results),
        hits=(after[0] - before[0]) / max(1.0, after[1] - before[1]),
    )
    print(figures.line(), flush=True)
    return figures


def prefix_cache(url: str) -> tuple[float, float]:
    """Return vLLM's counts of prompt tokens found in the prefix cache, and of those looked for."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url.removesuffix("/v1") + "/metrics", timeout=30) as response:
        text = response.read().decode()
    return counter(text, "vllm:prefix_cache_hits_total"), counter(text, "vllm:prefix_cache_queries_total")


def counter(text: str, name: str) -> float:
    """Return the sum of a counter over its labels in Prometheus' text form. Raises ValueError if it is missing.

    >>> counter('# TYPE a_total counter\\na_total{engine="0"} 3.0\\na_total{engine="1"} 4.0', "a_total")
    7.0
    """
    found = re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
    if not found:
        raise ValueError(f"expected the counter {name} among the server's metrics, it is not there")
    return sum(map(float, found))


def server_memory_mb(settings: Settings) -> float:
    """Return the resident memory of all of vLLM's processes."""
    found = address.read(settings.run_dir)
    return processes.resident_mb(found.pid) if found else 0.0


def plain(
    python: Path, model: str, settings: Settings, pairs: Sequence[JudgedPair], *, batch: int
) -> Figures:
    """Let transformers write chains for the pairs; print and return the figures."""
    policy = configured(settings.teacher)
    given = {
        "model": model,
        "chats": [messages(policy, Mode.CHAIN, pair.query, pair.item_text) for pair in pairs],
        "batch": batch,
        "max_new_tokens": settings.teacher.max_tokens,
    }
    done = subprocess.run(
        [str(python), "-m", "ops.bench.plain_generation"],
        cwd=ROOT,
        env=project_environment(),
        input=json.dumps(given),
        stdout=subprocess.PIPE,
        text=True,
        timeout=GIVE_UP_S,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    figures = Figures(
        name=f"transformers chain, batch {batch}",
        pairs=len(pairs),
        readable=readable(policy, pairs, told["answers"]),
        seconds=told["seconds"],
        prompt_tokens=told["prompt_tokens"],
        completion_tokens=told["completion_tokens"],
    )
    print(f"{figures.line()}  {told['pss_mb']:,.0f} MB", flush=True)
    return figures


def readable(policy: Policy, pairs: Sequence[JudgedPair], answers: Sequence[str]) -> int:
    """Return how many answers are chains."""
    read = (
        parse(answer, policy=policy, query=pair.query, item_text=pair.item_text)
        for pair, answer in zip(pairs, answers, strict=True)
    )
    return sum(isinstance(each, Chain) for each in read)


if __name__ == "__main__":
    main()
