"""Triton beside bare onnxruntime on the same graph, latency by number of candidates, the cascade, and parity.

Both sides of a ratio take turns in one process, with the same threads and callers. Token batches go to the graph's
own model, so that nothing but the server is between; then texts go through the client, as an ad engine's would.
`--perf-analyzer` names Triton's own tool, whose figures are then printed beside ours.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec
import numpy as np
import onnxruntime

from ops.bench.machine import announce
from ops.bench.serving_setup import Bench, arguments_of, percentiles, running
from ops.scoring import item_vectors
from ops.scoring.client import Candidate, Scored, ScoringClient
from ops.scoring.routes import Routes, routes_at_hand
from students.export.graph_session import GraphSession
from students.export.onnx_student import PAIR_INPUTS, OnnxStudent
from students.publishing.ledger import Route
from students.publishing.probes import served_scores
from students.publishing.repository import versions_of
from students.tokenisation import Inputs
from students.version_folder import GRAPHS, graph_file, path_of, read_manifest

LENGTH = 64
#: At once, for throughput: one request is on its way while another one is scored.
CALLERS = 2
#: perf_analyzer measures until three windows differ by no more; machines are shared.
STABLE_PERCENT = 50
#: Calls in a row of one kind.
SLICE = 10
SCORED_WITHIN_MS = 60_000.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments_of(parser)
    parser.add_argument("--rounds", type=int, default=60, help="calls of each kind")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8, 32, 64])
    parser.add_argument("--cascade", type=int, nargs="*", default=[200, 1000])
    parser.add_argument(
        "--best", type=int, nargs="*", default=[16, 24, 50], help="of them go to the interaction"
    )
    parser.add_argument("--perf-analyzer", help="path of the tool, from the tritonclient wheel 2.50.0")
    arguments = parser.parse_args()
    announce("ops.bench.serving_latency")
    with running(arguments) as bench:
        interaction = bench.publish(bench.export("interaction", seed=1))
        towers = bench.export("representation", seed=2)
        began_s = time.monotonic()
        table = item_vectors.compute(
            towers,
            [(each.item_id, each.text) for each in bench.candidates],
            precision=arguments.precision,
            threads=arguments.threads,
        )
        print(f"item vectors: {len(table.item_ids) / (time.monotonic() - began_s):.0f} a second")
        item_vectors.save(table, towers)
        representation = bench.publish(towers)
        beside_onnxruntime(bench, interaction)
        asyncio.run(by_candidates(bench, interaction, representation))
        parity(bench, interaction, representation)
        if arguments.perf_analyzer:
            perf_analyzer(bench, arguments.perf_analyzer)


def beside_onnxruntime(bench: Bench, version: int) -> None:
    """Print throughput and latency of three for each batch size: onnxruntime with the whole batch, onnxruntime with
    one part of it a thread, Triton; and what Triton is beside the faster of both."""
    arguments = bench.arguments
    folder = path_of(versions_of(bench.settings), version)
    path = folder / graph_file(GRAPHS["interaction"]["interaction"], arguments.precision)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    # Its threads would spin on, in the time of the other two.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    whole = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    parts = GraphSession(path, threads=arguments.threads)
    outputs = ["grade_logits"]
    print(
        f"\npairs/s of length {LENGTH}, {arguments.layers} layers {arguments.precision}, {CALLERS} callers, medians:"
        " onnxruntime whole, in parts, Triton"
    )
    with contextlib.closing(bench.control()) as control:
        for size in arguments.batches:
            batch = _tokens(size)
            arrays = {name: getattr(batch, name) for name in PAIR_INPUTS}
            calls = (
                partial(whole.run, outputs, arrays),
                partial(parts.run, arrays, outputs),
                partial(control.infer, "interaction", version, arrays, outputs=outputs),
            )
            alone_ms = [np.median(each) for each in _in_turn(*calls, rounds=arguments.rounds, at_once=1)]
            both_ms = [np.median(each) for each in _in_turn(*calls, rounds=arguments.rounds, at_once=CALLERS)]
            rates = [CALLERS * size * 1000 / each for each in both_ms]
            print(
                f"batch {size:3d}  whole {rates[0]:6.0f}  parts {rates[1]:6.0f}  Triton {rates[2]:6.0f}"
                f"  ratio {rates[2] / max(rates[:2]):.3f}; one caller, ms: whole {alone_ms[0]:6.2f}"
                f"  parts {alone_ms[1]:6.2f}  Triton {alone_ms[2]:6.2f} ({alone_ms[2] - min(alone_ms[:2]):+.2f})"
            )
    parts.close()


async def by_candidates(bench: Bench, interaction: int, representation: int) -> None:
    """Print the client's latency: by the interaction student alone, by the cascade, and what repetition brings."""
    arguments = bench.arguments
    pick = np.random.default_rng(1)

    def some(count: int) -> list[Candidate]:
        return [bench.candidates[place] for place in pick.choice(len(bench.candidates), count, replace=False)]

    async def timed(
        label: str, asked: ScoringClient, count: int, *, queries: Sequence[str], same: bool = False
    ) -> None:
        fixed, latencies, sources = some(count), [], set()
        for turn in range(arguments.rounds):
            candidates = fixed if same else some(count)
            began_s = time.perf_counter()
            found: Scored = await asked.score(
                queries[turn % len(queries)], candidates, deadline_ms=SCORED_WITHIN_MS
            )
            latencies.append((time.perf_counter() - began_s) * 1000)
            sources.add(found.source)
        print(f"{label:<44} {percentiles(latencies)}  by {', '.join(sorted(sources))}")

    print("\nlatency of the client, text in, score out")
    alone = bench.client(lambda: Routes(interaction=Route(champion=interaction)))
    # Read once: an ad engine follows the routes, it does not look them up for each query.
    served = routes_at_hand(bench.settings)
    both = {best: bench.client(lambda: served, best=best) for best in arguments.best}
    towers = bench.client(lambda: Routes(representation=Route(champion=representation)))
    try:
        for count in arguments.batches:
            if count <= bench.settings.scoring.interaction_candidates:
                await timed(f"interaction, {count} new pairs", alone, count, queries=bench.queries)
        for count in (each for each in arguments.cascade if each <= len(bench.candidates)):
            await timed(f"towers, {count} candidates, new query", towers, count, queries=bench.queries[:400])
            await timed(f"towers, {count} candidates, query seen", towers, count, queries=bench.queries[:1])
            for best, asked in both.items():
                label = f"cascade, {count} candidates, best {best}"
                await timed(f"{label}, new query", asked, count, queries=bench.queries[::-1])
                await timed(f"{label}, pairs seen", asked, count, queries=bench.queries[:1], same=True)
        print("counters:", {best: dict(asked.counters) for best, asked in both.items()})
    finally:
        for each in (alone, towers, *both.values()):
            await each.close()


def parity(bench: Bench, *versions: int) -> None:
    """Print the largest difference between torch, onnxruntime, Triton and the client over the same pairs."""
    arguments = bench.arguments
    print("\nparity: largest difference of a score over the version's probes")
    with contextlib.closing(bench.control()) as control:
        for version in versions:
            folder = path_of(versions_of(bench.settings), version)
            manifest = read_manifest(folder)
            pairs = [(each.query, each.item_text) for each in manifest.probes]
            served = np.array(served_scores(control, manifest, pairs))
            bare = OnnxStudent.open(folder, precision=arguments.precision, threads=arguments.threads)
            alone = np.array([float(bare.scores([query], [item])[0]) for query, item in pairs])
            exported = np.array([each.scores[arguments.precision] for each in manifest.probes])
            print(
                f"{manifest.name}  fp32 onnxruntime - torch {manifest.fidelity['torch.largest_error']:.2g}"
                f"  Triton - onnxruntime, one pair each {np.abs(served - alone).max():.2g}"
                f"  Triton - export, pairs together {np.abs(served - exported).max():.2g}"
            )
            if manifest.kind == "interaction":
                asked = np.array(asyncio.run(by_client(bench, version, pairs)))
                print(f"{manifest.name}  client - Triton, one pair each {np.abs(asked - served).max():.2g}")


async def by_client(bench: Bench, version: int, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Return the client's scores, pair by pair."""
    client = bench.client(lambda: Routes(interaction=Route(champion=version)))
    found = [
        (await client.score(query, [Candidate("item", text)], deadline_ms=SCORED_WITHIN_MS)).scores[0]
        for query, text in pairs
    ]
    await client.close()
    return found


def perf_analyzer(bench: Bench, tool: str) -> None:
    """Print Triton's own tool's figures on the graph; tokens are ours, for its random ones are out of bounds."""
    address = bench.ready().grpc
    batch = _tokens(1)
    columns = {name: getattr(batch, name)[0].tolist() for name in PAIR_INPUTS}
    data = {"data": [{name: {"content": found, "shape": [LENGTH]} for name, found in columns.items()}]}
    file = bench.settings.run_dir / "perf-analyzer.json"
    file.write_bytes(msgspec.json.encode(data))
    for size in bench.arguments.batches:
        print(f"\nperf_analyzer, batch {size}", flush=True)
        given = ["-m", "interaction", "-i", "grpc", "-u", address, "-b", str(size), "--input-data", str(file)]
        given += ["--concurrency-range", str(CALLERS), "--stability-percentage", str(STABLE_PERCENT)]
        told = subprocess.run([tool, *given], check=False, capture_output=True, text=True)
        if told.returncode:
            raise RuntimeError(f"{tool} ended with {told.returncode}: {told.stdout}{told.stderr}")
        # Its report is long: of it what can be set beside ours: throughput, and latency by percentile.
        wanted = ("Throughput:", "p50 latency:", "p99 latency:")
        print("\n".join(line for line in told.stdout.splitlines() if line.strip().startswith(wanted)))


def _tokens(size: int) -> Inputs:
    """Return a batch of `size` rows of `LENGTH` tokens, none of them padding."""
    rng = np.random.default_rng(0)
    return Inputs(
        input_ids=rng.integers(1000, 20_000, (size, LENGTH)),
        attention_mask=np.ones((size, LENGTH), dtype=np.int64),
        token_type_ids=np.zeros((size, LENGTH), dtype=np.int64),
    )


def _in_turn(*calls: Callable[[], object], rounds: int, at_once: int) -> list[list[float]]:
    """Return the milliseconds that a call took, each kind's calls in slices that take turns; `at_once` callers."""
    times: list[list[float]] = [[] for _ in calls]

    def asks(call: Callable[[], object], kept: list[float]) -> None:
        for _ in range(SLICE):
            began_s = time.perf_counter()
            call()
            kept.append((time.perf_counter() - began_s) * 1000)

    with ThreadPoolExecutor(at_once) as callers:
        for turn in range(1 + rounds // SLICE):
            for kept, call in zip(times, calls, strict=True):
                # The first slice is for warming up.
                into: list[float] = kept if turn else []
                list(callers.map(lambda _, call=call, into=into: asks(call, into), range(at_once)))
    return times


if __name__ == "__main__":
    main()
