from hypothesis import given
from hypothesis import strategies as st

from ops.experiments.aggregates import VARIABLES, looks_between, to_aggregates


@given(st.integers(0, 2_000_000_000_000), st.integers(0, 400 * 86_400_000), st.integers(2, 60))
def test_looks_cover_the_time_in_few_round_steps(start_ms: int, length_ms: int, most: int) -> None:
    until_ms = start_ms + length_ms
    looks = looks_between(start_ms, until_ms, most=most)
    assert 1 <= looks.count <= most
    assert looks.start_ms <= start_ms < looks.start_ms + looks.width_ms
    assert looks.start_ms % looks.width_ms == 0
    assert looks.at_ms(looks.count - 1) >= until_ms
    if looks.count > 1:
        assert looks.at_ms(looks.count - 2) < until_ms


def test_one_shopper_has_no_variance() -> None:
    nan = float("nan")
    cell = to_aggregates(1, [float(n) for n in range(7)], [[nan] * 7 for _ in range(7)])
    assert cell.mean("clicks") == VARIABLES.index("clicks")
    assert cell.var("clicks") == 0
    assert cell.cov("clicks", "revenue") == 0
