from __future__ import annotations

from typing import Any

import pytest

from ops.dashboard.cached import Outcome
from ops.dashboard.health import Health, Part, health
from ops.dashboard.lag import GroupLag
from ops.dashboard.queries import Arrivals, Totals
from ops.dashboard.source import StoreNumbers
from ops.settings import Settings

NOW_MS = 1_000_000_000


def part(name: str, *, age_s: float = 0.5, state: str = "ready") -> Part:
    return Part(name=name, state=state, detail="", age_s=age_s, counters={})


def lag(records: int | None, error: str = "") -> GroupLag:
    return GroupLag(
        name="streams", group="g", topics=("t",), records=records, error=error, at_ms=NOW_MS, history=[]
    )


def store(*, events: float = 100, dead: float = 0, last_event_ms: int = NOW_MS) -> Outcome[StoreNumbers]:
    numbers = StoreNumbers(
        arrivals=Arrivals([NOW_MS], {"queries": [events], "dead_letters": [dead]}, 0.5, 1.0),
        totals=Totals(1, 1, 1, 1, 1, 1.0, 1, 1, last_event_ms),
        dead_letters=[],
    )
    return Outcome(numbers, NOW_MS, "")


def judge(**changes: Any) -> Health:
    known: dict[str, Any] = {
        "settings": Settings.model_validate({}),
        "parts": [part("broker"), part("streams-1"), part("metrics"), part("features"), part("shop")],
        "lag": [lag(3)],
        "store": store(),
        "report": Outcome(None, 0, ""),
        "now_ms": NOW_MS,
    }
    return health(**(known | changes))


def test_all_well() -> None:
    assert judge() == Health("ok", [])


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"parts": [part("broker")]}, "critical", "streams-1 has not started"),
        (
            {"parts": [part("broker"), part("streams-1", age_s=90), part("features")]},
            "critical",
            "streams-1 has given no sign of life",
        ),
        ({"lag": [lag(None, "no answer")]}, "warning", "unknown: no answer"),
        ({"lag": [lag(50_000)]}, "warning", "50,000 records behind"),
        ({"store": Outcome(None, 0, "no server")}, "critical", "no server"),
        ({"store": store(events=90, dead=10)}, "warning", "10% of the records"),
        (
            {"store": store(events=0, last_event_ms=NOW_MS - 600_000)},
            "warning",
            "No event has come in for 10 min",
        ),
        ({"report": Outcome(None, 0, "division")}, "critical", "division"),
    ],
)
def test_each_problem_is_named(changes: dict[str, Any], level: str, words: str) -> None:
    found = judge(**changes)
    assert found.level == level
    assert words in found.problems[0].text


def test_a_part_that_was_stopped_is_no_problem_unless_it_must_run() -> None:
    parts = [part("broker"), part("streams-1"), part("features")]
    parts.append(part("shop", age_s=300, state="stopping"))
    assert judge(parts=parts).level == "ok"


def test_a_stack_without_features_misses_none() -> None:
    settings = Settings.model_validate({"stack": {"features": False}})
    assert judge(settings=settings, parts=[part("broker"), part("streams-1")]).level == "ok"
    assert judge(parts=[part("broker"), part("streams-1")]).problems[0].text == "features has not started."


def test_with_a_broker_elsewhere_no_local_part_is_missed() -> None:
    assert judge(settings=Settings.model_validate({"kafka": "kafka:9092"}), parts=[]).level == "ok"


def test_the_worst_comes_first() -> None:
    found = judge(lag=[lag(50_000)], store=Outcome(None, 0, "gone"))
    assert [problem.level for problem in found.problems] == ["critical", "warning"]
