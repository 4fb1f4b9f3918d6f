"""Annotating with two real vLLM servers: one is killed and restarted midway, then the command is killed and resumed.

    python -m ops.bench.teacher_annotation [--pairs 500] [--samples 2] [--model tuned=FOLDER --model base=FOLDER]

Without `--model` the annotators are the project's small teacher and the same model as it comes, other weights of one
family; any two model folders that vLLM loads, each with a chat template, can take their place. Pairs are those of
generated shops, their grades stand for people's. Checked: every (pair, annotator, sample) is recorded once, what was
recorded when the command was killed is unchanged afterwards, and every pair is accounted for.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from ops.bench.machine import announce
from ops.settings import load
from ops.shop.training_examples import shop_examples
from teacher.examples import save
from teacher.serving.command import server_command, server_environment
from teacher.serving.environment import ensure_environment
from teacher.serving.weights import DEFAULT_ADAPTER, ensure_weights

START_WITHIN_S = 600.0
POLL_S = 0.5
#: Shares of all answers at which the server and the command are killed.
KILL_SERVER_AT = 0.2
KILL_COMMAND_AT = 0.6
CONCURRENCY = 16
SEED = 90


class Server:
    """One vLLM, in a process group of its own so that its engine dies with it."""

    def __init__(self, name: str, model: str, *, python: Path, port: int, folder: Path) -> None:
        settings = load()
        teacher = settings.teacher.model_copy(update={"model": f"{name}-model"})
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self._settings = settings.model_copy(update={"teacher": teacher})
        self._command = server_command(self._settings, python=python, model=model, port=port)
        self._environment = server_environment(
            self._settings, python=python, model=model, inherited=os.environ
        )
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def option(self) -> str:
        return f"{self.name}={self.url}/v1#{self._settings.teacher.model}"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> float:
        """Return the seconds until it answers."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < START_WITHIN_S:
            if self._process is None or self._process.poll() is not None:
                raise SystemExit(f"{self.name} ended: see {self._log}")
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(f"{self.url}/health", timeout=5).close()
                return time.monotonic() - began_s
            time.sleep(POLL_S)
        raise SystemExit(f"{self.name} did not answer within {START_WITHIN_S:g} s: see {self._log}")

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def answered(self) -> int:
        """Return how many requests this process has answered, probes among them."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return round(
            sum(
                float(line.rsplit(" ", 1)[1])
                for line in lines
                if line.startswith("vllm:request_success_total")
            )
        )


def rows(ledger: Path) -> dict[tuple[str, str, int], str]:
    """Return every recorded answer by pair, annotator and sample."""
    if not ledger.exists():
        return {}
    with contextlib.closing(sqlite3.connect(ledger, timeout=30)) as database:
        try:
            found = database.execute(
                "SELECT pair, annotator, sample, coalesce(judgement, refusal) FROM answers"
            ).fetchall()
        except sqlite3.OperationalError:
            return {}
    return {(pair, annotator, sample): answer for pair, annotator, sample, answer in found}


def start_command(folder: Path, options: list[str]) -> subprocess.Popen[bytes]:
    """Start `relevance teacher annotate` on the pairs in `folder`."""
    arguments = ["teacher", "annotate", str(folder / "pairs.jsonl"), "--out", str(folder / "out"), *options]
    return subprocess.Popen(
        [sys.executable, "-m", "ops.cli.main", "--run-dir", str(folder / "run"), *arguments],
        env=os.environ | {"RELEVANCE_TEACHER__CONCURRENCY": str(CONCURRENCY)},
    )


def wait_for(true: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until something holds while the command runs; end the script if the command ends before."""
    while not true():
        if process.poll() is not None:
            raise SystemExit(f"the command ended too early, with {process.returncode}")
        time.sleep(POLL_S)


@contextlib.contextmanager
def running(servers: list[Server]) -> Iterator[None]:
    """Start the servers one after the other, and kill them at the end."""
    try:
        for server in servers:
            server.start()
            print(f"{server.name} answers after {server.wait():.0f} s", flush=True)
        yield
    finally:
        for server in servers:
            server.kill()


@click.command()
@click.option("--pairs", default=500, show_default=True)
@click.option("--samples", default=2, show_default=True)
@click.option("--model", "models", multiple=True, help="NAME=FOLDER, twice.")
@click.option(
    "--port", default=18030, show_default=True, help="Of the first server; the second has the next."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Where all of it lies [a temporary folder].")
def main(*, pairs: int, samples: int, models: tuple[str, ...], port: int, folder: Path | None) -> None:
    """Run it and print the figures."""
    announce("ops.bench.teacher_annotation")
    settings = load()
    python = ensure_environment(settings.teacher_server, say=print)
    named = dict(model.split("=", 1) for model in models) or {
        "tuned": str(ensure_weights(python, adapter=DEFAULT_ADAPTER, say=print)),
        "base": str(ensure_weights(python, adapter=None, say=print)),
    }
    if len(named) != 2:
        raise click.UsageError("expected --model NAME=FOLDER twice, or not at all")
    work = (folder or Path(tempfile.mkdtemp(prefix="annotation-"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    print("folder:", work)
    # A pair drawn twice has one identity, and is asked about once.
    drawn = {(each.query, each.item_text): each for each in shop_examples(2 * pairs, seed=SEED)}
    save(work / "pairs.jsonl", list(drawn.values())[:pairs])
    servers = [
        Server(name, model, python=python, port=port + number, folder=work)
        for number, (name, model) in enumerate(named.items())
    ]
    options = [part for server in servers for part in ("--annotator", server.option)]
    with running(servers):
        _annotate_with_kills(
            work, servers, [*options, "--samples", str(samples)], pairs=pairs, samples=samples
        )


def _annotate_with_kills(
    work: Path, servers: list[Server], options: list[str], *, pairs: int, samples: int
) -> None:
    ledger, total = work / "out" / "ledger.sqlite3", pairs * samples * len(servers)
    victim = servers[0]
    began_s = time.monotonic()
    first = start_command(work, options)
    wait_for(lambda: len(rows(ledger)) >= KILL_SERVER_AT * total, first)
    answered = [victim.answered()]
    victim.kill()
    print(f"killed the server {victim.name} at {len(rows(ledger))} of {total} answers", flush=True)
    victim.start()
    print(f"it answers again after {victim.wait():.0f} s, at {len(rows(ledger))} answers", flush=True)
    wait_for(lambda: len(rows(ledger)) >= KILL_COMMAND_AT * total, first)
    first.kill()
    first.wait()
    at_kill = rows(ledger)
    print(f"killed the command at {len(at_kill)} answers", flush=True)
    second = start_command(work, options)
    if second.wait():
        raise SystemExit(f"the resumed command failed with {second.returncode}")
    took_s = time.monotonic() - began_s
    answered += [server.answered() for server in servers]
    final = rows(ledger)
    account = json.loads((work / "out" / "account.json").read_text())
    settled = sum(sum(account[outcome].values()) for outcome in ("kept", "dropped", "review"))
    print(f"{len(final)} of {total} answers recorded, in {took_s:.0f} s with both kills")
    print(
        f"the servers answered {sum(answered)} requests, {total} of them needed; the rest is probes, what was"
    )
    print("in flight at a kill, and less what the killed server answered after it was last read")
    checks = {
        "every answer recorded once": len(final) == total,
        "what was recorded at the kill is unchanged": all(final[key] == at_kill[key] for key in at_kill),
        "every pair accounted for": settled == account["pairs"] == pairs and account["unanswered"] == 0,
    }
    for what, holds in checks.items():
        print(f"{'yes' if holds else 'NO '}  {what}")
    if not all(checks.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
