import msgspec

from ops.experiments.guardrails import Guardrail
from ops.experiments.report_records import ExperimentReport
from ops.experiments.states import stop_for
from ops.experiments.verdict import Verdict
from streams.records import ExperimentState


def report(*breached: bool, state: str = "running") -> ExperimentReport:
    return ExperimentReport(
        experiment="ranking",
        at_ms=1234,
        state=state,
        state_reason="",
        start_ms=None,
        alpha=0.05,
        expected_effect=0.1,
        min_shoppers=100,
        arms=[],
        in_several_arms=0,
        classes={},
        series={},
        sample_ratio=None,
        guardrails=[Guardrail(f"g{n}", 1.0, 0.5, each, f"reason {n}") for n, each in enumerate(breached)],
        sure_since_ms=None,
        verdict=Verdict("", "", "open"),
    )


def test_a_breach_stops_and_says_why() -> None:
    assert stop_for(report(True, False, True)) == ExperimentState(
        experiment="ranking", state="stopped", reason="reason 0; reason 2", since_ms=1234
    )


def test_nothing_to_stop() -> None:
    assert stop_for(report(False, False)) is None
    assert stop_for(report()) is None
    assert stop_for(report(True, state="stopped")) is None


def test_the_report_reads_back_from_json() -> None:
    made = report(True)
    assert msgspec.json.decode(msgspec.json.encode(made), type=ExperimentReport) == made
