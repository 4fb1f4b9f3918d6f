"""What the trainer has done since its start, for a heartbeat."""

from __future__ import annotations

from dataclasses import dataclass

from students.incremental.lineage import Lineage


@dataclass(slots=True)
class Progress:
    """`judgements` were learned from for the first time, `held_out` ones kept for the gate. `passed`, `rejected`,
    `doubted` and `halted` count updates by outcome, `alarms` is 1 while the last update was halted. `trouble` and
    `doing` are lines for people. Seconds and freshness (means from judged and from sampled to trained) are the last
    update's.
    """

    records: int = 0
    judgements: int = 0
    held_out: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    updates: int = 0
    passed: int = 0
    rejected: int = 0
    doubted: int = 0
    halted: int = 0
    alarms: int = 0
    published: int = 0
    refused_by_serving: int = 0
    update: int = 0
    champion: int = 0
    update_s: float = 0.0
    judged_to_trained_s: float = 0.0
    sampled_to_trained_s: float = 0.0
    retries: int = 0
    trouble: str = ""
    doing: str = ""
    alarm: str = ""

    def count(self, lineage: Lineage, *, champion: int) -> None:
        """Take in an update that is saved."""
        self.updates += 1
        self.update, self.champion = lineage.update, champion
        self.passed += lineage.outcome == "passed"
        self.rejected += lineage.outcome == "kept"
        self.doubted += lineage.outcome == "doubted"
        self.halted += lineage.outcome == "halted"
        self.alarms = int(lineage.outcome == "halted")
        self.alarm = lineage.why if lineage.outcome == "halted" else ""
        self.duplicates += lineage.duplicates
        self.judgements += len(lineage.used)
        self.held_out += len(lineage.held_out)
        self.update_s = lineage.seconds
        self.judged_to_trained_s = lineage.judged_to_trained_s or 0.0
        self.sampled_to_trained_s = lineage.sampled_to_trained_s or 0.0

    @property
    def detail(self) -> str:
        """Return one line for people: an alarm first, then trouble, then what is being done."""
        if self.alarm:
            return f"publishing is stopped: {self.alarm}"
        return self.trouble or self.doing or f"update {self.update}, champion of update {self.champion}"

    def counters(self) -> dict[str, float]:
        """Return the numbers by name."""
        return {
            name: float(getattr(self, name))
            for name in self.__slots__
            if name not in ("trouble", "doing", "alarm")
        }
