"""What the commands that change who is served share: the server, the steps' announcement, and the errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from kafka.errors import KafkaError

from ops.cli.context import CommandError, Context
from ops.clickhouse.publishing import BrokerSilentError
from ops.endpoints import NotRunningError
from ops.serving.connection import Control, TritonError
from ops.settings import Settings
from streams.records import StudentStep
from students.export.fidelity import FidelityError
from students.publishing.announcing import announce
from students.publishing.ledger import LedgerError
from students.publishing.publisher import Publisher, PublishError
from students.version_folder import VersionError, student_version

EXPECTED = (FidelityError, LedgerError, PublishError, TritonError, VersionError)


@contextlib.contextmanager
def publisher_of(settings: Settings) -> Iterator[Publisher]:
    """Yield the publisher on the Triton of the settings. Raises NotRunningError, CommandError."""
    with contextlib.closing(Control(settings)) as control:
        try:
            yield Publisher(settings, control)
        except EXPECTED as error:
            raise CommandError(str(error)) from error


def told(context: Context, settings: Settings, publisher: Publisher, step: StudentStep) -> None:
    """Print a step, and send it and what waited before it; what cannot be sent now is sent by the next command."""
    name = student_version(step.kind, step.version)
    context.console.print(
        f"{step.step} {name}  champion {step.champion or 'none'}  challenger {step.challenger or 'none'}"
        f"{'  pinned' if step.pinned else ''}"
    )
    try:
        announce(settings, publisher.ledger)
    except (BrokerSilentError, KafkaError, NotRunningError) as error:
        context.console.print(f"not announced yet, the next command does it: {str(error).splitlines()[0]}")
