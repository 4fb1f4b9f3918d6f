"""The teacher's page in a real browser over a real server and the embedded ClickHouse; rows on their way there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from selenium.webdriver.common.by import By
from starlette.applications import Starlette

from ops.clickhouse.publishing import connected, publish
from ops.settings import Settings
from ops.stack.ports import free_port
from streams.rows import TABLES
from teacher.rows import judgement_row, report_rows
from tests.integration import dashboard_judgements as made
from tests.integration import dashboard_traffic as traffic
from tests.integration.browser import Page, browsing, luminance, serving, too_wide, until
from tests.integration.dashboard_pages import app_of
from tests.integration.test_dashboard_process import Metrics

pytestmark = pytest.mark.integration

HOUR_MS = 3_600_000
MANY = 330
END_MS = time.time_ns() // 1_000_000
JUDGEMENTS = made.many(count=MANY, seed=1, start_ms=END_MS - 3 * HOUR_MS, end_ms=END_MS - 60_000)


@pytest.fixture(scope="module")
def store(embedded_client: Client) -> Client:
    for table in TABLES:
        embedded_client.command(f"TRUNCATE TABLE {table}")
    return embedded_client


@pytest.fixture(scope="module")
def app(store: Client, tmp_path_factory: pytest.TempPathFactory) -> Starlette:
    settings = Settings.model_validate({"run_dir": tmp_path_factory.mktemp("run"), "kafka": "127.0.0.1:1"})
    return app_of(store, settings)


@pytest.fixture(scope="module")
def page(app: Starlette, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with (
        serving(app, free_port()) as url,
        browsing(f"{url}teacher", tmp_path_factory.mktemp("profile")) as page,
    ):
        yield page


@pytest.fixture(scope="module")
def waiting(page: Page) -> dict[str, str]:
    """What the page says before anything was judged. Runs before any rows are made."""
    page.open()
    until(lambda: page.text("#connection").startswith("As of"), "the first figures")
    until(lambda: page.text("#list-table"), "the list to answer")
    return {name: page.text(name) for name in ("#figures", "#known", "#list-table", "#connection")}


@pytest.fixture(scope="module")
def rows(waiting: dict[str, str], store: Client) -> None:
    """Judgements over three hours, an attack, a kettle; refusals, reports; traffic for the attack's pair."""
    shop = traffic.make(
        experiment="ranking", seed=2, searches=500, start_ms=END_MS - HOUR_MS, end_ms=END_MS, uplift=0.2
    )
    traffic.insert(store, shop)
    judgements = [*JUDGEMENTS, made.hostile(judged_ms=END_MS - 30_000), made.kettle(judged_ms=END_MS)]
    made.insert(store, made.rows(judgements))
    made.insert(store, made.refusals(count=30, at_ms=END_MS))
    for kappa, at_ms in ((0.5, END_MS - 1), (0.68, END_MS)):
        report = report_rows(made.report(until_ms=END_MS, kappa=kappa), data_set="golden", made_ms=at_ms)
        made.insert(store, {"teacher_reports": report})


@pytest.fixture
def shown(page: Page, rows: None) -> Page:
    """The page with the list and its figures, freshly opened."""
    page.prefer("light")
    page.resize(1280)
    page.open()
    until(lambda: page.run("return document.querySelectorAll('#chart-mix[data-drawn]').length"), "the chart")
    until(lambda: "newest first" in page.text("#list-note"), "the list")
    page.complaints()
    return page


def read(page: Page, query: str) -> None:
    page.click("#list-table a", query)
    until(lambda: page.text(".one-head"), "the judgement")


def choose(page: Page, name: str, value: str) -> None:
    page.driver.execute_script(
        "const field = document.querySelector(`#filters [name=${arguments[0]}]`); field.value = arguments[1];"
        "field.dispatchEvent(new Event('change', {bubbles: true}))",
        name,
        value,
    )


def texts(page: Page, selector: str) -> list[str]:
    """Return the texts of all elements at one moment: the page may change between two questions."""
    script = "return [...document.querySelectorAll(arguments[0])].map((node) => node.textContent)"
    return cast(list[str], page.driver.execute_script(script, selector))


def queries(page: Page) -> list[str]:
    return texts(page, "#list-table tbody th a")


def marked(page: Page, where: str) -> list[tuple[str, str]]:
    """Return the marked pieces of a text and how they look."""
    script = (
        "return [...document.querySelectorAll(`section[aria-label=${arguments[0]}] mark`)]"
        ".map((mark) => [mark.textContent, mark.className])"
    )
    return [(text, look) for text, look in page.driver.execute_script(script, where)]


def test_before_anything_was_judged_it_says_how_to_begin(waiting: dict[str, str]) -> None:
    assert "relevance teacher judge" in waiting["#figures"]
    assert waiting["#known"] == ""
    assert "Nothing was judged yet" in waiting["#list-table"]


def test_it_shows_the_teachers_figures(shown: Page) -> None:
    figures = shown.text("#figures")
    assert f"Judgements\n{MANY + 2}" in figures
    assert "Prompt tokens\n520" in figures
    assert f"From the cache\n{430 / 520:.1%}".replace("%", " %") in figures
    assert f"Refused\n{30 / (30 + MANY + 2):.1%}".replace("%", " %") in figures
    assert "Price of 1,000\nnot set" in figures
    assert "no grade 20" in shown.text("#refusals")
    assert made.PROMPT in shown.text("#teachers")
    agreement = shown.text("#agreement")
    for words in ("golden", "0.680", "0.62 to 0.73", "0.934", "0.087", "0.031", "480 pairs of 120 queries"):
        assert words in agreement
    assert "grade mix is stable" in shown.text("#drift")
    label = shown.run("return document.querySelector('#chart-mix').ariaLabel")
    share = sum(each.grade == "E" for each in JUDGEMENTS) / (MANY + 2)
    assert f"E {100 * share:.0f} %" in label


def test_every_figure_of_a_report_can_be_read(shown: Page) -> None:
    shown.click("#agreement summary")
    until(lambda: "accuracy_<b>E</b>" in shown.text("#agreement details"), "all figures")
    assert "no query has two grades" in shown.text("#agreement details")


def test_a_judgement_is_read_beside_its_pair_with_the_evidence_highlighted(shown: Page) -> None:
    read(shown, made.QUERY)
    assert marked(shown, "Query") == [
        ("red", "match"),
        ("steel", "unstated"),
        ("kettle", "match"),
        ("1.7 litre", "mismatch"),
        ("norvik", "match"),
    ]
    assert marked(shown, "Item") == [
        ("Norvik", "match"),
        ("kettle", "match"),
        ("crimson", "match"),
        ("1 l", "mismatch"),
    ]
    item = shown.text("section[aria-label=Item]")
    assert "✗ size" in item
    assert "category: Kitchen / Drinks / Kettle" in item
    looks = shown.run(
        "return [...document.querySelectorAll('section[aria-label=Query] mark')]"
        ".map((mark) => getComputedStyle(mark).textDecorationStyle)"
    )
    assert looks == ["solid", "dotted", "solid", "wavy", "solid"]
    table = shown.text("#judgement table")
    assert "size ✗ mismatch 1.7 litre 1 l" in table
    assert "material ? unstated steel stainless\nnot in the text" in table
    assert shown.text(".chain").endswith("grade: S")
    assert "91.0 %" in shown.text(".bars .chosen")
    whole = shown.text("#judgement")
    for words in (
        "score 0.121",
        made.TEACHER,
        made.PROMPT,
        "520 tokens, 430 of them from the cache",
        "420 ms",
    ):
        assert words in whole
    assert "has not been shown" in whole


def test_a_judgement_has_an_address_and_back_leads_to_the_list_as_it_was(shown: Page) -> None:
    choose(shown, "grade", "S")
    until(lambda: set(texts(shown, "#list-table .grade")) == {"S"}, "only grade S")
    before = queries(shown)
    read(shown, made.QUERY)
    address = shown.driver.current_url
    shown.click("#back")
    until(lambda: queries(shown) == before, "the same list")
    assert shown.driver.find_element(By.NAME, "grade").get_property("value") == "S"
    shown.driver.get("about:blank")
    shown.driver.get(address)
    until(lambda: made.QUERY in shown.text("#judgement"), "the judgement by its address")
    assert shown.text("#all") == ""


def test_the_list_is_filtered_and_turned(shown: Page) -> None:
    everything = [each.query for each in reversed(JUDGEMENTS)]
    assert queries(shown)[2:] == everything[:48]
    shown.click("#older")
    until(lambda: queries(shown) == everything[48:98], "the next fifty")
    shown.click("#older")
    until(lambda: queries(shown) == everything[98:148], "the fifty after them")
    shown.click("#newest")
    until(lambda: queries(shown)[2:] == everything[:48], "the newest")
    choose(shown, "mismatch", "size")
    until(lambda: queries(shown) == [made.QUERY], "the one with another size")
    assert shown.text(".turn") == ""
    choose(shown, "mismatch", "")
    shown.driver.find_element(By.NAME, "q").send_keys("Blue LAMP")
    lamps = [query for query in everything if "blue lamp" in query]
    until(lambda: queries(shown) == lamps[:50], "blue lamps")
    choose(shown, "teacher", "qwen-7b")
    wanted = [each.query for each in reversed(JUDGEMENTS) if each.teacher_id == "qwen-7b"]
    until(lambda: queries(shown) == [query for query in wanted if "blue lamp" in query], "by one teacher")
    shown.driver.find_element(By.NAME, "q").send_keys(" that nobody asked for")
    until(lambda: "No judgement fits" in shown.text("#list-table"), "nothing")


def test_what_strangers_wrote_stays_text_and_wild_spans_break_nothing(shown: Page) -> None:
    assert traffic.HOSTILE_ITEM in shown.text("#list-table")
    read(shown, "onerror")
    whole = shown.text("#judgement")
    for words in (
        traffic.HOSTILE_QUERY,
        traffic.HOSTILE_ITEM,
        "<svg onload=x>",
        "<u>exact</u>",
        "<b>teacher</b>",
    ):
        assert words in whole
    assert "</pre><script>" in shown.text(".chain")
    assert "⟨U+0000⟩⟨U+001B⟩[31m ⟨U+202E⟩" in shown.text(".chain")
    given = made.hostile(judged_ms=0)
    text = "".join(
        shown.run(
            "return [...document.querySelector('section[aria-label=Item] .read').childNodes]"
            ".filter((node) => !node.classList?.contains('tag')).map((node) => node.textContent)"
        )
    )
    assert text.replace("⟨U+202E⟩", made.RIGHT_TO_LEFT) == given.item_text
    assert marked(shown, "Item")[0] == ("<sc", "match")
    assert marked(shown, "Item")[2] == ("t>do", "mismatch")
    assert shown.text("#judgement table").count("not in the text") == 4
    assert shown.driver.title == "Teacher · Relevance Loop"
    assert (
        shown.run(
            "return document.querySelectorAll('main img, main script, main svg[onload], main i').length"
        )
        == 0
    )
    assert shown.complaints() == []


def test_the_pairs_traffic_leads_to_its_events(shown: Page) -> None:
    read(shown, "onerror")
    shown.click("#judgement .facts a", "times")
    until(
        lambda: "events of this query and item" in shown.text("#explore-note"), "the events on the other page"
    )
    assert traffic.HOSTILE_QUERY in shown.text("#crumbs")


def test_both_pages_lead_to_each_other(shown: Page) -> None:
    shown.click(".pages a", "Experiment")
    until(lambda: shown.text("#h-arms"), "the experiment's page")
    shown.click(".pages a", "Teacher")
    until(lambda: shown.text("#h-list"), "the teacher's page")


def test_an_unknown_judgement_is_said(shown: Page) -> None:
    shown.open("#judgement?query=no&item=such&content=one&teacher=at&prompt=all")
    until(lambda: "no such judgement" in shown.text("#one-note"), "the note")
    shown.open("#judgement")
    until(lambda: "query: expected" in shown.text("#one-note"), "what is missing")


@pytest.mark.parametrize("query", ["", made.QUERY, "onerror"])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_a_narrow_screen_needs_no_sideways_scrolling(shown: Page, query: str, colours: str) -> None:
    shown.resize(360, 740)
    shown.prefer(colours)
    if query:
        read(shown, query)
    else:
        shown.open()
        until(lambda: shown.run("return document.querySelectorAll('[data-drawn]').length"), "the chart")
    until(lambda: (luminance(shown) < 60) == (colours == "dark"), f"{colours} colours")
    assert too_wide(shown, 360) == []


def contrast(page: Page, selector: str) -> float:
    """Return the contrast ratio of an element's text to its background (WCAG 2.1), both opaque."""
    colours = page.run(
        f"const look = getComputedStyle(document.querySelector('{selector}'));"
        "return [look.color, look.backgroundColor]"
    )

    def light(colour: str) -> float:
        parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((light(colour) for colour in colours), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_highlighted_text_can_be_read(shown: Page, colours: str) -> None:
    shown.prefer(colours)
    read(shown, made.QUERY)
    for look in ("match", "mismatch", "unstated"):
        assert contrast(shown, f"mark.{look}") >= 4.5


def test_controls_have_names_and_numbers_explain_themselves(shown: Page) -> None:
    nameless = (
        "return [...document.querySelectorAll('button, input, select, a[href], progress')].filter((node) => "
        "!node.hidden && !(node.textContent.trim() || node.ariaLabel || node.labels?.length))"
        ".map((node) => node.outerHTML)"
    )
    unexplained = (
        "return [...document.querySelectorAll('.number, .figure')]"
        ".filter((node) => !node.matches('[data-tip], .wrap') && !node.querySelector('[data-tip]'))"
        ".map((node) => node.outerHTML)"
    )
    for query in ("", made.QUERY):
        if query:
            read(shown, query)
        assert shown.run(nameless) == []
        assert shown.run(unexplained) == []


def test_it_asks_nobody_but_its_own_server_and_has_no_complaints(shown: Page) -> None:
    asked = cast(
        list[str], shown.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    )
    own = shown.url.removesuffix("teacher")
    assert len(asked) > 5
    assert [name for name in asked if not name.startswith((own, "data:"))] == []
    read(shown, made.QUERY)
    shown.click("#back")
    until(lambda: "newest first" in shown.text("#list-note"), "the list")
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
    assert f"Judgements\n{MANY + 2}" in shown.text("#figures")
    monkeypatch.undo()
    shown.click("#again")
    until(lambda: made.QUERY in queries(shown), "the list's recovery")
    until(lambda: shown.text("#connection").startswith("As of"), "the figures' recovery")


def test_published_rows_reach_the_page(broker: str, tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path, kafka=broker)
    given = [made.hostile(judged_ms=END_MS - 1), made.kettle(judged_ms=END_MS)]
    with connected(settings) as client:
        assert publish(client, "judgements", [judgement_row(each) for each in given]) == 2
        publish(client, "teacher_refusals", made.refusals(count=3, at_ms=END_MS)["teacher_refusals"])
        report = report_rows(made.report(until_ms=END_MS, kappa=0.6), data_set="golden", made_ms=END_MS)
        publish(client, "teacher_reports", report)
    metrics = Metrics(broker, tmp_path)
    try:
        metrics.wait_until_ready()
        deadline = time.monotonic() + 60
        value: dict[str, Any] = {}
        while not (value.get("all") and value["refusals"] and value["reports"]):
            assert time.monotonic() < deadline, f"expected judgements, refusals and a report, got {value}"
            time.sleep(0.5)
            value = httpx.get(f"{metrics.url}/api/teacher", timeout=30).raise_for_status().json()["value"]
        assert value["all"]["judgements"] == 2
        assert value["refusals"][0]["pairs"] == 2
        listed = (
            httpx.get(f"{metrics.url}/api/judgements", timeout=30).raise_for_status().json()["judgements"]
        )
        assert [row["query"] for row in listed] == [made.QUERY, traffic.HOSTILE_QUERY]
        dead = httpx.get(f"{metrics.url}/api/dead-letters", timeout=30).raise_for_status().json()
        assert dead == {"dead_letters": []}
    finally:
        metrics.process.kill()
        metrics.process.wait()
