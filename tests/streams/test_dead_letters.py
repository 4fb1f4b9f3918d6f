"""Dead letters keep the original bytes and come back whole."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.dead_letters import PREVIEW_BYTES, DeadLetter, from_message, resent_count


def letter(
    value: bytes | None = b"x", *, key: bytes | None = b"k", detail: str = "why", resent: int = 0
) -> DeadLetter:
    return DeadLetter(
        topic="ubi.events",
        partition=3,
        offset=41,
        reason="not_json",
        detail=detail,
        key=key,
        value=value,
        at_ms=5,
        resent=resent,
    )


@given(
    value=st.none() | st.binary(),
    key=st.none() | st.binary(),
    detail=st.text(max_size=100),
    resent=st.integers(0, 9),
)
def test_the_trip_through_kafka_changes_nothing(
    value: bytes | None, key: bytes | None, detail: str, resent: int
) -> None:
    sent = letter(value, key=key, detail=detail, resent=resent)
    assert from_message(sent.headers(), key=key, value=value) == sent
    assert resent_count(sent.headers()) == resent


def test_the_row_holds_a_preview_of_large_values() -> None:
    row = letter(b"\xff" * 10_000).row()
    assert row["payload_bytes"] == 10_000
    assert base64.b64decode(row["payload_base64"]) == b"\xff" * PREVIEW_BYTES


@pytest.mark.parametrize("missing", ["source-topic", "source-offset", "reason"])
def test_a_record_that_is_no_dead_letter_is_refused(missing: str) -> None:
    headers = [header for header in letter().headers() if header[0] != missing]
    with pytest.raises(ValueError, match=missing):
        from_message(headers, key=None, value=b"x")


def test_a_nonsense_count_of_resends_counts_as_none() -> None:
    assert resent_count([("resent", b"many")]) == 0
