from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from teacher.annotation.ledger import Author, Key, Ledger, LedgerError, Spent
from teacher.annotation.review import Review
from teacher.parsing import Refusal, RefusalReason
from tests.teacher.annotation.samples import judgement

AUTHORS = {"a": Author(model="m", prompt_hash="h"), "b": Author(model="n", prompt_hash="h")}
REFUSAL = Refusal(reason=RefusalReason.EMPTY, detail="nothing", prompt_tokens=7, completion_tokens=1)


def _ledger(folder: Path, **changes: Author) -> Ledger:
    return Ledger(folder / "ledger.sqlite3", AUTHORS | changes)


def test_answers_come_back_in_order_after_reopening(tmp_path: Path) -> None:
    with _ledger(tmp_path) as ledger:
        ledger.record(Key("p", "a", 1), REFUSAL)
        ledger.record(Key("p", "a", 0), judgement("S"))
        ledger.record(Key("p", "a", 2), judgement("C"))
        ledger.record(Key("q", "b", 0), judgement("E"))
    with _ledger(tmp_path) as ledger:
        assert ledger.keys() == {Key("p", "a", 0), Key("p", "a", 1), Key("p", "a", 2), Key("q", "b", 0)}
        assert ledger.answers("p", annotators=["a", "b"], samples=2) == {
            "a": [judgement("S"), REFUSAL],
            "b": [],
        }
        assert ledger.answers("q", annotators=["a"], samples=2) == {"a": []}
        assert ledger.spent()["a"] == Spent(answers=3, prompt_tokens=807, completion_tokens=41)


def test_an_answer_is_recorded_once(tmp_path: Path) -> None:
    with _ledger(tmp_path) as ledger:
        ledger.record(Key("p", "a", 0), REFUSAL)
        with pytest.raises(LedgerError, match="answered already"):
            ledger.record(Key("p", "a", 0), judgement())
        assert ledger.answers("p", annotators=["a"], samples=1) == {"a": [REFUSAL]}


def test_a_second_holder_is_told_and_readers_are_not_kept_out(tmp_path: Path) -> None:
    with _ledger(tmp_path) as ledger:
        ledger.record(Key("p", "a", 0), REFUSAL)
        with pytest.raises(LedgerError, match="another run uses this ledger"):
            _ledger(tmp_path).__enter__()
        reader = sqlite3.connect(tmp_path / "ledger.sqlite3")
        assert reader.execute("SELECT count(*) FROM answers").fetchone() == (1,)
        reader.close()
    with _ledger(tmp_path) as ledger:
        assert len(ledger.keys()) == 1


def test_other_settings_are_refused_and_further_annotators_let_in(tmp_path: Path) -> None:
    with _ledger(tmp_path):
        pass
    with pytest.raises(LedgerError, match=r"annotator a: model was m, is z\n") as told:
        _ledger(
            tmp_path, a=Author(model="z", prompt_hash="h"), b=Author(model="n", prompt_hash="i")
        ).__enter__()
    assert "annotator b: policy, prompt, max_tokens or temperature changed (prompt hash was h, is i)" in str(
        told.value
    )
    with _ledger(tmp_path, c=Author(model="c", prompt_hash="h")) as ledger:
        assert ledger.keys() == set()


def test_weights_that_change_or_are_the_same_are_refused(tmp_path: Path) -> None:
    with _ledger(tmp_path) as ledger:
        ledger.identify("a", "m@1")
        ledger.identify("a", "m@1")
        with pytest.raises(LedgerError, match=r"answers are from m@1, the endpoint now serves m@2"):
            ledger.identify("a", "m@2")
        with pytest.raises(LedgerError, match="annotators a and b are the same model, m@1"):
            ledger.identify("b", "m@1")


def test_files_that_are_no_ledger_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    path.write_text("something else entirely " * 50)
    with pytest.raises(LedgerError, match="not a ledger that can be read"):
        _ledger(tmp_path).__enter__()
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    with pytest.raises(LedgerError, match="expected a ledger of form 1, got another file"):
        _ledger(tmp_path).__enter__()


def test_a_damaged_ledger_is_refused(tmp_path: Path) -> None:
    with _ledger(tmp_path) as ledger:
        for number in range(200):
            ledger.record(Key(f"p{number}", "a", 0), judgement())
    path = tmp_path / "ledger.sqlite3"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 9000] = b"\xff" * 9000
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="restore it or give another --out"):
        _ledger(tmp_path).__enter__()


def test_reviews_are_kept_and_the_last_word_counts(tmp_path: Path) -> None:
    with _ledger(tmp_path) as ledger:
        ledger.review({"p": Review(grade="E", comment=""), "q": Review(grade="I", comment="no")})
        ledger.review({"p": Review(grade="S", comment="on second thoughts")})
    with _ledger(tmp_path) as ledger:
        assert ledger.reviews() == {
            "p": Review(grade="S", comment="on second thoughts"),
            "q": Review(grade="I", comment="no"),
        }
