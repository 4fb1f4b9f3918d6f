"""Steps are kept whatever happens, sent at least once, and say what holds."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.records import StudentStep
from students.publishing.ledger import Ledger, LedgerError, Route, route_of
from tests.feature_store import samples


def step(step_id: int, **changes: Any) -> StudentStep:
    values: dict[str, Any] = {
        "step_id": step_id,
        "kind": "interaction",
        "version": step_id,
        "offsets": {"relevance.judgements/0": 7},
        "gate": {"auc": 0.9},
        "champion": 1,
        "at_ms": 1000 * step_id,
    }
    return samples.step(**(values | changes))


def test_what_holds_is_in_the_last_step_of_each_kind() -> None:
    steps = [step(1), step(2, challenger=2), step(3, kind="representation", champion=3, pinned=True)]
    assert route_of(steps, "interaction") == Route(champion=1, challenger=2)
    assert route_of(steps, "representation") == Route(champion=3, pinned=True)
    assert route_of([], "interaction") == Route()


@given(st.binary(max_size=80).filter(lambda content: b"\n" not in content))
def test_a_line_cut_off_by_a_crash_never_counted(
    tmp_path_factory: pytest.TempPathFactory, left: bytes
) -> None:
    root = tmp_path_factory.mktemp("ledger")
    ledger = Ledger(root)
    ledger.append(step(1))
    with (root / "steps.jsonl").open("ab") as file:
        file.write(left)
    assert ledger.steps() == [step(1)]
    ledger.append(step(2))
    assert ledger.steps() == [step(1), step(2)]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(step(1))
    for garbage in (b"{}", b"\xff", b"", msgspec.json.encode({"step_id": "one"})):
        content = msgspec.json.encode(step(1)) + b"\n" + garbage + b"\n"
        (tmp_path / "steps.jsonl").write_bytes(content)
        with pytest.raises(LedgerError, match=r"steps\.jsonl line 2 is no step of a version"):
            ledger.steps()


def test_each_step_is_sent_until_it_is_marked(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    sent: list[int] = []

    def send(steps: Sequence[StudentStep]) -> None:
        sent.extend(each.step_id for each in steps)

    def fails(steps: Sequence[StudentStep]) -> None:
        raise ConnectionError("no broker")

    assert ledger.send(send) == 0
    ledger.append(step(1))
    with pytest.raises(ConnectionError):
        ledger.send(fails)
    ledger.append(step(2))
    assert ledger.send(send) == 2
    assert ledger.send(send) == 0
    ledger.append(step(3))
    (tmp_path / "steps.sent").write_text("garbage")
    assert ledger.send(send) == 3
    assert sent == [1, 2, 1, 2, 3]


def test_an_earlier_step_is_not_sent_after_a_later_one(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(step(1))
    sent: list[int] = []
    sending, go_on = threading.Event(), threading.Event()

    def slowly(steps: Sequence[StudentStep]) -> None:
        sending.set()
        assert go_on.wait(60)
        sent.extend(each.step_id for each in steps)

    first = threading.Thread(target=ledger.send, args=[slowly])
    first.start()
    assert sending.wait(60)
    ledger.append(step(2))
    second = threading.Thread(
        target=Ledger(tmp_path).send, args=[lambda steps: sent.extend(each.step_id for each in steps)]
    )
    second.start()
    second.join(0.2)
    go_on.set()
    for thread in (first, second):
        thread.join(60)
    assert sent == [1, 2]
    assert ledger.waiting() == []


def test_only_one_changes_the_repository_at_a_time(tmp_path: Path) -> None:
    first, second = Ledger(tmp_path), Ledger(tmp_path)
    with first.held(), pytest.raises(BlockingIOError), second.held(wait=False):
        raise AssertionError("two hold it")
    with second.held(wait=False):
        pass
