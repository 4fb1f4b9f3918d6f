"""A champion's way out: exported as a version, served where a Triton is known, recorded, announced.

The checkpoint comes first, so a crash at any point leaves either nothing to do or a champion without its record,
which is then delivered; what was already done before the crash is found and not done again.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kafka.errors import KafkaError

from ops.clickhouse.publishing import BrokerSilentError
from ops.endpoints import NotRunningError
from ops.serving import address
from ops.serving.connection import Control, TritonError
from ops.settings import Settings
from streams.records import StudentStep
from students.export.export import export_version
from students.export.fidelity import FidelityError, FidelityLimits
from students.incremental import lineage as lineages
from students.incremental.checkpoint import Checkpoint
from students.incremental.golden import Golden
from students.incremental.lineage import Published
from students.publishing.announcing import announce
from students.publishing.ledger import Ledger, route_of
from students.publishing.publisher import Publisher, PublishError
from students.publishing.repository import root_of, versions_of
from students.version_folder import Manifest, VersionError, read_manifest, verify

logger = logging.getLogger(__name__)

#: Pairs that an export's parity and fidelity are measured on.
MOST_PAIRS = 128
AWAY = ("UNAVAILABLE", "DEADLINE_EXCEEDED")


class AwayError(RuntimeError):
    """The server does not answer now; the champion waits."""


@dataclass(frozen=True, slots=True)
class Outbox:
    """What leaves a trainer's folder. `fidelity` None: the export's own limits."""

    settings: Settings
    folder: Path
    golden: Golden
    clock_ms: Callable[[], int]
    fidelity: FidelityLimits | None = None

    def waiting(self, champion: int) -> bool:
        """Tell whether the update that made the champion is still to be delivered. Raises LineageError."""
        if champion == 0:
            return False
        found = lineages.published_of(self.folder, champion)
        # A refused one that is still the champion: the crash came before it was taken back.
        return found is None or found.step == "refused" or (found.step == "exported" and self._triton_known())

    def deliver(self, checkpoint: Checkpoint) -> Published:
        """Export the champion, serve it if a Triton is known, and write down what became of it.

        Raises AwayError while the server does not answer, OSError.
        """
        update = checkpoint.state.champion
        version, step, why = 0, "refused", ""
        try:
            version_folder = self._exported(checkpoint, update)
            version = int(version_folder.name)
            step, why = self._served(version_folder)
        except (FidelityError, PublishError, VersionError) as error:
            why = str(error)
        made = Published(update=update, version=version, step=step, why=why, at_ms=self.clock_ms())
        lineages.write(self.folder, made)
        return made

    def announce(self) -> bool:
        """Send the steps that were not sent yet; tell whether all are."""
        try:
            announce(self.settings, Ledger(root_of(self.settings)))
        except (BrokerSilentError, KafkaError, NotRunningError) as error:
            logger.warning("steps are announced later: %s", str(error).splitlines()[0])
            return False
        return True

    def _exported(self, checkpoint: Checkpoint, update: int) -> Path:
        made = lineages.lineage_of(self.folder, update)
        versions = versions_of(self.settings)
        for path in sorted(versions.glob("[0-9]*"), reverse=True):
            with contextlib.suppress(VersionError):
                found = read_manifest(path)
                if (found.kind, found.offsets) == (made.kind, made.offsets) and found.gate.get(
                    "update"
                ) == float(update):
                    return path
        learned = [(each.example.query, each.example.item_text) for each in checkpoint.state.learned]
        judged = [(pair.query, pair.item_text) for pair in self.golden.pairs]
        began_s = time.monotonic()
        path = export_version(
            checkpoint.champion,
            versions,
            pairs=[*learned[: MOST_PAIRS // 2], *judged][:MOST_PAIRS],
            parent=self._version_of(made.parent),
            offsets=made.offsets,
            gate=made.figures | {"update": float(update)},
            now_ms=self.clock_ms(),
            limits=self.fidelity,
        )
        logger.info("update %d is exported to %s in %.1f s", update, path, time.monotonic() - began_s)
        return path

    def _version_of(self, update: int) -> int:
        if update == 0:
            return self.settings.trainer.start_version
        found = lineages.published_of(self.folder, update)
        return found.version if found else 0

    def _served(self, folder: Path) -> tuple[str, str]:
        manifest = verify(folder)
        decision = f"update {manifest.gate['update']:.0f} passed the gate"
        done = {
            step.step: step.decision
            for step in Ledger(root_of(self.settings)).steps()
            if step.version == manifest.version
        }
        for step in ("published", "refused"):
            if step in done:
                return step, done[step]
        if not self._triton_known():
            if "exported" not in done:
                self._record_export(manifest, decision)
            return "exported", "no Triton is known"
        try:
            with contextlib.closing(Control(self.settings)) as control:
                Publisher(self.settings, control).publish(
                    folder, decision=decision, to_treatment=self.settings.trainer.to_treatment
                )
        except TritonError as error:
            raise AwayError(str(error)) from error
        except PublishError as error:
            if isinstance(error.__cause__, TritonError) and error.__cause__.code in AWAY:
                raise AwayError(str(error)) from error
            raise
        return "published", decision

    def _record_export(self, manifest: Manifest, decision: str) -> None:
        ledger = Ledger(root_of(self.settings))
        with ledger.held():
            steps = ledger.steps()
            route = route_of(steps, manifest.kind)
            ledger.append(
                StudentStep(
                    step_id=len(steps) + 1,
                    step="exported",
                    kind=manifest.kind,
                    version=manifest.version,
                    parent=manifest.parent,
                    offsets=manifest.offsets,
                    gate=manifest.gate,
                    decision=decision,
                    champion=route.champion,
                    challenger=route.challenger,
                    previous=route.previous,
                    pinned=route.pinned,
                    at_ms=self.clock_ms(),
                )
            )

    def _triton_known(self) -> bool:
        try:
            address.grpc_address(self.settings)
        except NotRunningError:
            return False
        return True
