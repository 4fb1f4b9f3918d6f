from __future__ import annotations

import json
from pathlib import Path

import pytest

from teacher.annotation.pairs import PairsError, read
from teacher.examples import ChainLine, Example, save
from teacher.policy import Verdict
from tests.teacher.annotation.samples import LABELS


def _file(folder: Path, *lines: object) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def _line(**changes: object) -> dict[str, object]:
    return {"query": "red mug", "item_id": "i1", "item_text": "Nova mug\nbrand: Nova", **changes}


def test_pairs_are_read_with_the_grades_of_people(tmp_path: Path) -> None:
    path = _file(tmp_path, _line(grade="S", source="esci"), _line(item_id="i2"))
    first, second = read(path, labels=LABELS).pairs
    assert (first.person_grade, first.source, second.person_grade) == ("S", "esci", None)
    assert first.key != second.key
    assert read(path, labels=LABELS, grades_known=False).pairs[0].person_grade is None


def test_a_file_of_examples_is_read_as_it_is(tmp_path: Path) -> None:
    line = ChainLine(subtask="brand", query_words="nova", item_words="Nova", verdict=Verdict.MATCH)
    example = Example(
        query="nova mug", item_id="i", item_text="Nova mug", grade="E", source="shop", chain=(line,)
    )
    save(tmp_path / "e.jsonl", [example])
    assert read(tmp_path / "e.jsonl", labels=LABELS).pairs[0].person_grade == "E"


def test_texts_are_cleaned(tmp_path: Path) -> None:
    found = read(
        _file(tmp_path, _line(query="red\u200b  \x1b[2Jmug", item_text="N\u043eva\tmug\n\n size: 1")),
        labels=LABELS,
    )
    assert (found.pairs[0].query, found.pairs[0].item_text) == ("red [2Jmug", "Nova mug\nsize: 1")


def test_repeats_are_counted_and_contradictions_refused(tmp_path: Path) -> None:
    found = read(_file(tmp_path, _line(), _line(), _line()), labels=LABELS)
    assert (len(found.pairs), found.duplicates) == (1, 2)
    with pytest.raises(
        PairsError, match=r"pairs\.jsonl:2: the pair of line 1 comes again with grade 'S' instead of 'E'"
    ):
        read(_file(tmp_path, _line(grade="E"), _line(grade="S")), labels=LABELS)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("no json", r"pairs\.jsonl:2: JSON is malformed"),
        ("\xff", r"pairs\.jsonl:2: "),
        ({"query": "x", "item_id": "i"}, "missing required field `item_text`"),
        (_line(grad="E"), "unknown field `grad`"),
        (_line(grade="Q"), "expected a grade of E, S, C, I, or none, got 'Q'"),
        (_line(query=" \u200b "), "expected query not to be empty"),
        (_line(item_text="\n"), "expected item_text not to be empty"),
        (_line(item_id=""), "expected item_id not to be empty"),
        ('{"query": "\\ud800", "item_id": "i", "item_text": "t"}', r"pairs\.jsonl:2: "),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: object, told: str) -> None:
    with pytest.raises(PairsError, match=told):
        read(_file(tmp_path, _line(), line), labels=LABELS)


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PairsError, match="No such file"):
        read(tmp_path / "none.jsonl", labels=LABELS)
    with pytest.raises(PairsError, match="at least one pair"):
        read(_file(tmp_path), labels=LABELS)
