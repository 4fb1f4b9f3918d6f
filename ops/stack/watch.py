"""Is a part alive, has it died, does it hang? Decisions from what supervisord and the heartbeats say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ops.heartbeat import Heartbeat
from ops.stack.supervision import Process

#: A part that supervisord has given up is tried again after these pauses; the last one repeats.
RETRY_AFTER_S = (5.0, 15.0, 30.0, 60.0)
#: A process's first sign may take so many times as long as any later one: on a busy machine its imports do.
FIRST_SIGN = 5


class Finding(StrEnum):
    """What a look at a part found."""

    DIED = "died"
    FAILED = "failed"
    BACK = "back"
    HANGS = "hangs"
    GIVEN_UP = "given up"
    RETRY = "retry"


def is_ready(process: Process, heartbeat: Heartbeat | None, *, own_heartbeat: bool) -> bool:
    """Tell whether a part is up. A heartbeat counts if the running process itself wrote it as `ready`.

    `own_heartbeat` is false for the broker, whose heartbeat the supervisor writes on its behalf.
    """
    if process.pid == 0 or heartbeat is None or heartbeat.state != "ready":
        return False
    return not own_heartbeat or heartbeat.pid == process.pid


@dataclass(slots=True)
class Watch:
    """Follows one part over time. Times are of a monotonic clock in seconds.

    A heartbeat is fresh as long as its content changes, so a wall clock that jumps kills nobody.
    """

    stale_after_s: float
    own_heartbeat: bool = True
    pid: int = 0
    ready: bool = False
    killed: bool = False
    signed: bool = False
    changed_s: float = 0.0
    given_up_s: float | None = None
    retries: int = 0
    failed: bool = False
    last: tuple[int, float] | None = None

    def look(self, process: Process, heartbeat: Heartbeat | None, now_s: float) -> list[Finding]:
        """Return what is new since the last look."""
        found = []
        mark = (heartbeat.pid, heartbeat.at_s) if heartbeat else None
        if process.pid != self.pid:
            if self.pid and self.ready and not self.killed:
                found.append(Finding.DIED)
            elif self.pid and not self.ready and not self.killed and not self.failed:
                # Once: what keeps ending says the same each time.
                self.failed = True
                found.append(Finding.FAILED)
            self.pid, self.ready, self.killed, self.changed_s = process.pid, False, False, now_s
            self.signed = False
        if heartbeat and (heartbeat.pid == process.pid or not self.own_heartbeat):
            self.signed = True
        if mark != self.last:
            self.last, self.changed_s = mark, now_s
        if not self.ready and is_ready(process, heartbeat, own_heartbeat=self.own_heartbeat):
            self.ready, self.failed, self.retries, self.given_up_s = True, False, 0, None
            found.append(Finding.BACK)
        stale_after_s = self.stale_after_s * (1 if self.signed else FIRST_SIGN)
        if process.pid and now_s - self.changed_s > stale_after_s:
            # The next process gets the whole time again.
            self.killed, self.changed_s = True, now_s
            found.append(Finding.HANGS)
        if process.statename == "FATAL":
            found += self._given_up(now_s)
        return found

    def _given_up(self, now_s: float) -> list[Finding]:
        if self.given_up_s is None:
            self.given_up_s = now_s
            return [Finding.GIVEN_UP]
        pause = RETRY_AFTER_S[min(self.retries, len(RETRY_AFTER_S) - 1)]
        if now_s - self.given_up_s > pause:
            self.retries += 1
            self.given_up_s = now_s
            return [Finding.RETRY]
        return []
