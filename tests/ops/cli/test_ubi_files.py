"""Reading UBI files for replay: bytes as they are, topics by content."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.cli.context import CommandError
from ops.cli.ubi_files import MAX_LINE_BYTES, UbiFile, classify, topic_by_name
from streams.topics import UBI_EVENTS, UBI_QUERIES

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def lines_of(path: Path) -> list[tuple[int, bytes | None]]:
    file = UbiFile(path)
    try:
        return [(line.number, line.value) for line in file]
    finally:
        file.close()


@pytest.mark.parametrize("compress", [False, True])
def test_lines_are_read_unchanged_and_blank_ones_left_out(tmp_path: Path, compress: bool) -> None:
    content = b'{"a": 1}\n\n  \n{"b" : 2}\r\n\xff\x00 no json\nlast'
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(content) if compress else content)
    expected = [(1, b'{"a": 1}'), (4, b'{"b" : 2}'), (5, b"\xff\x00 no json"), (6, b"last")]
    assert lines_of(path) == expected


@given(
    st.lists(st.binary(min_size=1).filter(lambda b: b.strip() and b"\n" not in b and not b.endswith(b"\r")))
)
def test_any_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("ubi") / "file"
    path.write_bytes(b"\n".join(lines))
    # Two bytes of a line may look like gzip's beginning.
    if path.read_bytes()[:2] != b"\x1f\x8b":
        assert [value for _, value in lines_of(path)] == lines


def test_too_long_lines_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "file"
    longest, too_long = b"a" * MAX_LINE_BYTES, b"b" * (MAX_LINE_BYTES + 1)
    huge = b"c" * (3 * MAX_LINE_BYTES)
    path.write_bytes(b"\n".join([longest, too_long, huge, b"end"]) + b"\n")
    assert lines_of(path) == [(1, longest), (2, None), (3, None), (4, b"end")]


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_the_longest_line_does_not_depend_on_its_ending(tmp_path: Path, ending: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * MAX_LINE_BYTES + ending)
    assert lines_of(path) == [(1, b"a" * MAX_LINE_BYTES)]
    path.write_bytes(b"a" * (MAX_LINE_BYTES + 1) + ending)
    assert lines_of(path) == [(1, None)]


def test_a_damaged_gzip_says_where(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(gzip.compress(b"{}\n" * 10_000)[:-20])
    with pytest.raises(CommandError, match="damaged gzip after line"):
        lines_of(path)


def test_a_name_that_promises_gzip_is_held_to_it(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(b"{}")
    with pytest.raises(CommandError, match="expected gzip"):
        UbiFile(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        UbiFile(tmp_path / "nothing")


def test_events_have_an_action_and_queries_have_none() -> None:
    event = classify(b'{"action_name": "click", "query_id": "q1", "application": "a"}', otherwise=UBI_QUERIES)
    assert (event.topic, event.key, event.application) == (UBI_EVENTS, b"q1", "a")
    query = classify(b'{"query_id": "q1", "user_query": "shoes"}', otherwise=UBI_EVENTS)
    assert (query.topic, query.key) == (UBI_QUERIES, b"q1")


@pytest.mark.parametrize(
    "value", [b"", b"[1]", b"{", b"\xff", b"nul", b"[" * 100_000, b'{"query_id": "\xff"}']
)
def test_what_is_no_object_goes_where_its_file_says(value: bytes) -> None:
    record = classify(value, otherwise=UBI_QUERIES)
    assert (record.topic, record.key, record.readable) == (UBI_QUERIES, None, False)


@pytest.mark.parametrize("query_id", [None, 7, "", [], {}])
def test_an_id_that_is_no_text_is_no_key(query_id: object) -> None:
    record = classify(json.dumps({"query_id": query_id}).encode(), otherwise=UBI_EVENTS)
    assert record.key is None
    assert record.readable


@given(st.dictionaries(st.sampled_from(["action_name", "query_id", "application", "x"]), JSON))
def test_any_object_has_a_topic(value: dict[str, object]) -> None:
    record = classify(json.dumps(value).encode(), otherwise="other")
    assert record.topic == (UBI_EVENTS if "action_name" in value else UBI_QUERIES)


def test_file_names_decide_only_where_nothing_else_does() -> None:
    assert topic_by_name(Path("my_queries.jsonl")) == UBI_QUERIES
    assert topic_by_name(Path("clicks.jsonl")) == UBI_EVENTS
