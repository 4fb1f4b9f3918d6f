"""Examples from judgements and graded pairs, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from streams.item_text import item_text
from students.examples import (
    ExampleError,
    LabelledPair,
    fingerprint,
    from_judgement,
    from_label,
    read,
    stripped,
)
from students.grades import ESCI, GradeError, GradeScale
from tests.students.samples import examples, judgement, verdict


def test_a_judgement_brings_all_streams() -> None:
    verdicts = [
        verdict("match", (0, 3), None),
        verdict("unstated", (0, 3), (0, 4)),
        verdict("mismatch", None, (5, 8)),
    ]
    found = from_judgement(judgement(verdicts=verdicts), ESCI)
    assert (found.grade, found.distribution) == ("S", (0.1, 0.6, 0.2, 0.1))
    assert found.evidence is not None
    assert [(each.side, each.begin, each.end, each.verdict) for each in found.evidence] == [
        ("query", 0, 3, "match"),
        ("item", 5, 8, "mismatch"),
    ]


def test_a_judgement_without_a_chain_has_no_evidence() -> None:
    assert from_judgement(judgement(verdicts=[]), ESCI).evidence is None


def test_a_graded_pair_has_its_grade_alone_and_its_query_is_cleaned() -> None:
    found = from_label(LabelledPair(query=" red\tkettle ", item_id="i", item_text="mug", grade="C"), ESCI)
    assert (found.query, found.grade, found.distribution, found.evidence) == ("red kettle", "C", None, None)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (judgement(query=""), "expected a query, got nothing"),
        (judgement(query="red\x00 kettle"), "expected a query cleaned"),
        (judgement(item_text=" "), "expected an item text, got nothing"),
        (judgement(item_text="mug\x07"), "it holds '\\x07'"),
        (judgement(item_text="\u202emug"), "it holds '\\u202e'"),
        (
            msgspec.structs.replace(judgement(), content_hash="0" * 16),
            "expected the item text that was judged",
        ),
        (judgement(grades={"E": 0.9, "S": 0.3, "C": 0.0, "I": 0.0}), "sum to 1"),
        (judgement(grades={"E": 1.5, "S": -0.5, "C": 0.0, "I": 0.0}), "sum to 1"),
        (judgement(grades={"E": float("nan"), "S": 0.5, "C": 0.5, "I": 0.0}), "sum to 1"),
        (judgement(grades={"E": 0.6, "S": 0.4}), "expected probabilities of E, S, C, I"),
        (msgspec.structs.replace(judgement(), grade="X"), "expected a grade among E, S, C, I, got 'X'"),
        (judgement(verdicts=[verdict("maybe", (0, 1), None)]), "expected a verdict among"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(made: object, told: str) -> None:
    assert isinstance(made, type(judgement()))
    with pytest.raises(ExampleError, match=re.escape(told)):
        from_judgement(made, ESCI)


@pytest.mark.parametrize(
    "title",
    ["word " * 10_000, "😀 kettle 👩‍👩‍👧", "קומקום אדום", "غلاية حمراء", "a\x00b\x1b[31m\u202ec"],
)
def test_any_title_that_item_text_made_is_an_example(title: str) -> None:
    text = item_text(title=title, brand=title)
    assert (
        from_label(LabelledPair(query="kettle", item_id="i", item_text=text, grade="E"), ESCI).item_text
        == text
    )


def test_a_file_may_hold_both_kinds(tmp_path: Path) -> None:
    file = tmp_path / "examples.jsonl"
    graded = {"query": "mug", "item_id": "i", "item_text": "mug", "grade": "E", "source": "people"}
    file.write_bytes(msgspec.json.encode(judgement()) + b"\n\n" + msgspec.json.encode(graded) + b"\n")
    found = list(read(file, ESCI))
    assert [each.distribution is None for each in found] == [False, True]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{", "truncated"),
        (b"[1]", "got list"),
        (b"\xff\xfe", "examples.jsonl:2"),
        (b'{"query": "a"}', "missing required field"),
        (b'{"grades": {}}', "missing required field"),
        (b'{"query": "a", "item_id": "i", "item_text": "b", "grade": "Z"}', "got 'Z'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, told: str) -> None:
    file = tmp_path / "examples.jsonl"
    file.write_bytes(msgspec.json.encode(judgement()) + b"\n" + line + b"\n")
    with pytest.raises(ExampleError, match=r"examples\.jsonl:2") as caught:
        list(read(file, ESCI))
    assert told in str(caught.value)


def test_streams_are_taken_away_by_name() -> None:
    given = examples(queries=1)
    assert {each.distribution is None for each in stripped(given, distribution=False, chain=True)} == {True}
    assert {each.evidence is None for each in stripped(given, distribution=True, chain=False)} == {True}
    assert stripped(given, distribution=True, chain=True) == given


def test_the_fingerprint_names_content_and_order() -> None:
    given = examples(queries=2)
    assert fingerprint(given) == fingerprint(list(given))
    assert fingerprint(given) != fingerprint(given[::-1])
    assert fingerprint(given) != fingerprint(stripped(given, distribution=False, chain=True))


@pytest.mark.parametrize(
    ("labels", "gains"),
    [
        (("E",), (1.0,)),
        (("E", "E"), (1.0, 0.0)),
        (("E", "I"), (0.0, 1.0)),
        (("E", "I"), (1.0,)),
        (("E", "I"), (2.0, 0.0)),
    ],
)
def test_a_scale_that_is_none_is_refused(labels: tuple[str, ...], gains: tuple[float, ...]) -> None:
    with pytest.raises(GradeError, match="expected"):
        GradeScale(labels=labels, gains=gains)
