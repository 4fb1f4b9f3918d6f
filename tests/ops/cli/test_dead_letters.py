"""Which dead letters are sent again, and how they are shown."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ops.cli import dead_letters
from ops.cli.dead_letters import MAX_RESENDS, Letter
from streams.dead_letters import DeadLetter, resent_count


def letter(offset: int, *, value: bytes = b"x", reason: str = "not_json", resent: int = 0) -> Letter:
    found = DeadLetter(
        topic="ubi.events",
        partition=0,
        offset=offset,
        reason=reason,
        detail="",
        key=b"k",
        value=value,
        at_ms=1,
        resent=resent,
    )
    return Letter(offset, found, [("trace", b"1")])


def test_equal_records_are_sent_once_by_the_one_resent_most() -> None:
    once, hopeless = dead_letters.to_send([letter(1), letter(2, resent=1), letter(3, value=b"y"), letter(4)])
    assert [found.offset for found in once] == [2, 3]
    assert hopeless == []


def test_a_record_that_always_comes_back_is_left() -> None:
    once, hopeless = dead_letters.to_send([letter(1), letter(2, resent=MAX_RESENDS)])
    assert once == []
    assert [found.offset for found in hopeless] == [2]


def test_the_count_travels_with_the_record() -> None:
    headers = dead_letters.resend_headers(letter(1, resent=1))
    assert headers[0] == ("trace", b"1")
    assert resent_count(headers) == 2


def test_letters_are_chosen_by_offset_or_reason() -> None:
    letters = [letter(1), letter(2, reason="no_time"), letter(3)]
    by_offset = dead_letters.chooser({3}, None)
    assert [found.offset for found in letters if by_offset(found)] == [3]
    by_reason = dead_letters.chooser(set(), "no_time")
    assert [found.offset for found in letters if by_reason(found)] == [2]
    assert all(map(dead_letters.chooser(set(), None), letters))


@given(st.binary())
def test_every_byte_is_shown_safely(content: bytes) -> None:
    assert dead_letters.escaped(content).isprintable()


def test_a_list_entry_is_json() -> None:
    shown = json.loads(json.dumps(dead_letters.as_dict(letter(5, value=b"\xff\xfe"))))
    assert shown["offset"] == 5
    assert shown["bytes"] == 2
