"""Announces a repository's steps as they happen, beside the watching: a Kafka that is away holds up nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable

from kafka.errors import KafkaError

from ops.clickhouse.publishing import BrokerSilentError
from ops.endpoints import NotRunningError
from ops.settings import Settings
from students.publishing.announcing import announce
from students.publishing.ledger import Ledger, LedgerError


class Announcer:
    """Sends what waits, one attempt at a time on a thread of its own. `say` hears of trouble once."""

    def __init__(self, settings: Settings, ledger: Ledger, *, say: Callable[[str], None]) -> None:
        self._settings, self._ledger, self._say = settings, ledger, say
        self._attempt: threading.Thread | None = None
        self._trouble = ""

    def look(self) -> None:
        """Begin to send if something waits and no attempt is under way. Raises LedgerError."""
        if (self._attempt and self._attempt.is_alive()) or not self._ledger.waiting():
            return
        self._attempt = threading.Thread(target=self._send, name="announcing", daemon=True)
        self._attempt.start()

    def finish(self, *, within_s: float) -> None:
        """Wait for the attempt that is under way."""
        if self._attempt:
            self._attempt.join(within_s)

    def _send(self) -> None:
        trouble = ""
        try:
            announce(self._settings, self._ledger)
        except (BrokerSilentError, KafkaError, NotRunningError, LedgerError) as error:
            trouble = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if trouble and trouble != self._trouble:
            self._say(f"steps are not announced yet, it is tried again: {trouble}")
        self._trouble = trouble
