"""The page of a pair in a real browser over a real server and the embedded ClickHouse."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from selenium.webdriver.common.by import By

from ops.settings import Settings
from ops.stack.ports import free_port
from tests.integration import dashboard_loop as made
from tests.integration.browser import Page, browsing, luminance, serving, too_wide
from tests.integration.dashboard_pages import (
    ATTACK,
    ATTACK_ITEM,
    ATTACK_QUERY,
    LONG_TITLE,
    app_of,
    cells,
    emptied,
    requested,
    rows_of,
    unnamed_or_unexplained,
    unreadable,
    until,
    visible,
)
from tests.integration.dashboard_traffic import HOSTILE_ITEM, HOSTILE_QUERY, Rows
from tests.integration.test_dashboard_teacher import marked, texts

pytestmark = pytest.mark.integration

END_MS = time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def store(embedded_client: Client) -> Iterator[Client]:
    yield emptied(embedded_client)
    emptied(embedded_client)


@pytest.fixture(scope="module")
def page(store: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    settings = Settings.model_validate({"run_dir": tmp_path_factory.mktemp("run"), "kafka": "127.0.0.1:1"})
    with (
        serving(app_of(store, settings), free_port()) as url,
        browsing(f"{url}why", tmp_path_factory.mktemp("profile")) as page,
    ):
        yield page


@pytest.fixture(scope="module")
def waiting(page: Page) -> dict[str, str]:
    """What the page says before there is any pair. Runs before any rows are made."""
    page.open()
    until(lambda: page.text("#list-table"), "the list to answer")
    said = {"list": page.text("#list-table"), "complaints": "\n".join(page.complaints())}
    page.open("#pair?query=no&item=such")
    until(lambda: "Loading" not in page.text("#one-note"), "the pair to answer")
    return said | {"pair": page.text("#one")}


@pytest.fixture(scope="module")
def rows(waiting: dict[str, str], store: Client) -> Rows:
    rows = rows_of(seed=2, end_ms=END_MS)
    made.insert(store, rows)
    return rows


@pytest.fixture
def shown(page: Page, rows: Rows) -> Page:
    """The page with the newest pairs, freshly opened."""
    page.prefer("light")
    page.resize(1280)
    page.open()
    until(lambda: "Choose a query" in page.text("#list-note"), "the list")
    page.complaints()
    return page


def look_for(page: Page, words: str) -> None:
    """Type words and wait until the list is that of these words."""
    page.driver.find_element(By.NAME, "q").send_keys(words)
    until(lambda: "q=" in page.driver.current_url, "the words in the address")
    until(lambda: page.text("#list-note") != "Loading …", "the list")


def choose(page: Page, query: str, item: str) -> None:
    """Choose a listed pair by its query and its item's id, and wait until the student was asked too."""
    script = (
        "const row = [...document.querySelectorAll('#list-table tbody tr')].find((row) =>"
        " row.cells[0].innerText === arguments[0] && row.cells[1].innerText.split('\\n').at(-1) === arguments[1]);"
        "row?.querySelector('a').click(); return Boolean(row)"
    )
    until(lambda: page.driver.execute_script(script, query, item), f"a row of {query} and {item}")
    until(lambda: page.text("#pair-head"), "the pair")
    until(lambda: "is asked" not in page.text("#pair-student"), "the student's answer")


def read(page: Page, query: str, item: str) -> None:
    """Look for a pair by its words and its item's id, and choose it."""
    look_for(page, f"{query} {item}")
    choose(page, query, item)


def judged_and_clicked(rows: Rows) -> dict[str, Any]:
    """Return a judgement that an update learned, of a pair that shoppers clicked and whose colour matched."""
    clicked = {(row["normalised_query"], row["item_id"]) for row in rows["clicks"]}
    learned = set(rows["student_updates"][0]["used"])
    return next(
        row
        for row in rows["judgements"]
        if (row["query"], row["item_id"]) in clicked and row["identity"] in learned and row["grade"] == "E"
    )


def events(rows: list[dict[str, Any]], query: str, item: str) -> list[dict[str, Any]]:
    return [row for row in rows if (row["normalised_query"], row["item_id"]) == (query, item)]


def with_words(listed: list[list[str]], *words: str) -> bool:
    """Tell whether there are pairs and each has all the words in its query or item."""
    return bool(listed) and all(word in f"{row[0]} {row[1]}".lower() for row in listed for word in words)


def test_before_there_is_any_pair_it_says_so(waiting: dict[str, str]) -> None:
    assert "Nothing was sampled or judged yet" in waiting["list"]
    assert waiting["complaints"] == ""
    assert "this pair was never shown, sampled or judged" in waiting["pair"]


def test_pairs_are_listed_and_found_by_words(shown: Page, rows: Rows) -> None:
    listed = cells(shown, "#list-table")
    assert len(listed) == 50
    assert {row[2].split()[0] for row in listed} == {"judged"}
    look_for(shown, "LAMP model 3")
    until(lambda: with_words(cells(shown, "#list-table"), "lamp", "model", "3"), "these words' pairs")
    found = cells(shown, "#list-table")
    assert "lamp model 3" in {row[0] for row in found}
    assert {row[2].split()[0] for row in found} >= {"judged", "shown"}
    for query, item, _, _, shows, *_ in found:
        assert shows == str(len(events(rows["impressions"], query, item.split("\n")[-1])))
    shown.driver.find_element(By.NAME, "q").send_keys(" that nobody asked for")
    until(lambda: shown.text("#list-table") == "No pair has all of these words.", "nothing")


def test_a_pair_is_shown_with_all_that_is_known_of_it(shown: Page, rows: Rows) -> None:
    judgement = judged_and_clicked(rows)
    query, item = judgement["query"], judgement["item_id"]
    read(shown, query, item)
    assert marked(shown, "Query") == [("blue", "match")]
    assert marked(shown, "Item") == [("blue", "match")]
    assert shown.text(".chain") == "colour: blue | blue | match\ngrade: E"
    shows, clicks = (events(rows[table], query, item) for table in ("impressions", "clicks"))
    tiles = shown.text("#pair-scores")
    assert f"Teacher's score\n{judgement['relevance_score']:.2f}" in tiles
    assert f"Impressions\n{len(shows)}\nClicks\n{len(clicks)}\n" in tiles
    versions = cells(shown, "#pair-versions")
    assert {row[0].split("\n")[0] for row in versions} == {row["student_version"] for row in shows}
    for name, score, _, _, impressions, clicked in versions:
        own = [row for row in shows if row["student_version"] == name.split("\n")[0]]
        assert float(score) == pytest.approx(sum(row["score"] for row in own) / len(own), abs=0.006)
        assert impressions == str(len(own))
        assert clicked == str(sum(row["student_version"] == name.split("\n")[0] for row in clicks))
    label = shown.run("return document.querySelector('#chart-pair').ariaLabel")
    assert label == f"Over time: {len(shows)} impressions, {len(clicks)} clicks."
    (sampled,) = cells(shown, "#pair-sampled")
    (row,) = [row for row in rows["sampled_pairs"] if (row["query"], row["item_id"]) == (query, item)]
    terms = [f"{row['reasons'][name]:.2f}" for name in ("tail", "uncertainty", "contradiction", "novelty")]
    assert sampled[2:] == [*terms, f"{row['priority']:.3f}"]
    learned = shown.text("#pair-learned")
    assert "interaction update 1" in learned
    assert "it passed the gate, version interaction-2" in learned
    assert shown.complaints() == []


def test_without_a_triton_a_plain_sentence_says_why_the_student_is_silent(shown: Page, rows: Rows) -> None:
    judgement = judged_and_clicked(rows)
    read(shown, judgement["query"], judgement["item_id"])
    said = shown.text("#student-away")
    assert said.startswith("The student can't be asked now: ")
    assert "Triton" in said
    assert said.endswith(".")
    assert texts(shown, "#student-choice option") == ["interaction-3 (treatment)", "interaction-1 (control)"]


def test_a_student_that_answers_shows_the_words_it_matched(
    shown: Page, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explain(
        settings: Settings, query: str, item: str, *, version: int, within_s: float
    ) -> dict[str, Any]:
        spans = [(query.index("blue"), "query", "match", 0.97), (item.index("blue"), "item", "match", 0.91)]
        spans.append((item.index("Norvik"), "item", "mismatch", 0.66))
        return {
            "student_version": f"interaction-{version}",
            "score": 0.734,
            "grades": {"E": 0.7, "S": 0.2, "<b>C</b>": 0.1},
            "spans": [
                {"start": start, "end": start + 4, "side": side, "verdict": verdict, "probability": sure}
                for start, side, verdict, sure in spans
            ],
        }

    monkeypatch.setattr("ops.scoring.explained.explain", explain)
    judgement = judged_and_clicked(rows)
    read(shown, judgement["query"], judgement["item_id"])
    said = shown.text("#pair-student")
    for words in ("score 0.734", "interaction-3", "✓ 97 %", "✓ 91 %", "✗ 66 %", "<b>C</b>", "70.0 %"):
        assert words in said
    shown.run(
        "const choice = document.querySelector('#student-choice select'); choice.value = '1';"
        "choice.dispatchEvent(new Event('change'))"
    )
    until(
        lambda: "interaction-1, asked just now" in shown.text("#pair-student"), "the other version's answer"
    )
    assert unreadable(shown) == []
    assert unnamed_or_unexplained(shown) == []


def test_a_pair_that_was_only_shown_says_what_is_not_known(shown: Page, rows: Rows) -> None:
    known = {(row["query"], row["item_id"]) for row in rows["sampled_pairs"]} | {
        (HOSTILE_QUERY, HOSTILE_ITEM)
    }
    items = {row["item_id"] for row in rows["sampled_pairs"]}
    shows = [
        row for row in rows["impressions"] if row["normalised_query"] == "coffee" and row["item_id"] in items
    ]
    row = next(row for row in shows if ("coffee", row["item_id"]) not in known)
    look_for(shown, "coffee")
    choose(shown, "coffee", row["item_id"])
    whole = shown.text("#pair")
    for words in ("The teacher has not judged this pair.", "It was not sampled.", "It was not judged."):
        assert words in whole
    assert "Norvik" in shown.text("section[aria-label=Item]")


def test_a_judgement_kept_for_the_gate_and_one_not_learned_yet_are_told_apart(
    shown: Page, rows: Rows
) -> None:
    by_name = {row["identity"]: row for row in rows["judgements"]}
    held = by_name[rows["student_updates"][0]["held_back"][0]]
    read(shown, held["query"], held["item_id"])
    assert "kept for the gate, not learned" in shown.text("#pair-learned")
    shown.open()
    look_for(shown, "erongi")
    choose(shown, visible(ATTACK_QUERY), visible(ATTACK_ITEM))
    assert "no update yet" in shown.text("#pair-learned")
    assert "It was not shown to a shopper." in shown.text("#h-shoppers + .two")


def test_what_strangers_wrote_stays_text(shown: Page) -> None:
    listed = cells(shown, "#list-table")
    assert [visible(ATTACK_QUERY), f"{visible(LONG_TITLE[:160])}\n{visible(ATTACK_ITEM)}"] in [
        row[:2] for row in listed
    ]
    choose(shown, visible(ATTACK_QUERY), visible(ATTACK_ITEM))
    read_as = shown.run(
        "return [...document.querySelector('section[aria-label=Item] .read').childNodes]"
        ".filter((node) => !node.classList?.contains('tag')).map((node) => node.textContent).join('')"
    )
    assert read_as == visible(LONG_TITLE)
    assert f"{ATTACK}: erongi | WWWW | mismatch" in shown.text(".chain")
    shown.click("#back")
    choose(shown, HOSTILE_QUERY, HOSTILE_ITEM)
    whole = shown.text("#pair")
    for words in (HOSTILE_QUERY, HOSTILE_ITEM, "<svg onload=x>", "<u>exact</u>", "<b>teacher</b>"):
        assert words in whole
    assert "</pre><script>document.title='owned'</script>⟨U+0000⟩⟨U+001B⟩[31m ⟨U+202E⟩" in shown.text(
        ".chain"
    )
    assert cells(shown, "#pair-versions")
    assert shown.driver.title == "Why · Relevance Loop"
    strange = "main img, main script, main svg[onload], main i, main u"
    assert shown.run(f"return document.querySelectorAll('{strange}').length") == 0
    assert shown.complaints() == []


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("query", ["", ATTACK_QUERY, HOSTILE_QUERY])
def test_it_can_be_read_in_both_colours_and_on_a_narrow_screen(shown: Page, query: str, colours: str) -> None:
    shown.prefer(colours)
    until(lambda: (luminance(shown) < 60) == (colours == "dark"), f"{colours} colours")
    if query:
        shown.click("#list-table tbody th a", visible(query))
        until(lambda: shown.text("#pair-head"), "the pair")
    until(lambda: unreadable(shown) == [], "every text to stand out")
    shown.resize(360, 740)
    assert too_wide(shown, 360) == []


def test_back_leads_to_the_list_as_it_was_and_an_address_to_the_pair(shown: Page, rows: Rows) -> None:
    look_for(shown, "lamp model 3")
    before = cells(shown, "#list-table")
    choose(shown, "lamp model 3", before[0][1].split("\n")[-1])
    address = shown.driver.current_url
    shown.click("#back")
    until(lambda: cells(shown, "#list-table") == before, "the same list")
    shown.driver.get("about:blank")
    shown.driver.get(address)
    until(lambda: "lamp model 3" in shown.text("#pair-head"), "the pair by its address")
    assert shown.text("#all") == ""


def test_it_asks_nobody_but_its_own_server_and_leads_to_the_other_pages(shown: Page, rows: Rows) -> None:
    requested(shown)
    judgement = judged_and_clicked(rows)
    query, item = judgement["query"], judgement["item_id"]
    read(shown, query, item)
    until(lambda: shown.run("return document.querySelectorAll('[data-drawn]').length"), "the chart")
    assert unnamed_or_unexplained(shown) == []
    shown.click("#pair-learned a")
    until(lambda: query in shown.text("#judgement"), "the judgement on the teacher's page")
    shown.click("#judgement a", "Why this score")
    until(lambda: query in shown.text("#pair-head"), "the pair again")
    shown.click("#pair-head a", "Events of this pair")
    until(lambda: "events of this query and item" in shown.text("#explore-note"), "the events")
    shown.click("#explore-table a", "Why this score")
    until(lambda: item in shown.text("#pair-head"), "the pair once more")
    asked = requested(shown)
    own = shown.url.removesuffix("why")
    assert {f"{own}static/pair.js", f"{own}static/judgements.js"} <= set(asked)
    assert [url for url in asked if not url.startswith((own, "data:", "about:"))] == []
    assert shown.complaints() == []
