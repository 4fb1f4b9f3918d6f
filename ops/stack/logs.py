"""The parts' log files, as the supervisor quotes them when something fails."""

from __future__ import annotations

import re
from pathlib import Path

TAIL_BYTES = 64_000
_TROUBLE = re.compile(r"\b(ERROR|CRITICAL|FATAL)\b|\b\w*(Error|Exception|Exit)(:|$)")


def path_of(run_dir: Path, part: str) -> Path:
    """Return the log file of a part."""
    return run_dir / "logs" / f"{part}.log"


def tail(path: Path, lines: int) -> list[str]:
    """Return the end of a log, at most `lines` lines, control characters replaced; none if there is no log.

    What a part wrote after its last error, while it went down, is left out.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            content = file.read()
    except FileNotFoundError:
        return []
    text = content.decode("utf-8", "replace")
    # A log quotes what strangers sent: nothing in it may steer the terminal.
    found = ["".join(c if c.isprintable() else " " for c in line)[:500] for line in text.splitlines()]
    troubled = [number for number, line in enumerate(found) if _TROUBLE.search(line)]
    end = troubled[-1] + 1 if troubled else len(found)
    return found[max(0, end - lines) : end]
