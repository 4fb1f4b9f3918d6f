"""The teacher's page asks both engines: exact figures, a list without gaps or doubles, one judgement."""

from __future__ import annotations

import time

import msgspec
import pytest
from clickhouse_connect.driver.client import Client

from ops.clickhouse.migrate import migrate
from ops.dashboard import teacher_queries, teacher_view
from ops.dashboard.asking import BARS
from ops.dashboard.teacher_queries import JudgementRow
from ops.settings import Teacher
from streams.records import Judgement
from teacher.rows import report_rows
from tests.integration import dashboard_judgements as made
from tests.integration import dashboard_traffic as traffic
from tests.integration.clickhouse_engines import Engine

pytest_plugins = ["tests.integration.clickhouse_engines"]
pytestmark = pytest.mark.integration

HOUR_MS = 3_600_000
END_MS = time.time_ns() // 1_000_000


@pytest.fixture
def store(engine: Engine) -> Client:
    client = engine.open()
    migrate(client)
    return client


def listed(
    client: Client, *, search: str = "", grade: str = "", mismatch: str = "", teacher: str = ""
) -> list[JudgementRow]:
    return teacher_queries.judgements(
        client, search=search, grade=grade, mismatch=mismatch, teacher=teacher, limit=500
    )


def test_before_anything_was_judged_all_is_empty(store: Client) -> None:
    overview = teacher_view.overview(store, Teacher())
    assert (overview.all, overview.teachers, overview.mix, overview.drift) == (None, [], None, None)
    assert (overview.refusals, overview.reports) == ([], [])
    assert (overview.choices.grades, overview.choices.subtasks) == ([], [])
    assert listed(store) == []


def test_figures_are_those_of_the_judgements_each_once(store: Client) -> None:
    judgements = made.many(count=300, seed=3, start_ms=END_MS - 3 * HOUR_MS, end_ms=END_MS)
    made.insert(store, made.rows(judgements[:200]))
    # Some come twice, in another insert, as after a restart.
    made.insert(store, made.rows(judgements[100:]))
    made.insert(store, made.refusals(count=9, at_ms=END_MS))
    prices = Teacher(usd_per_million_prompt_tokens=1.0, usd_per_million_completion_tokens=2.0)
    overview = teacher_view.overview(store, prices)
    assert overview.all is not None
    assert overview.all.judgements == 300
    assert overview.all.quotes == sum(
        bool(v.query_words) + bool(v.item_words) for each in judgements for v in each.verdicts
    )
    assert overview.all.mean_score == pytest.approx(
        sum(each.relevance_score for each in judgements) / 300, rel=1e-5
    )
    seconds = sorted(each.latency_ms / 1000 for each in judgements)
    assert seconds[140] <= overview.all.p50_s <= seconds[160]
    assert seconds[275] <= overview.all.p95_s <= seconds[295]
    assert overview.cost.usd_per_1000_judgements == pytest.approx((520 + 2 * 61) / 1000)
    assert {(each.teacher_id, each.judgements) for each in overview.teachers} == {
        (name, sum(judgement.teacher_id == name for judgement in judgements))
        for name in ("relevance-teacher", "qwen-7b")
    }
    assert [(each.reason, each.pairs) for each in overview.refusals] == [("no_grade", 6), ("bad_line", 3)]
    assert overview.choices.grades == ["C", "E", "I", "S"]
    assert overview.choices.subtasks == ["colour"]
    assert overview.mix is not None
    assert overview.mix.grades[0] == "E"
    assert len(overview.mix.at_ms) <= BARS + 1
    assert {
        grade: sum(counts) for grade, counts in zip(overview.mix.grades, overview.mix.counts, strict=True)
    } == {grade: sum(judgement.grade == grade for judgement in judgements) for grade in "ESCI"}
    assert overview.drift is not None
    assert overview.drift.state == "stable"


def test_a_mix_that_moves_is_seen(store: Client) -> None:
    def of(grade: str, at_ms: int, name: str) -> list[Judgement]:
        return [
            made.judgement(verdicts=[], grade=grade, item_id=f"{name}-{n}", judged_ms=at_ms + n)
            for n in range(100)
        ]

    made.insert(store, made.rows([*of("E", END_MS - 50 * HOUR_MS, "old"), *of("I", END_MS - HOUR_MS, "new")]))
    drift = teacher_view.overview(store, Teacher()).drift
    assert drift is not None
    assert drift.state == "moved"
    assert drift.psi is not None
    assert drift.psi > 1


def test_the_list_is_turned_page_by_page_without_gaps_or_doubles(store: Client) -> None:
    judgements = made.many(count=250, seed=4, start_ms=END_MS - 40, end_ms=END_MS)
    made.insert(store, made.rows(judgements))
    seen: list[JudgementRow] = []
    before = teacher_queries.NEWEST
    for _ in range(9):
        rows = teacher_queries.judgements(
            store, search="", grade="", mismatch="", teacher="", before=before, limit=31
        )
        seen += rows
        before = (rows[-1].at_ms, int(rows[-1].id))
    assert len(rows) == 250 - 8 * 31
    assert [row.at_ms for row in seen] == sorted((each.judged_ms for each in judgements), reverse=True)
    assert {row.query for row in seen} == {each.query for each in judgements}
    assert len({row.id for row in seen}) == 250
    # Nearly all share their millisecond with others.
    assert len({row.at_ms for row in seen}) <= 40


def test_the_list_can_be_filtered(store: Client) -> None:
    judgements = made.many(count=200, seed=5, start_ms=END_MS - HOUR_MS, end_ms=END_MS)
    made.insert(store, made.rows([*judgements, made.kettle(judged_ms=END_MS)]))

    def wanted(**chosen: str) -> set[str]:
        return {row.query for row in listed(store, **chosen)}

    assert wanted(grade="S") == {each.query for each in judgements if each.grade == "S"} | {made.QUERY}
    assert wanted(mismatch="size") == {made.QUERY}
    assert wanted(mismatch="colour") == {
        each.query for each in judgements if each.verdicts[1].verdict == "mismatch"
    }
    assert wanted(teacher="qwen-7b") == {each.query for each in judgements if each.teacher_id == "qwen-7b"}
    assert wanted(search="NORVIK") == {made.QUERY}
    assert wanted(search="' OR 1=1 --") == set()
    (row,) = listed(store, search="kettle", grade="S")
    assert row.title == "Norvik Aalto kettle with gooseneck, crimson"
    assert (row.mismatches, row.unlocated) == (["size"], 1)


@pytest.mark.parametrize("kind", ["kettle", "hostile"])
def test_one_judgement_comes_back_as_it_was_given(store: Client, kind: str) -> None:
    given = (made.kettle if kind == "kettle" else made.hostile)(judged_ms=END_MS)
    made.insert(store, made.rows([given]))
    stored = teacher_queries.judgement(
        store,
        query=given.query,
        item_id=given.item_id,
        content_hash=given.content_hash,
        teacher_id=given.teacher_id,
        prompt_hash=given.prompt_hash,
    )
    assert stored is not None
    assert (stored.query, stored.item_text, stored.at_ms) == (given.query, given.item_text, END_MS)
    assert stored.chain_of_thought == given.chain_of_thought.replace("\ud800", "?")
    assert stored.grades == pytest.approx(given.grades)
    assert teacher_view.read_verdicts(stored.verdicts) == given.verdicts
    other = teacher_queries.judgement(
        store, query=given.query, item_id="other", content_hash="", teacher_id="", prompt_hash=""
    )
    assert other is None


def test_a_pairs_traffic_is_found_whatever_case_the_query_was_judged_in(store: Client) -> None:
    rows = traffic.make(
        experiment="ranking", seed=6, searches=300, start_ms=END_MS - HOUR_MS, end_ms=END_MS, uplift=0
    )
    traffic.insert(store, rows)
    shown = [
        row
        for row in rows["impressions"]
        if (row["normalised_query"], row["item_id"]) == ("coffee", "item-00003")
    ]
    ids = {row["event_id"] for row in shown}
    assert shown
    found = teacher_queries.pair_traffic(store, query=" COFFEE ", item_id="item-00003")
    assert found.normalised_query == "coffee"
    assert found.impressions == len(shown)
    assert found.clicks == sum(row["impression_id"] in ids for row in rows["clicks"])
    assert found.position == pytest.approx(sum(row["position"] for row in shown) / len(shown))
    nothing = teacher_queries.pair_traffic(store, query="coffee", item_id="other")
    assert (nothing.impressions, nothing.clicks, nothing.position) == (0, 0, 0)


def test_the_newest_report_of_each_data_set_is_shown_whole(store: Client) -> None:
    for data_set, kappa, at_ms in (("shop", 0.5, 1), ("shop", 0.7, 3), ("shop", 0.6, 2), ("esci", 0.4, 1)):
        rows = report_rows(
            made.report(until_ms=END_MS, kappa=kappa), data_set=data_set, made_ms=END_MS + at_ms
        )
        made.insert(store, {"teacher_reports": rows})
    figures = teacher_queries.newest_reports(store)
    kappas = {figure.data_set: figure for figure in figures if figure.metric == "kappa"}
    assert {name: figure.value for name, figure in kappas.items()} == {"shop": 0.7, "esci": 0.4}
    assert [kappas["shop"].low, kappas["shop"].high] == pytest.approx([0.64, 0.75])
    assert (kappas["shop"].n_pairs, kappas["shop"].n_queries) == (480, 120)
    (unknown,) = (f for f in figures if (f.data_set, f.metric) == ("shop", "ndcg_at_10"))
    assert (unknown.value, unknown.why) == (None, "no query has two grades")
    assert len(figures) == 2 * len(made.report(until_ms=1, kappa=1).figures)


def test_verdicts_that_are_none_and_texts_without_end_still_give_a_page(store: Client) -> None:
    given = made.kettle(judged_ms=END_MS)
    (row,) = made.rows([given])["judgements"]
    huge = "x" * 300_000
    made.insert(
        store, {"judgements": [row | {"verdicts": huge, "item_text": huge, "chain_of_thought": huge}]}
    )
    stored = teacher_queries.judgement(
        store,
        query=given.query,
        item_id=given.item_id,
        content_hash=given.content_hash,
        teacher_id=given.teacher_id,
        prompt_hash=given.prompt_hash,
    )
    assert stored is not None
    shown = teacher_view.view(
        stored,
        traffic=teacher_queries.pair_traffic(store, query=given.query, item_id=given.item_id),
        prices=Teacher(),
    )
    assert shown.unreadable
    assert len(msgspec.json.encode(shown)) < 100_000
    assert len(listed(store)[0].title) == teacher_queries.TITLE_CHARS
