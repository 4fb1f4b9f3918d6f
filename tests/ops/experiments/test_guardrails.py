from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.experiments.aggregates import Serving
from ops.experiments.guardrails import Guardrail, guardrail_alpha, guardrails
from ops.experiments.statistics import Effect, Estimate, Interval, sample_ratio
from ops.settings import Experiment

SETTINGS = Experiment.model_validate({"min_shoppers": 100})
FINE = Serving(queries=5000, timed=5000, latency_p99_ms=80.0, slow=10, fallbacks=20)


def ctr(lower: float, upper: float) -> Effect:
    interval = Interval(lower, upper)
    middle = (lower + upper) / 2
    estimate = Estimate(middle, interval, interval, middle, interval, interval, 0.5, 0.5, False, 0.0)
    return Effect("ctr", "CTR", 0.1, 0.1, estimate, "")


def judge(**changes: Any) -> dict[str, Guardrail]:
    usual: dict[str, Any] = {
        "ctr": ctr(-0.02, 0.03),
        "treatment": FINE,
        "control": FINE,
        "treatment_shoppers": 1000,
        "ratio": sample_ratio(1000, 1000, treatment_share=0.5),
        "settings": SETTINGS,
    }
    return {guardrail.name: guardrail for guardrail in guardrails(**usual | changes)}


def test_all_is_well() -> None:
    found = judge()
    assert list(found) == ["ctr_change", "latency_p99_ms", "fallback_share", "sample_ratio_p_value"]
    assert not any(guardrail.breached for guardrail in found.values())
    assert all(guardrail.why for guardrail in found.values())


@pytest.mark.parametrize(("lower", "upper", "breached"), [(-0.3, -0.06, True), (-0.3, -0.04, False)])
def test_a_ctr_drop_must_be_sure(lower: float, upper: float, breached: bool) -> None:
    assert judge(ctr=ctr(lower, upper))["ctr_change"].breached == breached


def test_slow_queries() -> None:
    slow = Serving(queries=1000, timed=1000, latency_p99_ms=700.0, slow=60, fallbacks=0)
    found = judge(treatment=slow)["latency_p99_ms"]
    assert found.breached
    assert found.value == 700.0
    assert found.why == (
        "6.00 % of 1,000 queries took longer than 250 ms, 0.20 % in control: surely more by 1 %"
    )
    hardly = Serving(queries=100, timed=100, latency_p99_ms=260.0, slow=2, fallbacks=0)
    assert not judge(treatment=hardly)["latency_p99_ms"].breached


def test_fallbacks() -> None:
    many = Serving(queries=2000, timed=2000, latency_p99_ms=20.0, slow=0, fallbacks=300)
    found = judge(treatment=many)["fallback_share"]
    assert found.breached
    assert found.limit == pytest.approx(0.054)
    assert found.why == (
        "15.00 % of 2,000 queries were scored without the model, 0.40 % in control: surely more by 5.0 %"
    )
    none_allowed = SETTINGS.model_copy(update={"guardrail_fallback_share": 0.0})
    some = Serving(queries=2000, timed=2000, latency_p99_ms=20.0, slow=0, fallbacks=60)
    assert judge(treatment=some, settings=none_allowed)["fallback_share"].breached
    all_allowed = SETTINGS.model_copy(update={"guardrail_fallback_share": 1.0})
    assert not judge(treatment=many, settings=all_allowed)["fallback_share"].breached


def test_a_busy_machine_is_no_fault_of_the_treatment() -> None:
    treatment = Serving(queries=1900, timed=1900, latency_p99_ms=900.0, slow=420, fallbacks=179)
    control = Serving(queries=2100, timed=2100, latency_p99_ms=880.0, slow=450, fallbacks=197)
    assert not any(each.breached for each in judge(treatment=treatment, control=control).values())


@given(
    queries=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_no_worse_than_the_control_breaches_nothing(
    queries: tuple[int, int], shares: tuple[float, float]
) -> None:
    ours, theirs = sorted(shares)
    treatment, control = (
        Serving(count, count, 900.0, round(share * count), round(share * count))
        for count, share in zip(queries, (ours, theirs), strict=True)
    )
    if treatment.slow / treatment.timed > control.slow / control.timed:
        treatment, control = control, treatment
    assert not any(each.breached for each in judge(treatment=treatment, control=control).values())


@given(fallbacks=st.integers(0, 1000), more=st.integers(0, 1000), usual=st.integers(0, 1000))
def test_more_fallbacks_never_mend_a_breach(fallbacks: int, more: int, usual: int) -> None:
    control = Serving(1000, 1000, 80.0, 0, usual)

    def breached(count: int) -> bool:
        treatment = Serving(1000, 1000, 80.0, 0, min(count, 1000))
        return judge(treatment=treatment, control=control)["fallback_share"].breached

    assert breached(fallbacks + more) or not breached(fallbacks)


def test_without_a_control_there_is_nothing_to_compare_with() -> None:
    bad = Serving(queries=1000, timed=1000, latency_p99_ms=700.0, slow=600, fallbacks=900)
    for control in (None, Serving(0, 0, None, 0, 0)):
        found = judge(treatment=bad, control=control)
        assert not found["latency_p99_ms"].breached
        assert "to compare with" in found["fallback_share"].why


def test_a_wrong_split() -> None:
    found = judge(ratio=sample_ratio(1000, 1400, treatment_share=0.5))["sample_ratio_p_value"]
    assert found.breached
    assert found.why.startswith("58.3 % of shoppers are in the treatment, 50.0 % meant; chance does not")


def test_nothing_known_breaches_nothing() -> None:
    unknown = Effect("ctr", "CTR", None, None, None, "not enough data yet")
    for treatment in (None, Serving(0, 0, None, 0, 0)):
        found = judge(ctr=unknown, treatment=treatment, control=treatment, ratio=None)
        assert not any(guardrail.breached for guardrail in found.values())
        assert {guardrail.value for guardrail in found.values()} == {None}


def test_the_first_shoppers_stop_nothing() -> None:
    cold_start = Serving(queries=99, timed=99, latency_p99_ms=2000.0, slow=99, fallbacks=99)
    found = judge(treatment=cold_start, treatment_shoppers=99)
    assert not any(guardrail.breached for guardrail in found.values())
    assert {each.why for each in found.values()} == {
        "too early to judge: 99 of 100 shoppers in the treatment"
    }


def test_looking_often_does_not_breach_falsely() -> None:
    random = np.random.default_rng(17)
    breaches = 0
    for _ in range(200):
        # Just at the limits: worse by the margin, and no more.
        slow = random.binomial(200, 0.02, size=50).cumsum().tolist()
        fallbacks = random.binomial(200, 0.08, size=50).cumsum().tolist()
        slow_control = random.binomial(200, 0.01, size=50).cumsum().tolist()
        fallbacks_control = random.binomial(200, 0.03, size=50).cumsum().tolist()
        treated = random.binomial(40, 0.5, size=50).cumsum().tolist()
        for look in range(50):
            queries, shoppers = 200 * (look + 1), 40 * (look + 1)
            found = judge(
                treatment=Serving(queries, queries, 240.0, slow[look], fallbacks[look]),
                control=Serving(queries, queries, 240.0, slow_control[look], fallbacks_control[look]),
                ratio=sample_ratio(shoppers - treated[look], treated[look], treatment_share=0.5),
            )
            if any(guardrail.breached for guardrail in found.values()):
                breaches += 1
                break
    assert breaches / 200 <= 0.05


def test_the_error_rate_is_split() -> None:
    assert guardrail_alpha(SETTINGS) == SETTINGS.alpha / 4
