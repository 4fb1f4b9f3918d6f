"""The account of judgements: what updates took, held against the topic."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.bench.loop_faults import Account, Answers, account
from streams.judgement_identity import identity_of
from streams.records import Judgement
from students.grades import ESCI
from students.incremental.lineage import Lineage
from tests.students.incremental.lineage_samples import lineage
from tests.students.incremental.samples import judgements

NAME = "relevance.judgements/0"


def record(number: int, begin: int, end: int, used: Iterable[Judgement]) -> Lineage:
    return lineage(number, ranges={NAME: (begin, end)}, used=tuple(map(identity_of, used)))


def counted(records: list[Lineage], sent: list[Judgement | None], golden: frozenset[str]) -> Account:
    log = {
        (NAME, offset): None if each is None else msgspec.json.encode(each)
        for offset, each in enumerate(sent)
    }
    return account(records, log, scale=ESCI, golden=golden)


SENT = judgements(12, seed=1)


def test_all_is_well_where_each_was_taken_once() -> None:
    sent = [*SENT[:6], SENT[0], None, *SENT[6:]]
    records = [record(1, 0, 4, SENT[:4]), record(2, 4, 11, SENT[4:9])]
    found = counted(records, sent, frozenset())
    assert found == Account(in_topic=13, repeated=1, waiting=3, taken=9, twice=0, left_out=0, gaps=0)


@pytest.mark.parametrize(
    ("records", "twice", "left_out", "gaps"),
    [
        ([record(1, 0, 4, SENT[:4]), record(2, 4, 12, SENT[3:])], 1, 0, 0),
        ([record(1, 0, 4, SENT[:4]), record(2, 5, 12, SENT[5:])], 0, 1, 1),
        ([record(1, 0, 12, SENT[1:])], 0, 1, 0),
    ],
)
def test_what_is_used_twice_or_left_out_shows(
    records: list[Lineage], twice: int, left_out: int, gaps: int
) -> None:
    found = counted(records, list(SENT), frozenset())
    assert (found.twice, found.left_out, found.gaps) == (twice, left_out, gaps)


def test_golden_queries_are_no_loss() -> None:
    golden = frozenset({SENT[2].query})
    kept = [each for each in SENT if each.query not in golden]
    found = counted([record(1, 0, 12, kept)], list(SENT), golden)
    assert (found.left_out, found.taken) == (0, len(kept))


@given(st.sets(st.integers(0, 11)), st.integers(0, 12))
def test_each_judgement_is_taken_waits_or_is_left_out(dropped: set[int], end: int) -> None:
    used = [each for place, each in enumerate(SENT[:end]) if place not in dropped]
    found = counted([record(1, 0, end, used)] if end else [], list(SENT), frozenset())
    assert found.taken + found.waiting + found.left_out == found.in_topic == len(SENT)
    assert found.left_out == len({place for place in dropped if place < end})


def test_answers_are_told_from_a_moment_on() -> None:
    seen = Answers()
    seen.sources["a student"] += 3
    before = seen.copy()
    seen.sources.update({"a student": 2, "the fallback": 1})
    seen.errors.append("TimeoutError()")
    assert seen.since(before) == "3 queries (a student 2, the fallback 1), 1 failed"
