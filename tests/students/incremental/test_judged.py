from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.consumer.fetcher import ConsumerRecord

from streams.dead_letters import MAX_VALUE_BYTES
from streams.judgement_identity import identity_of
from streams.topics import JUDGEMENTS
from students.grades import ESCI
from students.incremental.judged import (
    RefusedError,
    dead_letter,
    is_held_out,
    read,
)
from tests.students.samples import judgement


def test_a_judgement_keeps_its_distribution_and_evidence() -> None:
    found = read(msgspec.json.encode(judgement()), ESCI)
    assert found.example.distribution == (0.1, 0.6, 0.2, 0.1)
    assert found.example.evidence
    assert (found.traffic_class, found.judged_ms, found.sampled_ms) == ("tail", 1, 0)
    assert found.identity == identity_of(judgement())


@pytest.mark.parametrize("name", ["query", "item_id", "content_hash", "teacher_id", "prompt_hash"])
def test_the_identity_is_of_all_five(name: str) -> None:
    assert identity_of(judgement()) != identity_of(msgspec.structs.replace(judgement(), **{name: "other"}))


def test_what_is_beside_the_identity_does_not_count() -> None:
    other = msgspec.structs.replace(judgement(), judged_ms=99, chain_of_thought="other", latency_ms=7)
    assert identity_of(other) == identity_of(judgement())


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "not_a_judgement"),
        (b"", "not_a_judgement"),
        (b"{broken", "not_a_judgement"),
        (b'{"query": "\xff"}', "not_a_judgement"),
        (b'{"query": "mug"}', "not_a_judgement"),
        (msgspec.json.encode(msgspec.structs.replace(judgement(), query="")), "cannot_be_learned_from"),
        (msgspec.json.encode(msgspec.structs.replace(judgement(), grade="X")), "cannot_be_learned_from"),
        (
            msgspec.json.encode(msgspec.structs.replace(judgement(), grades={"E": 1.0})),
            "cannot_be_learned_from",
        ),
        (
            msgspec.json.encode(msgspec.structs.replace(judgement(), item_text="other")),
            "cannot_be_learned_from",
        ),
    ],
)
def test_garbage_is_refused_with_a_reason(value: bytes | None, reason: str) -> None:
    with pytest.raises(RefusedError) as caught:
        read(value, ESCI)
    assert caught.value.reason == reason
    assert str(caught.value)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_no_bytes_do_anything_but_be_refused(value: bytes) -> None:
    with pytest.raises(RefusedError):
        read(value, ESCI)


def test_a_dead_letter_has_the_record_byte_for_byte_or_cut() -> None:
    record = ConsumerRecord(JUDGEMENTS, 2, None, 7, 0, 0, b"k", b"{broken", [("resent", b"1")], None, 1, 7, 1)
    letter = dead_letter(record, RefusedError("not_a_judgement", "why"), at_ms=5)
    assert (letter.topic, letter.partition, letter.offset, letter.value, letter.key, letter.resent) == (
        JUDGEMENTS,
        2,
        7,
        b"{broken",
        b"k",
        1,
    )
    long = record._replace(value=b"x" * (MAX_VALUE_BYTES + 5)) if hasattr(record, "_replace") else None
    if long is not None:
        cut = dead_letter(long, RefusedError("not_a_judgement", "why"), at_ms=5)
        assert cut.value is not None
        assert len(cut.value) == MAX_VALUE_BYTES
        assert cut.detail.startswith("(cut to")


@given(st.text(min_size=1, max_size=20))
def test_a_query_is_held_out_or_not_whatever_its_case(query: str) -> None:
    assert is_held_out(query, 0.3) == is_held_out(query.casefold(), 0.3)
    assert not is_held_out(query, 0.0)
    assert is_held_out(query, 1.0)


def test_the_held_out_share_is_the_settings() -> None:
    share = sum(is_held_out(f"query {number}", 0.2) for number in range(5000)) / 5000
    assert share == pytest.approx(0.2, abs=0.02)
