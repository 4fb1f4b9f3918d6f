"""What the demo says at its end and while it runs: nothing is called sure that is not."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.dashboard.freshness import Way, freshness
from ops.dashboard.lag import GroupLag
from ops.dashboard.loop_queries import CostOverTime, TeacherCost
from ops.dashboard.loop_view import LoopOverview, alerts, kept_back, versions
from ops.dashboard.sampling_queries import SampledOverTime
from ops.evaluation.bootstrap import Estimate
from ops.experiments.statistics import Effect, Interval
from ops.experiments.statistics import Estimate as EffectEstimate
from ops.loop.evaluation import Gain
from ops.loop.progress import loop_line
from ops.loop.summary import effect_line, gain_lines, headline, summary
from tests.ops.dashboard.test_loop_view import STORY, step, update

PASSED = update(1, "passed", student_version="interaction-2")


def overview(**told: object) -> LoopOverview:
    """Return a loop whose second version scores the treatment, and whose next update was kept back."""
    made = LoopOverview(
        versions=versions(STORY[:3], [PASSED], []),
        kept_back=kept_back([PASSED, update(2, "kept", why="tail auc is not surely above 0")]),
        alerts=[],
        updates={"passed": 1, "kept": 1, "doubted": 0, "halted": 0},
        freshness=freshness([], []),
        groups=[],
        terms=[],
        sampled=SampledOverTime(1000, [], {}),
        cost=TeacherCost(
            judgements=1234,
            prompt_tokens=500_000,
            cached_tokens=400_000,
            completion_tokens=60_000,
            refusals=3,
            hour_judgements=1234,
            hour_tokens=560_000,
            hour_refusals=3,
            last_ms=1,
        ),
        cost_over_time=CostOverTime(1000, []),
        tokens_per_hour=1e6,
        usd_total=None,
        parts=[],
        lag=[
            GroupLag(
                name="teacher",
                group="relevance-teacher",
                topics=("relevance.pairs",),
                records=17,
                error="",
                history=[],
                at_ms=1,
            )
        ],
    )
    return msgspec.structs.replace(made, **told)


def estimate(value: float, lower: float | None = None, upper: float | None = None) -> Estimate:
    return Estimate(value=value, lower=lower, upper=upper, why="" if lower is not None else "3 queries")


def gain(difference: Estimate, *, cut: str = "tail", metric: str = "auc") -> Gain:
    return Gain(
        cut=cut, metric=metric, queries=131, first=estimate(0.7), last=estimate(0.7), difference=difference
    )


def effect(name: str, lower: float, upper: float) -> Effect:
    span = Interval(lower, upper)
    middle = (lower + upper) / 2
    found = EffectEstimate(middle, span, span, middle, span, span, 0.5, 0.5, False, 0.0)
    return Effect(name, name.upper(), 0.05, 0.06, found, "")


def test_it_says_first_what_is_surely_better_and_then_what_that_rests_on() -> None:
    found = summary(overview(), None, [gain(estimate(0.05, 0.02, 0.08))])
    assert found[0] == "surely better: AUC of tail unseen queries"
    text = "\n".join(found)
    for told in (
        "1 passed the gate, 1 were kept back, 0 wait in doubt, 0 halted",
        "interaction-2      scores treatment   tail AUC +0.020 [+0.010, +0.030], 30 judgements learned",
        "interaction-1      scores control",
        "last kept back: update 2, tail auc is not surely above 0",
        "0.700 -> 0.700, +0.050 [+0.020, +0.080], sure, 131 queries",
        "1,234 judgements, 560,000 tokens (400,000 of them cached), 3 refused",
        "none of them served yet",
    ):
        assert told in text


def test_the_time_to_a_served_version_is_told_with_its_stages() -> None:
    way = Way(kind="interaction", update_id=1, event_ms=0, sampled_ms=1000, judged_ms=3000, trained_ms=6000)
    found = summary(overview(freshness=freshness([way], [("interaction", 1, 10_000)])), None, [])
    assert found[-2] == "freshness  event to served: p50 10 s, p95 10 s, 1 pairs"
    assert found[-1] == (
        "  of that until sampled 10% (p50 1 s), judged 20% (p50 2 s), trained 30% (p50 3 s), served 40% (p50 4 s)"
    )


def test_nothing_is_claimed_where_nothing_is_sure() -> None:
    unsure = [gain(estimate(0.05, -0.01, 0.08)), gain(estimate(0.3))]
    assert headline(unsure, [effect("ctr", -0.02, 0.2)]) == "nothing is surely better or worse yet"
    assert headline([], []) == "nothing is surely better or worse yet"


def test_what_got_worse_is_said_as_loudly() -> None:
    found = headline([gain(estimate(-0.05, -0.08, -0.02), cut="all")], [effect("ctr", 0.01, 0.2)])
    assert found == "surely better: CTR; surely worse: AUC of all unseen queries"


@given(lower=st.floats(-1, 1), upper=st.floats(-1, 1))
@settings(deadline=None)
def test_a_gain_is_sure_if_and_only_if_its_interval_leaves_out_zero(lower: float, upper: float) -> None:
    lower, upper = min(lower, upper), max(lower, upper)
    found = headline([gain(estimate((lower + upper) / 2, lower, upper))], [])
    assert ("surely better:" in found) == (lower > 0)
    assert ("surely worse:" in found) == (upper < 0)


def test_a_loop_without_a_second_version_says_so() -> None:
    assert gain_lines([]) == ["unseen     no version but the first is served, so there is nothing to compare"]
    first = overview(versions=versions([step(1, "published", 1)], [], []), kept_back=[])
    assert "interaction-1      scores both arms" in "\n".join(summary(first, None, []))


def test_a_metric_that_is_not_defined_says_why() -> None:
    undefined = Estimate(value=None, why="all pairs are relevant")
    found = Gain(cut="all", metric="auc", queries=3, first=undefined, last=undefined, difference=undefined)
    assert gain_lines([found])[1].strip() == "all AUC: all pairs are relevant"


def test_ctr_and_cvr_come_with_their_interval_and_other_metrics_not_at_all() -> None:
    line = effect_line(effect("ctr", 0.01, 0.2))
    assert "5.00% control, 6.00% treatment" in line
    assert line.endswith("sure")
    assert "not sure" in effect_line(effect("cvr", -0.01, 0.2))
    assert effect_line(effect("revenue_per_shopper", 0.01, 0.2)) == ""
    few = Effect("ctr", "CTR", None, None, None, "only 3 shoppers")
    assert "only 3 shoppers" in effect_line(few)


def test_a_loop_that_publishes_nothing_more_says_why() -> None:
    halted = overview(alerts=alerts([update(3, "halted", why="the mix of grades has moved")]))
    assert "  publishing is stopped: the mix of grades has moved" in summary(halted, None, [])
    assert "publishing is stopped" in loop_line(halted)


def test_the_line_while_it_runs_tells_versions_judgements_and_waiting_pairs() -> None:
    line = loop_line(overview())
    assert line == "1 of 2 updates passed, interaction-2 in treatment  1,234 judgements  17 pairs wait"


@pytest.mark.parametrize("records", [None, 0])
def test_unknown_waiting_pairs_are_not_none(records: int | None) -> None:
    lag = [msgspec.structs.replace(overview().lag[0], records=records)]
    assert ("? pairs wait" in loop_line(overview(lag=lag))) == (records is None)
