"""The loop's page in a real browser over a real server and the embedded ClickHouse."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from selenium.webdriver.common.by import By

from ops import heartbeat
from ops.settings import Settings
from ops.stack.ports import free_port
from tests.integration import dashboard_loop as made
from tests.integration.browser import Page, browsing, luminance, serving, too_wide
from tests.integration.dashboard_pages import (
    ATTACK,
    ATTACK_QUERY,
    LONG_TITLE,
    app_of,
    cells,
    drawn,
    emptied,
    requested,
    rows_of,
    unnamed_or_unexplained,
    unreadable,
    until,
    visible,
)
from tests.integration.dashboard_traffic import HOSTILE_QUERY, Rows
from tests.integration.test_dashboard_teacher import choose, texts

pytestmark = pytest.mark.integration

END_MS = time.time_ns() // 1_000_000
PRICE = 2.5


@pytest.fixture(scope="module")
def store(embedded_client: Client) -> Iterator[Client]:
    yield emptied(embedded_client)
    emptied(embedded_client)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    price = {"usd_per_million_prompt_tokens": PRICE, "usd_per_million_completion_tokens": PRICE}
    given = {"run_dir": tmp_path_factory.mktemp("run"), "kafka": "127.0.0.1:1", "teacher": price}
    return Settings.model_validate(given)


@pytest.fixture(scope="module")
def page(store: Client, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with (
        serving(app_of(store, settings), free_port()) as url,
        browsing(f"{url}loop", tmp_path_factory.mktemp("profile")) as page,
    ):
        yield page


@pytest.fixture(scope="module")
def waiting(page: Page) -> dict[str, str]:
    """What the page says before anything happened. Runs before any rows are made."""
    page.open()
    until(lambda: page.text("#connection").startswith("As of"), "the first figures")
    until(lambda: page.text("#list-table"), "the list to answer")
    until(lambda: drawn(page) == 5, "the charts")
    names = ("#alerts", "#versions", "#kept-back", "#parts", "#groups", "#cost", "#list-table", "#figures")
    said = {name: page.text(name) for name in names}
    return said | {
        "stages": page.run("return document.querySelector('#chart-stages').ariaLabel"),
        "complaints": "\n".join(page.complaints()),
    }


@pytest.fixture(scope="module")
def rows(waiting: dict[str, str], store: Client, settings: Settings) -> Rows:
    rows = rows_of(seed=1, end_ms=END_MS)
    made.insert(store, rows)
    for part, ahead_s in (("sampler", 3600), ("teacher", 3600), ("trainer", -90), ("streams-1", 3600)):
        beat = heartbeat.Heartbeat(
            part=part,
            pid=1,
            at_s=time.time() + ahead_s,
            state="ready",
            detail="at work",
            counters={"pairs": 7},
        )
        heartbeat.beat(settings.run_dir, beat)
    return rows


@pytest.fixture
def shown(page: Page, rows: Rows) -> Page:
    """The page with its figures, charts and list, freshly opened."""
    page.prefer("light")
    page.resize(1280)
    page.open()
    until(lambda: "interaction-4" in page.text("#versions"), "the versions")
    until(lambda: drawn(page) == 5, "the charts")
    until(lambda: "newest first" in page.text("#list-note"), "the list")
    page.complaints()
    return page


def listed(page: Page) -> list[tuple[str, str]]:
    """Return query and item id of each listed pair, invisible characters written out."""
    return [(row[0], row[1].split("\n")[-1]) for row in cells(page, "#list-table")]


def pairs(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(visible(row["query"]), visible(row["item_id"])) for row in rows]


def test_before_anything_happened_it_says_how_to_begin(waiting: dict[str, str]) -> None:
    assert waiting["#alerts"] == ""
    assert "Treatment\nnone" in waiting["#figures"]
    assert "relevance students publish" in waiting["#versions"]
    assert waiting["#kept-back"] == "None so far."
    assert "relevance up" in waiting["#parts"]
    assert "Nothing was sampled yet" in waiting["#groups"]
    assert "Nothing was judged yet" in waiting["#cost"]
    assert waiting["#list-table"] == "Nothing was sampled yet."
    assert waiting["stages"] == "No pair has come all the way yet."
    assert waiting["complaints"] == ""


def test_versions_are_shown_with_the_gates_differences_and_what_became_of_them(
    shown: Page, rows: Rows
) -> None:
    attacked, fourth, third, second, first = cells(shown, "#versions-table")
    assert attacked[0] == "<i>kind</i>-1\nthe first"
    assert [row[1] for row in (fourth, third, second, first)] == [
        "rolled back",
        "treatment",
        "replaced by a newer one",
        "control\npinned",
    ]
    assert "CTR fell by 4.1 % (at least 1.2 %) since it was promoted." in fourth[2]
    assert fourth[3:6] == ["0.8760", "+0.0040\n−0.0020 to +0.0100", "+0.0210\n+0.0090 to +0.0330"]
    assert first[3:7] == ["–", "–", "–", "–"]
    learned = rows["student_updates"][3]["used"]
    assert fourth[6] == f"{len(learned)}\n{len(learned) + 1} repeated"
    for row, name in ((fourth, "interaction-4"), (third, "interaction-3"), (first, "interaction-1")):
        own = [each for each in rows["impressions"] if each["student_version"] == name]
        clicked = {each["impression_id"] for each in rows["clicks"] if each["student_version"] == name}
        assert row[7].endswith(f"CTR {100 * (len(clicked) / len(own)):.2f} %")
    label = shown.run("return document.querySelector('#chart-versions').ariaLabel")
    assert "interaction-3 scores treatment, interaction-1 scores control." in label
    figures = shown.text("#figures")
    for words in ("Treatment\ninteraction-3", "Control\ninteraction-1", "Versions\n5", "Updates\n6"):
        assert words in figures


def test_a_versions_steps_stay_open_while_figures_come_anew(shown: Page) -> None:
    shown.run("document.querySelectorAll('#versions summary')[1].click()")
    until(lambda: "Seen in all" in shown.text("#versions details[open]"), "the steps")
    before = shown.text("#connection")
    until(lambda: shown.text("#connection") not in (before, ""), "newer figures")
    steps = shown.text("#versions details[open]")
    for words in (
        "○ published: Update 4 passed the gate.",
        "▲ promoted: It waited for no other;",
        "✕ rolled back: CTR",
    ):
        assert words in steps
    for words in (
        "8.4 ms a pair, its champion 8.2 ms",
        "−0.0040, −0.0110 to +0.0030",
        "judgements/0 120 to 160",
    ):
        assert words in steps


def test_what_was_kept_back_and_why_publishing_stopped_is_said(shown: Page) -> None:
    alert = shown.text("#alerts .alert:nth-child(2)")
    assert "Publishing of the interaction student is stopped" in alert
    assert f"disagreement: {made.WHY_HALTED[0].upper()}{made.WHY_HALTED[1:]}." in alert
    _, halted, kept = cells(shown, "#kept-back-table")
    assert (halted[0].splitlines()[0], halted[1]) == ("interaction, update 5", "halted")
    assert (kept[0].splitlines()[0], kept[1]) == ("interaction, update 2", "kept")
    assert made.WHY_KEPT in kept[2].lower()
    assert kept[5] == "+0.0041\n−0.0079 to +0.0161"


def test_how_long_learning_takes_is_shown_stage_by_stage(shown: Page) -> None:
    sampled, judged_, trained, served, whole = cells(shown, "#stages")
    assert judged_[:3] == ["Sampled to judged", "20 s", "20 s"]
    assert served[:2] == ["Trained to served", "5 s"]
    assert 0 < int(sampled[1].removesuffix(" s")) <= made.SAMPLED_AFTER_MS / 1000
    shares = [int(row[3].removesuffix(" %")) for row in (sampled, judged_, trained, served)]
    assert abs(sum(shares) - 100) <= 2
    assert shares[2] == max(shares)
    assert whole[0] == "Event to served"
    label = shown.run("return document.querySelector('#chart-stages').ariaLabel")
    assert f"Judged to trained {shares[2]} %" in label
    assert "judged pairs were learned" in shown.text("#fresh-note")


def test_sampled_pairs_are_shown_with_their_reasons_and_what_became_of_them(shown: Page, rows: Rows) -> None:
    sampled = rows["sampled_pairs"]
    groups = {(row[0], row[1]): row[2] for row in cells(shown, "#groups")}
    for lane, uniform in (("by priority", False), ("by lot", True)):
        for name in ("head", "torso", "tail"):
            own = [row for row in sampled if (row["traffic_class"], row["uniform"]) == (name, uniform)]
            assert groups[lane, name] == str(len(own))
    newest = max(sampled[:-1], key=lambda row: row["event_time"])
    (row,) = [
        row
        for row in cells(shown, "#list-table")
        if row[0] == visible(newest["query"]) and row[1].endswith("\n" + newest["item_id"])
    ]
    reasons = newest["reasons"]
    assert row[4] == f"{reasons['priority']:.3f}"
    assert row[5:9] == [
        f"{reasons[name]:.2f}" for name in ("tail", "uncertainty", "contradiction", "novelty")
    ]
    label = shown.run("return document.querySelector('#chart-terms').ariaLabel")
    assert all(name in label for name in ("tail 0.", "uncertainty 0.", "contradiction 0.", "priority 0."))
    assert "tail" in shown.run("return document.querySelector('#chart-sampled').ariaLabel")


def test_what_the_teacher_costs_is_shown(shown: Page, rows: Rows) -> None:
    judgements = rows["judgements"]
    cost = shown.text("#cost")
    assert f"Judgements\n{len(judgements)}\n" in cost
    prompt = sum(row["prompt_tokens"] for row in judgements)
    answer = sum(row["completion_tokens"] for row in judgements)
    tips = shown.run(
        "return [...document.querySelectorAll('#cost [data-tip]')].map((node) => node.dataset.tip).join()"
    )
    assert f"{prompt:,} of prompts, {answer:,} of answers." in tips
    assert f"${PRICE * (prompt + answer) / 1e6:.2f}" in cost
    assert "13 answers" in cost


def test_parts_of_the_loop_and_no_others_are_shown(shown: Page) -> None:
    assert [row[:2] for row in cells(shown, "#parts")] == [
        ["sampler", "ready"],
        ["teacher", "ready"],
        ["trainer", "silent"],
    ]


def shows_only(page: Page, state: str) -> bool:
    return set(texts(page, "#list-table td .state")) == {state}


def test_the_list_of_sampled_pairs_is_filtered_and_turned(shown: Page, rows: Rows) -> None:
    ordered = sorted(rows["sampled_pairs"], key=lambda row: -row["event_time"])
    assert set(listed(shown)) == set(pairs(ordered[:50]))
    shown.click("#older")
    until(lambda: set(listed(shown)) == set(pairs(ordered[50:100])), "the next fifty")
    shown.click("#newest")
    until(lambda: set(listed(shown)) == set(pairs(ordered[:50])), "the newest")
    choose(shown, "lane", "uniform")
    lot = [row for row in ordered if row["uniform"]]
    until(lambda: set(listed(shown)) == set(pairs(lot[:50])), "those by lot")
    choose(shown, "class", "tail")
    until(
        lambda: set(listed(shown)) == set(pairs([row for row in lot if row["traffic_class"] == "tail"])),
        "rare ones",
    )
    shown.driver.back()
    until(lambda: set(listed(shown)) == set(pairs(lot[:50])), "the choice before")
    choose(shown, "lane", "")
    for state in ("expired", "refused"):
        choose(shown, "state", state)
        until(partial(shows_only, shown, state), state)
        assert len(listed(shown)) == 1
    choose(shown, "state", "judged")
    until(partial(shows_only, shown, "judged"), "judged ones")
    assert set(texts(shown, "#list-table .grade")) == {"E", "S"}
    shown.driver.find_element(By.NAME, "q").send_keys("LAMP model 3")
    until(lambda: {query for query, _ in listed(shown)} == {"lamp model 3"}, "lamps")
    shown.driver.find_element(By.NAME, "q").send_keys(" that nobody asked for")
    until(lambda: shown.text("#list-table") == "No pair fits this choice so far.", "nothing")


def test_what_strangers_wrote_stays_text(shown: Page) -> None:
    listing = cells(shown, "#list-table")
    (row,) = [row for row in listing if row[0] == visible(ATTACK_QUERY)]
    assert row[1] == f"{visible(LONG_TITLE[:160])}\n<b>item</b>⟨U+200F⟩"
    assert HOSTILE_QUERY in {row[0] for row in listing}
    alert = shown.text("#alerts .alert")
    assert "Publishing of the <i>kind</i> student is stopped" in alert
    assert f"{ATTACK}: {visible(ATTACK_QUERY)}" in alert
    assert f"{visible(ATTACK_QUERY)}." in cells(shown, "#versions-table")[0][2]
    assert "another" in shown.text("#chart-versions")
    assert shown.driver.title == "Loop · Relevance Loop"
    assert (
        shown.run("return document.querySelectorAll('main img, main script, main i, main td b').length") == 0
    )
    assert shown.complaints() == []


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_it_can_be_read_in_both_colours_and_on_a_narrow_screen(shown: Page, colours: str) -> None:
    shown.prefer(colours)
    until(lambda: (luminance(shown) < 60) == (colours == "dark"), f"{colours} colours")
    until(lambda: unreadable(shown) == [], "every text to stand out")
    shown.resize(360, 740)
    shown.open()
    until(lambda: drawn(shown) == 5, "the charts")
    until(lambda: shown.text("#list-table table"), "the list")
    assert too_wide(shown, 360) == []


def test_controls_have_names_and_numbers_explain_themselves(shown: Page) -> None:
    assert shown.run("return document.querySelectorAll('.number, .figure').length") > 100
    assert unnamed_or_unexplained(shown) == []


def test_it_asks_nobody_but_its_own_server_and_leads_to_why(shown: Page, rows: Rows) -> None:
    requested(shown)
    shown.open()
    until(lambda: "newest first" in shown.text("#list-note"), "the list")
    until(lambda: drawn(shown) == 5, "the charts")
    query, item = listed(shown)[0]
    shown.click("#list-table tbody th a", query)
    until(lambda: query in shown.text("#pair-head"), "the pair")
    assert item in shown.text("#pair-head")
    asked = requested(shown)
    own = shown.url.removesuffix("loop")
    assert {f"{own}api/loop", f"{own}static/loop.js", f"{own}static/why.js"} <= {
        url.partition("?")[0] for url in asked
    }
    assert [url for url in asked if not url.startswith((own, "data:", "about:"))] == []
    assert shown.complaints() == []


def test_a_store_that_gives_no_answer_is_said_and_recovers(
    shown: Page, store: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise DatabaseError("the store is down")

    monkeypatch.setattr(store, "query", fail)
    shown.click("#again")
    until(lambda: "the store is down" in shown.text("#list-note"), "the list's failure")
    until(lambda: "the store is down" in shown.text("#connection"), "the figures' failure")
    assert "interaction-4" in shown.text("#versions")
    monkeypatch.undo()
    shown.click("#again")
    until(lambda: "newest first" in shown.text("#list-note"), "the list's recovery")
    until(lambda: shown.text("#connection").startswith("As of"), "the figures' recovery")
