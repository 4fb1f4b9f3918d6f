"""The record of an update, made for tests. Apart from the other samples: these need torch."""

from __future__ import annotations

import msgspec

from students.incremental.lineage import Lineage


def lineage(update: int, **changed: object) -> Lineage:
    """Return the record of an update that took nothing, but for what is `changed`."""
    plain: dict[str, object] = {
        "update": update,
        "kind": "interaction",
        "parent": update - 1,
        "previous": 0,
        "accepted": False,
        "ranges": {},
        "offsets": {},
        "used": (),
        "held_out": (),
        "golden_judgements": 0,
        "duplicates": 0,
        "refused": 0,
        "fresh": 0,
        "replayed": 0,
        "seed": 1,
        "settings": {},
        "data": "",
        "golden": "",
        "start": "",
        "weights": "",
        "outcome": "passed",
        "why": "",
        "alarms": (),
        "figures": {},
        "seconds": 1.0,
        "judged_to_trained_s": None,
        "sampled_to_trained_s": None,
        "at_ms": 1,
    }
    return msgspec.convert(plain | changed, Lineage)
