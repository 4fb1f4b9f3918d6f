from collections.abc import Mapping
from typing import Any

import pytest

from ops.experiments.guardrails import Guardrail
from ops.experiments.statistics import Effect, Estimate, Interval
from ops.experiments.verdict import Verdict, verdict
from ops.settings import Experiment
from streams.records import ExperimentState

NOW_MS = 1_750_000_000_000
BOTH = {"control": 500, "treatment": 480}


def ctr(lower: float, upper: float, relative: float) -> Effect:
    interval = Interval(lower, upper)
    estimate = Estimate(0.01, interval, interval, relative, interval, interval, 0.01, 0.01, False, 0.0)
    return Effect("ctr", "CTR", 0.1, 0.11, estimate, "")


def judge(effect: Effect, shoppers: Mapping[str, int] = BOTH, **changes: Any) -> Verdict:
    given: dict[str, Any] = {
        "guardrails": [],
        "sure_since_ms": None,
        "state": None,
        "now_ms": NOW_MS,
        "settings": Experiment.model_validate({}),
    }
    return verdict(shoppers=shoppers, ctr=effect, **given | changes)


def test_better() -> None:
    found = judge(ctr(0.041, 0.205, 0.123), sure_since_ms=NOW_MS - 3_600_000)
    assert found.text == (
        "treatment clicks more: CTR +12.3 % (95 % interval +4.1 % to +20.5 %), sure since 14:06 UTC"
    )
    assert found.tone == "better"


def test_worse_since_another_day() -> None:
    found = judge(ctr(-0.3, -0.1, -0.2), sure_since_ms=NOW_MS - 30 * 3_600_000)
    assert found.text.startswith("treatment clicks less: CTR -20.0 % ")
    assert found.text.endswith("sure since 14 Jun 2025 09:06 UTC")
    assert found.tone == "worse"


def test_open() -> None:
    found = judge(ctr(-0.05, 0.1, 0.02))
    assert found.text == "no sure difference in clicks yet: CTR +2.0 % (95 % interval -5.0 % to +10.0 %)"
    assert "980 shoppers" in found.note
    assert found.tone == "open"


@pytest.mark.parametrize(
    ("shoppers", "text"),
    [
        ({}, "no data yet"),
        ({"other": 5}, "no data yet"),
        ({"treatment": 7}, "nothing to compare: only treatment has shoppers (7)"),
        (BOTH, "not enough data yet: 40 of 100 shoppers in the smaller arm"),
    ],
)
def test_without_an_estimate(shoppers: dict[str, int], text: str) -> None:
    why = "not enough data yet: 40 of 100 shoppers in the smaller arm"
    found = judge(Effect("ctr", "CTR", None, None, None, why), shoppers)
    assert (found.text, found.tone) == (text, "open")


def test_a_breach_and_a_stop_come_first() -> None:
    breach = Guardrail("fallback_share", 0.5, 0.05, True, "half of all queries fell back")
    effect = ctr(0.1, 0.2, 0.15)
    found = judge(effect, guardrails=[breach])
    assert found.text == "stop treatment: half of all queries fell back"
    assert found.note.startswith("treatment clicks more")
    state = ExperimentState(experiment="ranking", state="stopped", reason="told to", since_ms=NOW_MS)
    stopped = judge(effect, guardrails=[breach], state=state)
    assert (stopped.text, stopped.tone) == ("stopped at 15:06 UTC: told to", "stop")
