"""Sampling over time: the budget, the cap, no pair twice, the uniform share, and what a restart leaves."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ops.settings import Sampling
from streams.item_text import content_hash
from streams.records import Pair
from streams.sampler import Sampler
from streams.sampling import lot
from tests.streams.sampling_samples import HOUR_MS, START_MS, item, judgement, sampling, window

SLOW = hypothesis_settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
#: Nothing set aside by lot.
ALL_BY_PRIORITY: dict[str, Any] = {"uniform_share": 0.0}


def pairs_of(sampler: Sampler, *, now_ms: int = START_MS, room: int = 1000) -> list[Pair]:
    return [drawn.pair for drawn in sampler.draw(now_ms=now_ms, room=room)]


def key(pair: Pair) -> tuple[str, str, str]:
    return pair.query, pair.item_id, pair.content_hash


def test_the_best_come_first_and_say_why(tmp_path: Path) -> None:
    with sampling(tmp_path, **ALL_BY_PRIORITY) as sampler:
        for one in ("a", "b", "c"):
            sampler.offer(item(one))
        sampler.observe(window("frequent", ("a", 0.5), searches=10_000))
        sampler.observe(window("rare", ("b", 0.5), ("c", 0.95), searches=1))
        first, second, third = pairs_of(sampler)
    assert [(pair.query, pair.item_id) for pair in (first, second, third)] == [
        ("rare", "b"),
        ("rare", "c"),
        ("frequent", "a"),
    ]
    assert first.item_text == "Title of b"
    assert first.content_hash == content_hash("Title of b")
    assert (first.sampled_ms, first.deadline_ms) == (START_MS, START_MS + HOUR_MS)
    terms = first.reasons
    assert set(terms) == {"tail", "uncertainty", "contradiction", "novelty", "priority", "uniform"}
    assert terms["priority"] == pytest.approx(
        terms["tail"] * terms["uncertainty"] * terms["contradiction"] * terms["novelty"]
    )
    # The second pair of a query is less new.
    assert terms["novelty"] == 1.0
    assert second.reasons["novelty"] == pytest.approx(2**-0.5)


def test_no_room_no_pairs(tmp_path: Path) -> None:
    with sampling(tmp_path, **ALL_BY_PRIORITY) as sampler:
        sampler.offer(item("a"))
        sampler.observe(window("q", ("a", 0.5)))
        assert pairs_of(sampler, room=0) == []
        assert "enough to do" in sampler.waits_for
        assert len(pairs_of(sampler, room=1)) == 1


def test_an_item_without_a_text_or_taken_out_is_not_asked(tmp_path: Path) -> None:
    with sampling(tmp_path, **ALL_BY_PRIORITY) as sampler:
        sampler.offer(item("gone"))
        sampler.take_out("gone", removed_ms=START_MS + 1)
        sampler.offer(item("gone", updated_ms=START_MS - 5))
        sampler.observe(window("q", ("gone", 0.5), ("unknown", 0.5)))
        assert pairs_of(sampler) == []
        assert sampler.counters["without_text"] == 2


def test_an_old_candidate_is_not_asked(tmp_path: Path) -> None:
    with sampling(tmp_path, **ALL_BY_PRIORITY) as sampler:
        sampler.offer(item("a"))
        sampler.observe(window("q", ("a", 0.5)))
        assert pairs_of(sampler, now_ms=START_MS + HOUR_MS + 1) == []
        assert sampler.counters["too_old"] == 1


def test_a_changed_text_and_another_teacher_are_asked_once_more(tmp_path: Path) -> None:
    with sampling(tmp_path, **ALL_BY_PRIORITY) as sampler:

        def asked(now_ms: int = START_MS) -> list[Pair]:
            sampler.observe(window("q", ("a", 0.5), at_ms=now_ms))
            return pairs_of(sampler, now_ms=now_ms)

        sampler.offer(item("a"))
        (first,) = asked()
        assert asked() == []
        # Asked before any teacher was known: that was this one.
        sampler.was_judged(judgement(first))
        assert asked() == []
        sampler.offer(item("a", "Another title", updated_ms=START_MS + 1))
        (second,) = asked()
        assert second.item_text == "Another title"
        sampler.was_judged(judgement(second, teacher_id="t2", at_ms=START_MS + 5))
        assert asked() == []
        # An older judgement, read later, is not of the teacher that judges now.
        sampler.was_judged(judgement(first, teacher_id="t1", at_ms=START_MS + 4))
        assert asked() == []
        sampler.offer(item("a", updated_ms=START_MS + 2))
        assert [pair.item_text for pair in asked()] == ["Title of a"]


def test_pairs_that_others_sent_are_not_sent_again(tmp_path: Path) -> None:
    with sampling(tmp_path, **ALL_BY_PRIORITY) as sampler:
        sampler.offer(item("a"))
        text = "Title of a"
        sampler.was_asked(
            Pair(
                query="q",
                item_id="a",
                item_text=text,
                content_hash=content_hash(text),
                reasons={"content_changed": 1.0},
                sampled_ms=START_MS,
                deadline_ms=START_MS,
            )
        )
        sampler.observe(window("q", ("a", 0.5)))
        assert pairs_of(sampler) == []


@SLOW
@given(st.integers(0, 2**32), st.integers(1, 4), st.sampled_from([0.0, 0.2]))
def test_budget_cap_and_no_pair_twice_over_hours_of_traffic_and_restarts(
    seed: int, cap: int, uniform_share: float
) -> None:
    rng = random.Random(seed)
    settings: dict[str, Any] = {
        "tokens_per_hour": 20_000,
        "uniform_share": uniform_share,
        "pairs_per_query_hour": cap,
        "tokens_per_judgement": 500,
    }
    sent: list[tuple[Pair, float]] = []
    now_ms = START_MS
    with TemporaryDirectory() as folder:
        for _ in range(3):
            with sampling(Path(folder), now_ms=now_ms, **settings) as sampler:
                for number in range(20):
                    sampler.offer(item(f"i{number}"))
                for _ in range(15):
                    now_ms += rng.randrange(15 * 60_000)
                    for _ in range(10):
                        shown = [(f"i{n}", rng.random()) for n in rng.sample(range(20), 6)]
                        query = f"q{int(rng.paretovariate(1)) % 25}"
                        sampler.observe(window(query, *shown, searches=rng.randrange(1, 50), at_ms=now_ms))
                    for drawn in sampler.draw(now_ms=now_ms, room=rng.randrange(40)):
                        sent.append((drawn.pair, drawn.tokens))
                        sampler.was_judged(
                            judgement(drawn.pair, tokens=rng.randrange(300, 700), at_ms=now_ms)
                        )
                        with sampler._memory.transaction():
                            sampler._memory.store_ledger(sampler.ledger())
    assert sent
    assert max(Counter(key(pair) for pair, _ in sent).values()) == 1
    for pair, _ in sent:
        hour = [
            (other, tokens)
            for other, tokens in sent
            if pair.sampled_ms <= other.sampled_ms < pair.sampled_ms + HOUR_MS
        ]
        assert sum(tokens for _, tokens in hour) <= 20_000 * (1 + 1e-9)
        by_query = Counter(other.query for other, _ in hour if not other.reasons["uniform"])
        assert max(by_query.values(), default=0) <= cap


def test_the_uniform_share_is_a_fair_draw_of_all_pairs(tmp_path: Path) -> None:
    """Half of the pairs are frequent and sure, which priority would never ask; of those drawn by lot they are half,
    however often they were shown."""
    settings: dict[str, Any] = {
        "tokens_per_hour": 2_000_000,
        "uniform_share": 0.1,
        "max_candidates": 20_000,
        "pairs_per_query_hour": 1000,
    }
    with sampling(tmp_path, **settings) as sampler:
        with sampler._memory.transaction():
            for number in range(50):
                sampler.offer(item(f"i{number}"))
        for query in range(200):
            shown = [(f"i{number}", 0.5) for number in range(50)]
            if query % 2:
                sampler.observe(window(f"frequent {query}", *((i, 1.0) for i, _ in shown), searches=10**6))
            sampler.observe(
                window(f"frequent {query}", *((i, 1.0) for i, _ in shown), searches=10**6)
                if query % 2
                else window(f"rare {query}", *shown)
            )
        drawn: list[Pair] = []
        now_ms = START_MS
        for _ in range(30):
            now_ms += 60_000
            drawn += pairs_of(sampler, now_ms=now_ms, room=10_000)
    uniform = [pair for pair in drawn if pair.reasons["uniform"]]
    best = [pair for pair in drawn if not pair.reasons["uniform"]]
    # Some 80 pairs: the standard deviation of the share is 0.056.
    assert len(uniform) >= 75
    assert sum(pair.query.startswith("rare") for pair in uniform) / len(uniform) == pytest.approx(
        0.5, abs=0.2
    )
    assert all(pair.query.startswith("rare") for pair in best)
    lots = [lot((pair.query, pair.item_id), seed=1) for pair in uniform]
    assert max(lots) < 0.1
    assert lots == sorted(lots)


def test_a_kill_between_drawing_and_sending_repeats_the_sending_and_not_the_price(tmp_path: Path) -> None:
    with sampling(tmp_path, **ALL_BY_PRIORITY) as sampler:
        sampler.offer(item("a"))
        sampler.observe(window("q", ("a", 0.5)))
        (drawn,) = sampler.draw(now_ms=START_MS, room=9)
        left = sampler._shares[0].tokens.tokens
    with sampling(tmp_path, **ALL_BY_PRIORITY) as sampler:
        assert [waiting for _, waiting in sampler._memory.waiting()] == [drawn]
        sampler.observe(window("q", ("a", 0.5)))
        assert pairs_of(sampler) == []
        assert sampler._shares[0].tokens.tokens == left
        sampler._memory.sent(number for number, _ in sampler._memory.waiting())
        assert sampler._memory.waiting() == []


def test_a_memory_that_is_something_else_says_so(tmp_path: Path) -> None:
    (tmp_path / "sampling.sqlite3").write_bytes(b"not a database, but long enough to be looked at" * 50)
    with pytest.raises(OSError, match=r"sampling\.sqlite3: file is not a database; moved away"):
        sampling(tmp_path).__enter__()


def test_a_budget_that_pays_for_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="expected at least 2000 tokens, got 1000"):
        Sampling.model_validate({"tokens_per_hour": 20_000, "uniform_share": 0.05})
