from __future__ import annotations

import csv
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teacher.annotation.review import (
    Review,
    ReviewError,
    Row,
    View,
    escape,
    not_read_in,
    read,
    save_csv,
    save_jsonl,
    unescape,
)
from tests.teacher.annotation.samples import LABELS

NAMES = ["a", "b"]


def row(pair: str = "p-1", **changes: object) -> Row:
    view = View(annotator="a", grade="E", self_agreement=2 / 3, chain="nova | brand | Nova | match\ngrade: E")
    plain = Row(
        pair=pair,
        query="=HYPERLINK(1)",
        item_id="+1",
        item_text="@SUM(A1)\nbrand: Nova",
        reason="disagreed",
        person_grade="",
        views=(view,),
    )
    return msgspec.structs.replace(plain, **changes)


def fill(path: Path, **grades: str) -> None:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**each, "grade": grades.get(each["pair"], "")} for each in rows)


@settings(deadline=None)
@given(st.text())
def test_escaping_can_be_undone_and_leaves_no_formula(cell: str) -> None:
    escaped = escape(cell)
    assert unescape(escaped) == cell
    assert not escaped.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_a_csv_holds_no_formula_and_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "review.csv"
    save_csv(path, [row(), row("p-2"), row("p-3", comment="-5 % of them")], NAMES)
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    assert (table[0]["query"], table[0]["item_id"], table[0]["item_text"]) == (
        "'=HYPERLINK(1)",
        "'+1",
        "'@SUM(A1)\nbrand: Nova",
    )
    assert (table[0]["a_grade"], table[0]["a_self_agreement"], table[0]["b_grade"]) == ("E", "0.67", "")
    assert table[0]["a_chain"] == "nova | brand | Nova | match\ngrade: E"
    fill(path, **{"p-1": " S ", "p-3": "I"})
    assert read(path, labels=LABELS, pairs={"p-1", "p-2", "p-3"}) == {
        "p-1": Review(grade="S", comment=""),
        "p-3": Review(grade="I", comment="-5 % of them"),
    }


def test_json_lines_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "review.jsonl"
    save_jsonl(path, [row(), row("p-2", grade="C", comment="=1")])
    assert read(path, labels=LABELS, pairs={"p-1", "p-2"}) == {"p-2": Review(grade="C", comment="=1")}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", r"review\.csv:1: expected a line of column names"),
        ("pair;grade;comment\np-1;E;\n", r":1: expected one column 'pair', separated by commas"),
        ("pair,grade\np-1,E\n", r":1: expected one column 'comment'"),
        ("pair,grade,comment,grade\n", r":1: expected one column 'grade'"),
        ("pair,grade,comment\np-1,E\n", r":2: expected 3 columns, got 2"),
        ('pair,grade,comment\np-1,"a\nb",\np-1,E,\n', r":2: expected a grade of E, S, C, I, got 'a\\nb'"),
        ('pair,grade,comment\np-1,E,"x\ny"\np-2,Q,\n', r":4: expected a grade of E, S, C, I, got 'Q'"),
        ("pair,grade,comment\np-9,E,\n", r":2: 'p-9' is not among the pairs of this run"),
        ("pair,grade,comment\np-1,E,\n\np-1,S,\n", r":4: p-1 stands in line 2 already"),
        ('pair,grade,comment\np-1,E,"open\n', r":2: expected CSV in UTF-8"),
        ("pair,grade,comment\np-1,e,\n", r":2: expected a grade of E, S, C, I, got 'e'"),
    ],
)
def test_bad_tables_are_named_by_line(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "review.csv"
    path.write_text(content, newline="")
    with pytest.raises(ReviewError, match=told):
        read(path, labels=LABELS, pairs={"p-1", "p-2"})


def test_other_bad_files_are_named(tmp_path: Path) -> None:
    latin = tmp_path / "latin.csv"
    latin.write_bytes(b"pair,grade,comment\np-1,E,caf\xe9\n")
    with pytest.raises(ReviewError, match=r"latin\.csv:\d: expected CSV in UTF-8"):
        read(latin, labels=LABELS, pairs={"p-1"})
    lines = tmp_path / "review.jsonl"
    save_jsonl(lines, [row()])
    lines.write_bytes(lines.read_bytes() + b'{"pair": "p-1"}\n')
    with pytest.raises(ReviewError, match=r"review\.jsonl:2: expected a row of a review file: .*`query`"):
        read(lines, labels=LABELS, pairs={"p-1"})
    with pytest.raises(ReviewError, match="No such file"):
        read(tmp_path / "none.csv", labels=LABELS, pairs=set())


def test_grades_not_read_in_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "review.csv"
    assert not_read_in(path, {}) == 0
    save_csv(path, [row(), row("p-2")], NAMES)
    fill(path, **{"p-1": "S", "p-2": "E"})
    assert not_read_in(path, {}) == 2
    assert (
        not_read_in(path, {"p-1": Review(grade="S", comment=""), "p-2": Review(grade="I", comment="")}) == 1
    )


@settings(deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    for prefix in (b"", b"pair,grade,comment\n"):
        for name in ("review.csv", "review.jsonl"):
            path = folder / name
            path.write_bytes(prefix + content)
            try:
                found = read(path, labels=LABELS, pairs={"p-1"})
            except ReviewError as error:
                assert str(path) in str(error)
            else:
                assert set(found) <= {"p-1"}
