from typing import Any

import numpy as np
import pytest

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
    given: dict[str, Any] = {
        "ctr": ctr(-0.02, 0.03),
        "treatment": FINE,
        "treatment_shoppers": 1000,
        "ratio": sample_ratio(1000, 1000, treatment_share=0.5),
        "settings": SETTINGS,
    }
    return {guardrail.name: guardrail for guardrail in guardrails(**given | changes)}


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
    assert found.why == "6.00 % of 1,000 queries took longer than 250 ms, surely more than 1 %"
    hardly = Serving(queries=100, timed=100, latency_p99_ms=260.0, slow=2, fallbacks=0)
    assert not judge(treatment=hardly)["latency_p99_ms"].breached


def test_fallbacks() -> None:
    many = Serving(queries=2000, timed=2000, latency_p99_ms=20.0, slow=0, fallbacks=300)
    assert judge(treatment=many)["fallback_share"].breached
    none_allowed = SETTINGS.model_copy(update={"guardrail_fallback_share": 0.0})
    one = Serving(queries=2000, timed=2000, latency_p99_ms=20.0, slow=0, fallbacks=2)
    assert judge(treatment=one, settings=none_allowed)["fallback_share"].breached
    all_allowed = SETTINGS.model_copy(update={"guardrail_fallback_share": 1.0})
    assert not judge(treatment=many, settings=all_allowed)["fallback_share"].breached


def test_a_wrong_split() -> None:
    found = judge(ratio=sample_ratio(1000, 1400, treatment_share=0.5))["sample_ratio_p_value"]
    assert found.breached
    assert found.why.startswith("58.3 % of shoppers are in the treatment, 50.0 % meant; chance does not")


def test_nothing_known_breaches_nothing() -> None:
    unknown = Effect("ctr", "CTR", None, None, None, "not enough data yet")
    for treatment in (None, Serving(0, 0, None, 0, 0)):
        found = judge(ctr=unknown, treatment=treatment, ratio=None)
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
        slow = random.binomial(200, 0.01, size=50).cumsum().tolist()
        fallbacks = random.binomial(200, 0.05, size=50).cumsum().tolist()
        treated = random.binomial(40, 0.5, size=50).cumsum().tolist()
        for look in range(50):
            queries, shoppers = 200 * (look + 1), 40 * (look + 1)
            found = judge(
                treatment=Serving(queries, queries, 240.0, slow[look], fallbacks[look]),
                ratio=sample_ratio(shoppers - treated[look], treated[look], treatment_share=0.5),
            )
            if any(guardrail.breached for guardrail in found.values()):
                breaches += 1
                break
    assert breaches / 200 <= 0.05


def test_the_error_rate_is_split() -> None:
    assert guardrail_alpha(SETTINGS) == SETTINGS.alpha / 4
