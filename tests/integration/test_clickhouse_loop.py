"""The pages of the loop and of a pair ask both engines: exact figures, lists without gaps, pairs found by words."""

from __future__ import annotations

import time

import pytest
from clickhouse_connect.driver.client import Client

from ops.clickhouse.migrate import migrate
from ops.dashboard import loop_view, pair_queries, pair_view, sampling_queries
from ops.dashboard.loop_view import LoopOverview
from ops.dashboard.sampling_queries import SampledRow
from ops.dashboard.teacher_queries import NEWEST
from ops.settings import Settings, Teacher
from streams.normalise import normalise_query
from tests.integration import dashboard_judgements as judged
from tests.integration import dashboard_loop as made
from tests.integration import dashboard_traffic as traffic
from tests.integration.clickhouse_engines import Engine
from tests.integration.dashboard_traffic import Rows

pytest_plugins = ["tests.integration.clickhouse_engines"]
pytestmark = pytest.mark.integration

HOUR_MS = 3_600_000
END_MS = time.time_ns() // 1_000_000
ROWS = made.whole(seed=1, searches=1500, end_ms=END_MS, halted=1)


@pytest.fixture
def store(engine: Engine) -> Client:
    client = engine.open()
    migrate(client)
    return client


@pytest.fixture
def rows(store: Client) -> Rows:
    """An hour of the loop, part of it inserted twice, as after a restart."""
    made.insert(store, ROWS)
    again = {table: lines[: len(lines) // 2] for table, lines in ROWS.items()}
    made.insert(store, again)
    return ROWS


def overview(client: Client) -> LoopOverview:
    return loop_view.overview(client, Settings(), now_ms=END_MS, parts=[], lag=[])


def listed(client: Client, **given: str) -> list[SampledRow]:
    """Return all sampled pairs that fit, by pages of 40."""
    asked = {"search": "", "traffic_class": "", "lane": "", "state": ""} | given
    found: list[SampledRow] = []
    before = NEWEST
    while page := sampling_queries.sampled(client, now_ms=END_MS, before=before, limit=40, **asked):  # type: ignore[arg-type]
        found += page
        before = (page[-1].at_ms, int(page[-1].id))
    return found


def test_before_anything_happened_all_is_empty(store: Client) -> None:
    found = overview(store)
    assert (found.versions, found.kept_back, found.alerts, found.groups, found.terms) == ([], [], [], [], [])
    assert (found.freshness.pairs, found.cost.judgements, found.cost_over_time.buckets) == (0, 0, [])
    assert listed(store) == []
    assert pair_queries.search(store, words="red", limit=10) == []
    assert pair_queries.search(store, words="", limit=10) == []
    assert pair_view.pair(store, query="red", item_id="i", prices=Teacher()) is None


def test_versions_and_updates_are_shown_with_what_became_of_them(store: Client, rows: Rows) -> None:
    found = overview(store)
    assert [(each.name, each.arm, each.state) for each in found.versions] == [
        ("interaction-4", "", "rolled_back"),
        ("interaction-3", "treatment", ""),
        ("interaction-2", "", "replaced"),
        ("interaction-1", "control", ""),
    ]
    assert [step.step for step in found.versions[0].steps] == ["published", "promoted", "rolled_back"]
    assert "CTR fell by 4.1 %" in found.versions[0].decision
    assert found.versions[1].ranges == {"relevance.judgements/0": (80, 120)}
    for each in found.versions:
        own = [row for row in rows["impressions"] if row["student_version"] == each.name]
        clicked = {row["impression_id"] for row in rows["clicks"] if row["student_version"] == each.name}
        assert (each.impressions, each.clicks) == (len(own), len(clicked))
    assert [(each.update_id, each.outcome) for each in found.kept_back] == [(5, "halted"), (2, "kept")]
    assert found.updates == {"passed": 3, "kept": 1, "doubted": 0, "halted": 1}
    (alert,) = found.alerts
    assert (alert.updates, [each.guard for each in alert.alarms]) == (1, ["disagreement"])


def test_freshness_is_that_of_the_pairs(store: Client, rows: Rows) -> None:
    found = overview(store).freshness
    learned = sum(len(row["used"]) for row in rows["student_updates"] if row["outcome"] != "halted")
    assert (found.pairs, found.served, found.whole) == (learned, learned, learned)
    by_name = {stage.name: stage for stage in found.stages}
    assert by_name["judged"].p50_s == made.JUDGED_AFTER_MS / 1000
    assert by_name["served"].p50_s == made.SERVED_AFTER_MS / 1000
    # Another impression of a pair may have come between the event that it was drawn from and its sampling.
    assert 0 < (by_name["sampled"].p95_s or 0) <= made.SAMPLED_AFTER_MS / 1000
    assert [stage.ahead for stage in found.stages] == [0] * 4


def test_a_shop_whose_clock_runs_ahead_is_said(store: Client) -> None:
    made.insert(store, made.whole(seed=2, searches=400, end_ms=END_MS, ahead_ms=2 * HOUR_MS))
    found = overview(store).freshness
    sampled = found.stages[0]
    assert (sampled.pairs, sampled.p50_s, found.whole, found.p50_s) == (0, None, 0, None)
    assert sampled.ahead == found.pairs > 0
    assert 2 * HOUR_MS / 1000 - made.SAMPLED_AFTER_MS / 1000 <= sampled.ahead_s <= 2 * HOUR_MS / 1000
    assert found.stages[1].p50_s == made.JUDGED_AFTER_MS / 1000


def test_history_that_was_loaded_counts_from_its_arrival(store: Client) -> None:
    made.insert(store, made.whole(seed=3, searches=400, end_ms=END_MS, ahead_ms=-5 * HOUR_MS))
    found = overview(store).freshness
    assert found.whole == found.pairs > 0
    assert 0 < (found.stages[0].p95_s or 0) <= made.SAMPLED_AFTER_MS / 1000


def test_sampled_pairs_are_counted_each_once_by_class_lane_and_fate(store: Client, rows: Rows) -> None:
    found = overview(store)
    sampled, answered = rows["sampled_pairs"], {(row["query"], row["item_id"]) for row in rows["judgements"]}
    for group in found.groups:
        own = [
            row
            for row in sampled
            if (row["traffic_class"], row["uniform"]) == (group.traffic_class, bool(group.uniform))
        ]
        judged_ones = sum((row["query"], row["item_id"]) in answered for row in own)
        assert (group.pairs, group.judged, group.waiting) == (len(own), judged_ones, len(own) - judged_ones)
        assert (group.refused, group.expired) == (0, 0)
    assert sum(group.pairs for group in found.groups) == len(sampled)
    assert sum(sum(counts) for counts in found.sampled.counts.values()) == len(sampled)
    middle = {(each.term, bool(each.uniform)): each for each in found.terms}
    assert set(middle) == {
        (term, uniform)
        for term in ("contradiction", "novelty", "priority", "tail", "uncertainty")
        for uniform in (False, True)
    }
    assert all(each.low <= each.middle <= each.high for each in found.terms)


def test_a_pair_past_its_deadline_is_expired_and_one_refused_is_refused(store: Client) -> None:
    rows = made.whole(seed=3, searches=400, end_ms=END_MS)
    judged_keys = {(row["query"], row["item_id"]) for row in rows["judgements"]}
    waiting = [row for row in rows["sampled_pairs"] if (row["query"], row["item_id"]) not in judged_keys]
    gone, refused = waiting[0], waiting[1]
    gone["deadline"] = END_MS - 1
    key = {name: refused[name] for name in ("query", "item_id", "content_hash")}
    (refusal,) = judged.refusals(count=1, at_ms=refused["event_time"] + 1000)["teacher_refusals"]
    made.insert(store, rows | {"teacher_refusals": [refusal | key]})
    assert [each.query for each in listed(store, state="expired")] == [gone["query"]]
    assert [each.query for each in listed(store, state="refused")] == [refused["query"]]
    states = [each.state for each in listed(store)]
    assert len(states) == len(rows["sampled_pairs"])
    assert states.count("waiting") == len(waiting) - 2


def test_the_list_of_sampled_pairs_has_no_gap_and_no_double(store: Client, rows: Rows) -> None:
    found = listed(store)
    assert len({each.id for each in found}) == len(found) == len(rows["sampled_pairs"])
    assert [each.at_ms for each in found] == sorted((each.at_ms for each in found), reverse=True)
    uniform = listed(store, lane="uniform")
    assert len(uniform) == sum(row["uniform"] for row in rows["sampled_pairs"])
    assert all(each.reasons["uniform"] == 1 for each in uniform)
    assert len(uniform) + len(listed(store, lane="priority")) == len(found)
    assert {each.traffic_class for each in listed(store, traffic_class="torso")} == {"torso"}
    assert {each.query for each in listed(store, search="LAMP model 3")} == {"lamp model 3"}
    assert listed(store, search="' OR 1 = 1 --") == []
    assert {each.grade for each in listed(store, state="judged")} == {"E", "S"}


def test_the_teachers_cost_is_the_sum_of_its_judgements(store: Client, rows: Rows) -> None:
    found = overview(store).cost
    judgements = rows["judgements"]
    assert (found.judgements, found.refusals) == (len(judgements), 12)
    assert found.prompt_tokens == sum(row["prompt_tokens"] for row in judgements)
    assert found.completion_tokens == sum(row["completion_tokens"] for row in judgements)
    assert found.last_ms == max(row["event_time"] for row in judgements)
    buckets = overview(store).cost_over_time.buckets
    assert sum(count for _, count, _ in buckets) == len(judgements)


@pytest.mark.parametrize("words", ["LAMP model 11", "model   lamp 11"])
def test_pairs_are_found_by_words_in_any_order_and_case(store: Client, rows: Rows, words: str) -> None:
    found = pair_queries.search(store, words=words, limit=100)
    shown = {row["item_id"] for row in rows["impressions"] if row["normalised_query"] == "lamp model 11"}
    assert {each.item_id for each in found if each.query == "lamp model 11"} == shown
    for each in found:
        text = f"{each.query} {each.item_id} {each.title}".casefold()
        assert all(word in text for word in words.casefold().split())
    assert [each.judged for each in found] == sorted((each.judged for each in found), reverse=True)
    for each in found:
        own = [
            row
            for row in rows["impressions"]
            if (row["normalised_query"], row["item_id"]) == (each.query, each.item_id)
        ]
        assert each.impressions == len(own)


def test_a_judged_pair_is_found_by_its_item_and_without_words_the_newest_are(
    store: Client, rows: Rows
) -> None:
    newest = max(rows["sampled_pairs"], key=lambda row: row["event_time"])
    by_title = pair_queries.search(store, words=f"norvik {newest['query']} {newest['item_id']}", limit=10)
    assert (newest["query"], newest["item_id"]) in {(each.query, each.item_id) for each in by_title}
    found = pair_queries.search(store, words="", limit=20)
    assert len(found) == 20
    assert all(each.judged or each.sampled for each in found)


@pytest.mark.parametrize(
    "words", ["%", "_", "'", "\\", "{words:String}", '<img src=x onerror="x">', "\u202e"]
)
def test_any_words_are_only_words(store: Client, rows: Rows, words: str) -> None:
    for each in pair_queries.search(store, words=words, limit=50):
        text = f"{each.query} {each.item_id} {each.title}".casefold()
        assert all(word in text for word in normalise_query(words).split())


def test_a_pair_is_shown_with_all_that_is_known_of_it(store: Client, rows: Rows) -> None:
    judgement = rows["judgements"][0]
    query, item = judgement["query"], judgement["item_id"]
    found = pair_view.pair(store, query=query.upper(), item_id=item, prices=Teacher())
    assert found is not None
    assert found.judgement is not None
    assert found.judgement.judgement.item_text == found.item_text == judgement["item_text"]
    assert [each.name for each in found.judgements] == [judgement["identity"]]
    (sampled,) = found.sampled
    assert sampled.reasons["priority"] == sampled.priority
    own = [row for row in rows["impressions"] if (row["normalised_query"], row["item_id"]) == (query, item)]
    assert sum(each.impressions for each in found.scores) == len(own)
    assert {each.student_version for each in found.scores} == {row["student_version"] for row in own}
    for each in found.scores:
        scores = [row["score"] for row in own if row["student_version"] == each.student_version]
        assert each.score == pytest.approx(sum(scores) / len(scores), abs=1e-3)
    assert sum(shown for _, shown, _ in found.over_time.buckets) == len(own)
    assert found.serving == {"control": 1, "treatment": 3}
    (lesson,) = found.lessons
    assert (lesson.update_id, lesson.outcome, lesson.student_version) == (1, "passed", "interaction-2")


def test_a_judgement_kept_for_the_gate_is_said_to_be(store: Client, rows: Rows) -> None:
    name = rows["student_updates"][0]["held_back"][0]
    (lesson,) = pair_queries.lessons_of(store, names=[name, ""])
    assert lesson.held_back
    assert pair_queries.lessons_of(store, names=[""]) == []


def test_a_pair_that_was_only_shown_has_no_text_and_no_judgement(store: Client) -> None:
    rows = made.shown(seed=5, searches=20, start_ms=END_MS - HOUR_MS, end_ms=END_MS)
    traffic.insert(store, rows)
    row = rows["impressions"][0]
    found = pair_view.pair(store, query=row["normalised_query"], item_id=row["item_id"], prices=Teacher())
    assert found is not None
    assert (found.judgement, found.item_text, found.sampled, found.lessons) == (None, "", [], [])
    assert found.serving == {}
    student = pair_view.student(store, Settings(), version=0, query=found.query, item_id=found.item_id)
    assert "text is not known" in student.away


def test_rows_from_before_these_tables_are_taken_over(engine: Engine) -> None:
    client = engine.open()
    migrate(client)
    for view in ("pair_impressions", "pair_clicks", "query_sightings"):
        client.command(f"DROP TABLE {view}")
    rows = made.shown(seed=5, searches=50, start_ms=END_MS - HOUR_MS, end_ms=END_MS)
    traffic.insert(client, rows)
    client.command("ALTER TABLE schema_versions DELETE WHERE version >= 8 SETTINGS mutations_sync = 1")
    assert [each.version for each in migrate(client)] >= [8, 9]
    counted = client.query(
        "SELECT countIf(kind = 'impression'), countIf(kind = 'click') FROM pair_events FINAL"
    )
    assert tuple(counted.result_rows[0]) == (len(rows["impressions"]), len(rows["clicks"]))
    queries = client.query("SELECT uniqExact(normalised_query) FROM seen_queries").result_rows[0][0]
    assert queries == len({row["normalised_query"] for row in rows["impressions"]})
