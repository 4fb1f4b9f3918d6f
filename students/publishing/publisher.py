"""Publish, promote, roll back, pin, retire: each is checked, done, and written down as a step.

A version counts as served once its models are loaded, say that they are ready, and score its probes as its export
did. Promoting moves no files: champion and challenger are served side by side, and a step says which arm asks which.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import msgspec

from ops.serving.connection import Control, TritonError
from ops.settings import Settings
from streams.records import StudentStep
from students.publishing import treatment
from students.publishing.configs import models_of
from students.publishing.ledger import Ledger, Route, route_of
from students.publishing.probes import ParityError, check_parity
from students.publishing.repository import Repository, RepositoryError, root_of
from students.version_folder import Kind, Manifest, student_version, verify


class PublishError(RuntimeError):
    """A step cannot be done, and nothing has changed for the arms. The message says why and what to do."""


def now_ms() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A version in the repository. `role` is champion, challenger, previous or idle."""

    kind: Kind
    version: int
    role: str
    published_ms: int


class Publisher:
    """Steps on one repository, through the server that reads it."""

    def __init__(self, settings: Settings, control: Control, *, clock_ms: Callable[[], int] = now_ms) -> None:
        """Open the repository of the settings. `control` speaks to the Triton that serves it."""
        root = root_of(settings)
        self.repository = Repository(root)
        self.ledger = Ledger(root)
        self._settings = settings
        self._control = control
        self._clock_ms = clock_ms

    def publish(self, folder: Path, *, decision: str = "", to_treatment: bool = True) -> StudentStep:
        """Serve an exported version as its kind's challenger, or as champion where there is none yet.

        Unless `to_treatment`, it only waits, loaded, until `treat` makes it the challenger. Raises VersionError,
        PublishError, TritonError. A version that fails its probes is taken out again and its number is burnt.
        """
        manifest = verify(folder)
        serving = self._settings.serving
        with self.ledger.held():
            steps = self.ledger.steps()
            if any(step.version == manifest.version and step.step != "exported" for step in steps):
                raise PublishError(
                    f"version {manifest.version} has been published before; export it under a new number"
                )
            try:
                self.repository.install(
                    folder,
                    manifest,
                    precision=serving.precision,
                    profile=serving.profile,
                    threads=self._settings.triton_server.threads,
                )
                worst = self._serve(manifest)
            except RepositoryError as error:
                raise PublishError(str(error)) from error
            except (TritonError, ParityError) as error:
                self._withdraw(manifest)
                if isinstance(error, ParityError) or error.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                    self._record(steps, "refused", manifest, decision=str(error))
                raise PublishError(f"{manifest.name} is not served: {error}") from error
            route = route_of(steps, manifest.kind)
            if not route.champion:
                route = Route(champion=manifest.version)
            elif to_treatment:
                route = replace(route, challenger=manifest.version)
            gate = manifest.gate | {"served.parity": worst}
            return self._record(steps, "published", manifest, decision=decision, route=route, gate=gate)

    def refuse(self, manifest: Manifest, *, decision: str) -> StudentStep:
        """Write down that a version was not let through, and why."""
        with self.ledger.held():
            return self._record(self.ledger.steps(), "refused", manifest, decision=decision)

    def promote(
        self, version: int, *, pin: bool = False, unpin: bool = False, decision: str = ""
    ) -> StudentStep:
        """Make a served version the champion of its kind. Raises PublishError, TritonError."""
        with self.ledger.held():
            steps = self.ledger.steps()
            published = self._published(steps, version)
            route = self._unpinned(steps, published.kind, unpin=unpin)
            if route.champion == version:
                raise PublishError(f"{student_version(published.kind, version)} is the champion already")
            self._check_served(published)
            challenger = 0 if route.challenger == version else route.challenger
            new = Route(champion=version, challenger=challenger, previous=route.champion, pinned=pin)
            return self._again(steps, "promoted", published, new, decision)

    def roll_back(
        self, kind: str, *, pin: bool = False, unpin: bool = False, decision: str = ""
    ) -> StudentStep:
        """Make the champion before the present one the champion again. Raises PublishError, TritonError."""
        with self.ledger.held():
            steps = self.ledger.steps()
            route = self._unpinned(steps, kind, unpin=unpin)
            if not route.previous:
                raise PublishError(f"{kind}: no champion before {route.champion or 'any'} to go back to")
            published = self._published(steps, route.previous)
            self._check_served(published)
            challenger = 0 if route.challenger == route.previous else route.challenger
            new = Route(route.previous, challenger, self._before(steps, published), pinned=pin)
            return self._again(steps, "rolled_back", published, new, decision)

    def treat(self, version: int, *, decision: str = "") -> StudentStep:
        """Have a served version score the treatment arm; the champion stays. Raises PublishError, TritonError."""
        with self.ledger.held():
            steps = self.ledger.steps()
            published = self._published(steps, version)
            name = student_version(published.kind, version)
            route = route_of(steps, published.kind)
            if version in (route.champion, route.challenger):
                raise PublishError(f"{name} scores an arm already")
            self._check_served(published)
            return self._again(steps, "promoted", published, replace(route, challenger=version), decision)

    def take_off(self, kind: str, *, to_champion: bool = False, decision: str = "") -> StudentStep:
        """Roll the treatment arm back to the version that scored it before, or to the champion's.

        The step names the version that is taken off. Raises PublishError without a challenger, TritonError.
        """
        with self.ledger.held():
            steps = self.ledger.steps()
            route = route_of(steps, kind)
            if not route.challenger:
                raise PublishError(
                    f"{kind}: the champion scores the treatment too, there is nothing to roll back"
                )
            back_to = 0 if to_champion else treatment.before(steps, kind)
            if back_to:
                self._check_served(self._published(steps, back_to))
            taken = self._published(steps, route.challenger)
            return self._again(steps, "rolled_back", taken, replace(route, challenger=back_to), decision)

    def pin(self, kind: str, *, pinned: bool, decision: str = "") -> StudentStep:
        """Keep a kind's champion until it is unpinned, or let go of it. Raises PublishError without a champion."""
        with self.ledger.held():
            steps = self.ledger.steps()
            route = route_of(steps, kind)
            if not route.champion:
                raise PublishError(f"{kind}: no champion to pin")
            step = "pinned" if pinned else "unpinned"
            champion = self._published(steps, route.champion)
            return self._again(steps, step, champion, replace(route, pinned=pinned), decision)

    def retire_due(self, *, wait: bool = True) -> list[StudentStep]:
        """Unload and remove the versions that no arm has used for `serving.retire_after_s`, and return the steps.

        What an arm would be rolled back to stays, so that it takes no loading. Raises TritonError, and
        BlockingIOError if another step is under way and `wait` is false.
        """
        due_ms = self._clock_ms() - self._settings.serving.retire_after_s * 1000
        retired = []
        with self.ledger.held(wait=wait):
            for served in self.listed():
                steps = self.ledger.steps()
                if served.role != "idle" or _idle_since_ms(steps, served) > due_ms:
                    continue
                published = self._published(steps, served.version)
                self._take_out(served.kind, served.version)
                route = route_of(steps, served.kind)
                decision = f"unused for {self._settings.serving.retire_after_s:g} s"
                retired.append(self._again(steps, "retired", published, route, decision))
        return retired

    def listed(self) -> list[ServedVersion]:
        """Return what the repository holds and which part each version has."""
        steps = self.ledger.steps()
        lying = {version for numbers in self.repository.served().values() for version in numbers}
        found = []
        for step in steps:
            if step.step == "published" and step.version in lying:
                route = route_of(steps, step.kind)
                roles = {
                    treatment.before(steps, step.kind): "previous",
                    route.previous: "previous",
                    route.challenger: "challenger",
                    route.champion: "champion",
                }
                kind: Kind = "interaction" if step.kind == "interaction" else "representation"
                found.append(ServedVersion(kind, step.version, roles.get(step.version, "idle"), step.at_ms))
        return found

    def _serve(self, manifest: Manifest) -> float:
        models = models_of(manifest.kind)
        for model in models:
            self._control.load(model)
        for model in models:
            if not self._control.ready(model, manifest.version):
                raise ParityError(f"{model} does not say that version {manifest.version} is ready")
        serving = self._settings.serving
        return check_parity(self._control, manifest, precision=serving.precision, tolerance=serving.parity)

    def _withdraw(self, manifest: Manifest) -> None:
        self.repository.remove(manifest.version, models_of(manifest.kind))
        for model in reversed(models_of(manifest.kind)):
            try:
                self._control.load(model)
            except TritonError:
                # Without versions left there is nothing to load; a server that is away has nothing loaded.
                continue

    def _take_out(self, kind: Kind, version: int) -> None:
        # Texts before graphs, so that none asks a graph that has gone.
        for model in reversed(models_of(kind)):
            self.repository.remove(version, [model])
            self._control.load(model)

    def _check_served(self, published: StudentStep) -> None:
        kind: Kind = "interaction" if published.kind == "interaction" else "representation"
        name = student_version(kind, published.version)
        for model in models_of(kind):
            if not self._control.ready(model, published.version):
                raise PublishError(
                    f"{name} is not served by {model}: it may be retired; publish a new version"
                )

    def _before(self, steps: list[StudentStep], champion: StudentStep) -> int:
        """Return the champion before the one that a roll back returns to, 0 if it is no longer served."""
        made = [
            step for step in steps if step.champion == champion.version and step.version == champion.version
        ]
        lying = {served.version for served in self.listed()}
        return made[0].previous if made and made[0].previous in lying else 0

    @staticmethod
    def _published(steps: list[StudentStep], version: int) -> StudentStep:
        for step in steps:
            if step.step == "published" and step.version == version:
                return step
        raise PublishError(
            f"version {version} has not been published; `relevance students list` shows those that were"
        )

    @staticmethod
    def _unpinned(steps: list[StudentStep], kind: str, *, unpin: bool) -> Route:
        route = route_of(steps, kind)
        if route.pinned and not unpin:
            raise PublishError(
                f"{student_version(kind, route.champion)} is pinned: give --unpin to let go of it"
            )
        return route

    def _record(
        self,
        steps: list[StudentStep],
        step: str,
        manifest: Manifest,
        *,
        decision: str,
        route: Route | None = None,
        gate: Mapping[str, float] | None = None,
    ) -> StudentStep:
        route = route or route_of(steps, manifest.kind)
        made = StudentStep(
            step_id=len(steps) + 1,
            step=step,
            kind=manifest.kind,
            version=manifest.version,
            parent=manifest.parent,
            offsets=manifest.offsets,
            gate=dict(manifest.gate if gate is None else gate),
            decision=decision,
            champion=route.champion,
            challenger=route.challenger,
            previous=route.previous,
            pinned=route.pinned,
            at_ms=self._clock_ms(),
        )
        self.ledger.append(made)
        return made

    def _again(
        self, steps: list[StudentStep], step: str, published: StudentStep, route: Route, decision: str
    ) -> StudentStep:
        made = msgspec.structs.replace(
            published,
            step_id=len(steps) + 1,
            step=step,
            decision=decision,
            champion=route.champion,
            challenger=route.challenger,
            previous=route.previous,
            pinned=route.pinned,
            at_ms=self._clock_ms(),
        )
        self.ledger.append(made)
        return made


def _idle_since_ms(steps: list[StudentStep], served: ServedVersion) -> int:
    """Return when a version that is idle lost its last part."""
    since_ms = served.published_ms
    of_kind = [step for step in steps if step.kind == served.kind]
    for before, after in pairwise(of_kind):
        if served.version in (before.champion, before.challenger, before.previous):
            since_ms = after.at_ms
    return since_ms
