"""Publishes, promotions, roll backs and deaths under steady load: what failed, who answered, how long it took.

One event loop asks at a steady rate, both arms in turn; a thread publishes, promotes and rolls back meanwhile. Then a
version's process and the server itself are killed. An answer counts as wrong if it comes from a version that was not
routed to its arm when it was asked.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ops.bench.machine import announce
from ops.bench.serving_setup import Bench, arguments_of, percentiles, running
from ops.scoring.client import ScoringClient
from ops.scoring.routes import routes_at_hand
from ops.serving import stubs
from students.publishing.publisher import Publisher
from students.version_folder import student_version

#: Requests so near to a step are near a switch.
NEAR_S = 2.0
CANDIDATES = 16


@dataclass
class Load:
    """What was seen. Times are of the monotonic clock."""

    latencies: list[tuple[float, float]] = field(default_factory=list)
    sources: Counter[str] = field(default_factory=Counter)
    fallbacks: list[tuple[float, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments_of(parser)
    parser.add_argument("--publishes", type=int, default=20)
    parser.add_argument("--rollbacks", type=int, default=5)
    parser.add_argument("--per-second", type=float, default=15, help="requests of 16 candidates")
    parser.add_argument("--quiet-s", type=float, default=5, help="pause between steps")
    parser.add_argument("--deadline-ms", type=float, default=2000)
    arguments = parser.parse_args()
    announce("ops.bench.serving_switches")
    with running(arguments) as bench:
        bench.publish(bench.export("interaction", seed=0))
        # Exporting is the trainer's work, on another machine: not part of the load.
        exported = [bench.export("interaction", seed=seed) for seed in range(1, arguments.publishes + 1)]

        def switch(steps: list[float]) -> None:
            for number, folder in enumerate(exported):
                with contextlib.closing(bench.control()) as control:
                    publisher = Publisher(bench.settings, control)
                    steps.append(time.monotonic())
                    version = publisher.publish(folder).version
                    steps.append(time.monotonic())
                    if number % 2:
                        publisher.promote(version)
                    if number % 4 == 3 and number // 4 < arguments.rollbacks:
                        publisher.roll_back("interaction")
                time.sleep(arguments.quiet_s)

        steps, seen = under_load(bench, switch)
        report(f"{arguments.publishes} publishes", steps, seen)

        def kill_stub(steps: list[float]) -> None:
            time.sleep(arguments.quiet_s)
            champion = routes_at_hand(bench.settings).interaction.champion
            for stub in stubs.running(bench.ready().pid):
                if (stub.model, stub.version) == ("relevance", champion):
                    steps.append(time.monotonic())
                    os.kill(stub.pid, signal.SIGKILL)
            time.sleep(3 * arguments.quiet_s)

        report("the champion's process killed", *under_load(bench, kill_stub))

        def kill_server(steps: list[float]) -> None:
            time.sleep(arguments.quiet_s)
            pid = bench.ready().pid
            steps.append(time.monotonic())
            os.kill(pid, signal.SIGKILL)
            bench.ready(other_than=pid)
            steps.append(time.monotonic())
            time.sleep(arguments.quiet_s)

        report("the server killed", *under_load(bench, kill_server))


def under_load(bench: Bench, work: Callable[[list[float]], None]) -> tuple[list[float], Load]:
    """Run `work` in a thread while requests go on, and return its step times and what the requests saw."""
    steps: list[float] = []
    seen = Load()
    stop = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        working = executor.submit(work, steps)
        working.add_done_callback(lambda _: stop.set())
        asyncio.run(ask(bench, seen, stop))
        working.result()
    return steps, seen


async def ask(bench: Bench, seen: Load, stop: threading.Event) -> None:
    """Send requests at the steady rate until `stop` is set."""
    client = bench.client(lambda: routes_at_hand(bench.settings))
    pending: list[asyncio.Task[None]] = []
    turn, next_s = 0, time.monotonic()
    while not stop.is_set():
        task = asyncio.create_task(one(bench, client, seen, turn))
        pending.append(task)
        turn += 1
        next_s += 1 / bench.arguments.per_second
        await asyncio.sleep(max(0.0, next_s - time.monotonic()))
    ended = await asyncio.gather(*pending, return_exceptions=True)
    seen.errors += [repr(each) for each in ended if each is not None]
    await client.close()


async def one(bench: Bench, client: ScoringClient, seen: Load, turn: int) -> None:
    """Send one request, and note when and by whom it was answered."""
    treatment = bool(turn % 2)
    start = turn * CANDIDATES % (len(bench.candidates) - CANDIDATES)
    before = routes_at_hand(bench.settings).versions(treatment=treatment)[0]
    began_s = time.monotonic()
    found = await client.score(
        bench.queries[turn % len(bench.queries)],
        bench.candidates[start : start + CANDIDATES],
        treatment=treatment,
        deadline_ms=bench.arguments.deadline_ms,
    )
    ended_s = time.monotonic()
    seen.latencies.append((began_s, (ended_s - began_s) * 1000))
    seen.sources[found.source] += 1
    if found.fallback:
        seen.fallbacks.append((ended_s, found.reason))
        return
    # The client takes its routes as it begins: a step at that very moment may come before or after.
    after = routes_at_hand(bench.settings).versions(treatment=treatment)[0]
    if found.student_version not in {student_version("interaction", each) for each in (before, after)}:
        seen.wrong.append(f"{found.student_version} for an arm of {before}")


def report(label: str, steps: list[float], seen: Load) -> None:
    """Print what a phase has shown."""
    near = [ms for at_s, ms in seen.latencies if any(abs(at_s - step) <= NEAR_S for step in steps)]
    far = [ms for at_s, ms in seen.latencies if not any(abs(at_s - step) <= NEAR_S for step in steps)]
    print(f"\n{label}: {len(seen.latencies)} requests of {CANDIDATES}, {dict(seen.sources)}")
    print(
        f"  failed {len(seen.errors)}, by the fallback {len(seen.fallbacks)}, from a wrong version {len(seen.wrong)}"
    )
    for name, latencies in (("near a step", near), ("elsewhere", far)):
        if latencies:
            print(f"  {name:<12} {percentiles(latencies)}")
    if seen.fallbacks:
        first, last = seen.fallbacks[0], seen.fallbacks[-1]
        print(
            f"  the fallback answered for {last[0] - steps[0]:.2f} s after the first step; {first[1][:150]}"
        )
    for problem in (*seen.errors[:3], *seen.wrong[:3]):
        print("  ", problem)


if __name__ == "__main__":
    main()
