"""A partition's batches: every record ends as rows or as a dead letter, and none disturbs another."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.attribution import Windows
from streams.frequency import QueryFrequency
from streams.ingestion import Outcome, RawRecord, ingest
from streams.pages import OpenPages
from streams.topics import UBI_EVENTS, UBI_QUERIES
from streams.ubi import Dialect, parse_event
from tests.streams.samples import NOW_MS, encode, event_record, query_record

WINDOWS = Windows(click_ms=1_800_000, conversion_ms=86_400_000, skew_ms=5_000, engagement_s=3600)


class Partition:
    """One partition's state, fed batch by batch."""

    def __init__(self) -> None:
        self.pages = OpenPages({}, conversion_ms=86_400_000, lateness_ms=600_000, max_pages=10_000)
        self.frequency = QueryFrequency(head_share=0.5, torso_share=0.3, window_s=3600, now_s=0)
        self.offset = 0

    def feed(self, *values: tuple[str, bytes | None]) -> Outcome:
        records = [
            RawRecord(topic, 0, self.offset + n, b"k", value) for n, (topic, value) in enumerate(values)
        ]
        self.offset += len(records)
        return ingest(
            records,
            pages=self.pages,
            frequency=self.frequency,
            dialect=Dialect(),
            windows=WINDOWS,
            now_ms=NOW_MS,
        )


def test_good_records_pass_among_bad_ones_and_bad_ones_are_kept_whole() -> None:
    outcome = Partition().feed(
        (UBI_QUERIES, encode(query_record())),
        (UBI_EVENTS, b"\xff broken"),
        (UBI_EVENTS, encode(event_record())),
        (UBI_EVENTS, None),
    )
    assert len(outcome.emitted.rows["impressions"]) == 1
    broken, empty = outcome.dead_letters
    assert (broken.value, broken.offset, broken.topic, broken.reason) == (
        b"\xff broken",
        1,
        UBI_EVENTS,
        "not_json",
    )
    assert (empty.value, empty.reason) == (None, "empty")


def test_state_reaches_over_batches() -> None:
    partition = Partition()
    partition.feed((UBI_QUERIES, encode(query_record())), (UBI_EVENTS, encode(event_record())))
    outcome = partition.feed((UBI_EVENTS, encode(event_record("click"))))
    assert outcome.emitted.rows["clicks"][0]["attribution"] == "impression"


def test_a_replayed_query_is_not_counted_again() -> None:
    partition = Partition()
    for _ in range(3):
        partition.feed((UBI_QUERIES, encode(query_record())))
    assert partition.frequency.estimate("red shoes") == 1


def test_a_fault_of_our_own_makes_one_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(value: bytes | None, **options: Any) -> Any:
        if value and b"trigger" in value:
            raise ZeroDivisionError("a fault")
        return parse_event(value, **options)

    monkeypatch.setattr("streams.ingestion.parse_event", faulty)
    outcome = Partition().feed(
        (UBI_EVENTS, encode(event_record(item="trigger"))), (UBI_EVENTS, encode(event_record(item="good")))
    )
    assert [letter.reason for letter in outcome.dead_letters] == ["internal"]
    assert [row["item_id"] for row in outcome.emitted.rows["impressions"]] == ["good"]


def test_events_without_a_query_id_are_typed_and_share_no_page() -> None:
    partition = Partition()
    outcome = partition.feed(
        (UBI_EVENTS, encode(event_record(query_id=None))),
        (UBI_EVENTS, encode(event_record("click", query_id=""))),
    )
    assert outcome.emitted.rows["clicks"][0]["attribution"] == "no_impression"
    assert len(partition.pages) == 0


def garbled(rng: random.Random) -> bytes:
    """Return a record spoiled in one of the ways seen in the field."""
    good = encode(event_record(rng.choice(["impression", "click", "purchase"]), item=f"i{rng.randrange(9)}"))
    kind = rng.randrange(8)
    if kind == 0:
        return good[: rng.randrange(len(good))]
    if kind == 1:
        return rng.randbytes(rng.randrange(200))
    if kind == 2:
        return good.replace(
            b"1767225600000", rng.choice([b"NaN", b"1e999", b'"soon"', b"99999999999999", b"-1"])
        )
    if kind == 3:
        return b"[" * rng.randrange(1, 20_000)
    if kind == 4:
        return encode(event_record(user_query="x" * rng.randrange(100_000)))
    if kind == 5:
        record = event_record()
        record[rng.choice(list(record))] = rng.choice([1, [], {}, None, True, 1e308, "\x00", "\u202e"])
        return encode(record)
    if kind == 6:
        at = rng.randrange(len(good))
        return good[:at] + bytes([rng.randrange(256)]) + good[at + 1 :]
    return json.dumps(event_record(), ensure_ascii=rng.random() < 0.5).encode("utf-16")


def test_ten_thousand_garbled_records_all_end_somewhere() -> None:
    rng = random.Random(11)
    partition = Partition()
    total = typed = dead = 0
    for _ in range(100):
        outcome = partition.feed(*[(rng.choice([UBI_EVENTS, UBI_QUERIES]), garbled(rng)) for _ in range(100)])
        total += 100
        dead += len(outcome.dead_letters)
        rows = outcome.emitted.rows
        typed += sum(len(rows.get(t, [])) for t in ("queries", "impressions", "interactions"))
        typed += len(
            {(row["event_id"], n) for t in ("clicks", "conversions") for n, row in enumerate(rows.get(t, []))}
        )
        assert all(letter.reason != "internal" for letter in outcome.dead_letters)
    assert dead > 5000
    assert typed >= total - dead


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=80), max_size=20))
def test_every_record_of_noise_is_a_dead_letter(values: list[bytes]) -> None:
    outcome = Partition().feed(*[(UBI_EVENTS, value) for value in values])
    assert [letter.value for letter in outcome.dead_letters] == values
