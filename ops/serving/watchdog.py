"""Loads again what has died or hangs inside a Triton that says it is well.

A process of a version that ends is seen within `LOOK_EVERY_S`: it has fewer than it had. One that hangs is seen by
questions it leaves unanswered. Only the version concerned is loaded anew: the others of its model go on serving.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable

import numpy as np

from ops.serving import stubs
from ops.serving.connection import Control, TritonError, texts
from ops.serving.stubs import Stub
from students.publishing.configs import models_of
from students.publishing.repository import Repository
from students.version_folder import GRAPHS

LOOK_EVERY_S = 0.5
ANSWERS_WITHIN_S = 5.0
#: So many unanswered questions in a row, and a version hangs.
HANGS_AFTER = 3
#: Errors of a server that is busy, not broken.
BUSY = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "NOT_FOUND", "CANCELLED")


class Watchdog:
    """Watches the models of one server. `counters` has `reloads`, `hangs` and `failed_reloads`."""

    def __init__(
        self,
        control: Control,
        repository: Repository,
        *,
        server_pid: int,
        probe_every_s: float,
        say: Callable[[str], None],
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._control = control
        self._repository = repository
        self._server_pid = server_pid
        self._probe_every_s = probe_every_s
        self._say = say
        #: How many processes each version that is served has had.
        self._known: Counter[tuple[str, int]] = Counter()
        self._unanswered: Counter[tuple[str, int]] = Counter()
        self._probe_at_s = 0.0

    def look(self, now_s: float) -> None:
        """Look once: load again what has died, and ask what is served something if it is time to."""
        running = stubs.running(self._server_pid)
        alive = Counter((stub.model, stub.version) for stub in running)
        lying = {(model, each) for model, versions in self._repository.served().items() for each in versions}
        died = [key for key, count in self._known.items() if key in lying and alive[key] < count]
        self._known = Counter({key: count for key, count in (self._known | alive).items() if key in lying})
        for model, version in sorted(died):
            self._reload(model, version)
        if now_s >= self._probe_at_s:
            self._probe_at_s = now_s + self._probe_every_s
            for model, version in sorted(alive.keys() & lying):
                self._ask(model, version, running)

    def _reload(self, model: str, version: int) -> None:
        self._repository.touch(model, version)
        try:
            self._control.load(model)
        except TritonError as error:
            # The next look tries again.
            self.counters["failed_reloads"] += 1
            self._say(f"{model} {version} had died and cannot be loaded yet: {error}")
            return
        self.counters["reloads"] += 1
        self._say(f"{model} {version} had died and is loaded again")

    def _ask(self, model: str, version: int, running: list[Stub]) -> None:
        if model not in QUESTIONS:
            return
        question = QUESTIONS[model](version)
        try:
            self._control.infer(model, version, question, timeout_s=ANSWERS_WITHIN_S)
        except TritonError as error:
            # Vectors of a wrong length are refused by a model that is well.
            if error.code in (*BUSY, "INVALID_ARGUMENT"):
                return
            self._unanswered[model, version] += 1
        else:
            del self._unanswered[model, version]
            return
        if self._unanswered[model, version] < HANGS_AFTER:
            return
        del self._unanswered[model, version]
        self.counters["hangs"] += 1
        suspects = {model, *(graph for kind in GRAPHS if model in models_of(kind) for graph in GRAPHS[kind])}
        self._say(f"{model} {version} does not answer: its processes are ended")
        for stub in running:
            if stub.version == version and stub.model in suspects:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(stub.pid, signal.SIGKILL)


def _pair(version: int) -> dict[str, np.ndarray]:
    return {"QUERY": texts([[""]]), "ITEM_TEXT": texts([[""]])}


#: What a model is asked to see whether it answers; the graphs answer through these.
QUESTIONS: dict[str, Callable[[int], dict[str, np.ndarray]]] = {
    "relevance": _pair,
    "relevance_explained": _pair,
    "query_tower": lambda version: {"QUERY": texts([[""]])},
    "item_tower": lambda version: {"ITEM_TEXT": texts([[""]])},
}
