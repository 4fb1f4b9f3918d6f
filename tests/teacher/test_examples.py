"""Examples in files, and their answers in the form that is read back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.item_text import item_text, query_text
from teacher.examples import ChainLine, Example, ExampleError, answer, read, save
from teacher.parsing import Chain, parse
from teacher.policy import Verdict, default
from teacher.prompt import MAX_WORDS_CHARS


def example(**values: object) -> Example:
    held = {"query": "red mug", "item_id": "i1", "item_text": "Nova mug", "grade": "S", "source": "test"}
    return Example(**(held | values))  # type: ignore[arg-type]


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    line = ChainLine(subtask="colour", query_words="red", item_words="", verdict=Verdict.UNSTATED)
    held = [example(), example(item_text="A\nbrand: B | <C>", chain=(line,), writer="person")]
    save(tmp_path / "new" / "examples.jsonl", held)
    assert list(read(tmp_path / "new" / "examples.jsonl")) == held


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"no json",
        b'{"query": 1}',
        b"\xff",
        b'{"query":"q","item_id":"i","item_text":"t","grade":"E","source":"s","more":1}',
        b'{"query":"q","item_id":"i","item_text":"t","grade":"E","source":"s",'
        b'"chain":[{"subtask":"a","query_words":"","item_words":"","verdict":"maybe"}]}',
    ],
)
def test_a_line_that_is_no_example_is_named(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "examples.jsonl"
    save(file, [example()])
    file.write_bytes(file.read_bytes() + line + b"\n")
    rows = read(file)
    assert next(rows) == example()
    with pytest.raises(ExampleError, match=r"examples\.jsonl:2: expected an example"):
        next(rows)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match=r"none\.jsonl"):
        list(read(tmp_path / "none.jsonl"))


subtasks = [subtask.name for subtask in default().subtasks]


@given(st.data())
def test_an_answer_is_read_back_as_it_was_meant(data: st.DataObject) -> None:
    query = query_text("red mug " + data.draw(st.text(max_size=60)))
    item = item_text(
        title="Nova mug " + data.draw(st.text(max_size=60)), brand=data.draw(st.text(max_size=20))
    )

    def quoted(text: str) -> str:
        start = data.draw(st.integers(0, len(text)))
        words = text[start : start + data.draw(st.integers(0, MAX_WORDS_CHARS))]
        # A lone dash stands for no words, so it cannot be quoted.
        return "" if (words := words.split("\n")[0].strip()) == "-" else words

    chosen = [name for name in subtasks if data.draw(st.booleans())]
    lines = [
        ChainLine(
            subtask=name,
            query_words=quoted(query),
            item_words=quoted(item),
            verdict=data.draw(st.sampled_from(Verdict)),
        )
        for name in chosen
    ]
    grade = data.draw(st.sampled_from(default().labels))
    chain = parse(answer(lines, grade), policy=default(), query=query, item_text=item)
    assert isinstance(chain, Chain)
    assert (chain.grade, chain.unlocated) == (grade, 0)
    told = [
        (verdict.subtask, verdict.query_words.lower(), verdict.item_words.lower(), verdict.verdict)
        for verdict in chain.verdicts
    ]
    assert told == [(x.subtask, x.query_words.lower(), x.item_words.lower(), x.verdict) for x in lines]
