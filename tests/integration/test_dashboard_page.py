"""The page in a real browser over a real server and the embedded ClickHouse."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from starlette.applications import Starlette

from ops import heartbeat
from ops.dashboard.app import create_app
from ops.dashboard.lag import LagWatch
from ops.dashboard.source import Source
from ops.experiments.states import StateReader
from ops.settings import Settings
from ops.stack.ports import free_port
from streams.rows import TABLES
from tests.integration import dashboard_traffic as traffic
from tests.integration.browser import Page, Running, browsing, luminance, serving, too_wide, until
from tests.integration.dashboard_pages import drawn

pytestmark = pytest.mark.integration

HOUR_MS = 3_600_000
#: What a page first draws can take this long on a busy machine.
PATIENCE_S = 180


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def store(embedded_client: Client) -> Client:
    for table in TABLES:
        embedded_client.command(f"TRUNCATE TABLE {table}")
    return embedded_client


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings.model_validate({"run_dir": tmp_path_factory.mktemp("run"), "kafka": "127.0.0.1:1"})


@pytest.fixture(scope="module")
def app(settings: Settings, store: Client) -> Iterator[Starlette]:
    lag = LagWatch(settings, settings.kafka)
    source = Source(
        settings,
        report_client=store,
        flow_client=store,
        request_client=store,
        lag=lag,
        states=cast(StateReader, Running()),
    )
    lag.start()
    yield create_app(settings, source)
    lag.stop()


@pytest.fixture(scope="module")
def server(app: Starlette) -> Iterator[str]:
    with serving(app, free_port()) as url:
        yield url


@pytest.fixture(scope="module")
def page(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(server, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def waiting(page: Page) -> dict[str, str]:
    """What the page says before there is any event. Runs before any rows are made."""
    page.open()
    until(lambda: page.text("#connection") == "Live", "the page to be live", timeout_s=PATIENCE_S)
    until(lambda: "Waiting" not in page.text("#verdict"), "a first report", timeout_s=PATIENCE_S)
    until(lambda: page.text("#explore-table"), "the drill-down to answer", timeout_s=PATIENCE_S)
    return {
        name: page.text(name) for name in ("#metrics", "#explore-table", "#parts", "#dead-letters", "#totals")
    }


@pytest.fixture(scope="module")
def rows(waiting: dict[str, str], settings: Settings, store: Client) -> traffic.Rows:
    """Three hours of an experiment with an uplift of 20 % after a day without one; a few dead letters."""
    end_ms = now_ms()
    experiment = settings.experiment.name
    history = traffic.make(
        experiment=experiment,
        seed=1,
        searches=2000,
        start_ms=end_ms - 30 * HOUR_MS,
        end_ms=end_ms - 25 * HOUR_MS,
        uplift=0,
        history=True,
    )
    rows = traffic.make(
        experiment=experiment, seed=2, searches=8000, start_ms=end_ms - 3 * HOUR_MS, end_ms=end_ms, uplift=0.2
    )
    for made in (history, rows, traffic.dead_letters(count=30, at_ms=end_ms)):
        traffic.insert(store, made)
    for part in ("broker", "streams-1", "features", "metrics"):
        heartbeat.beat(
            settings.run_dir,
            heartbeat.Heartbeat(
                part=part,
                pid=1,
                at_s=time.time() + HOUR_MS / 1000,
                state="ready",
                detail="",
                counters={"events": 12},
            ),
        )
    return rows


@pytest.fixture
def shown(page: Page, rows: traffic.Rows) -> Page:
    """The page with figures and charts of these rows, freshly opened."""
    page.prefer("light")
    page.resize(1280)
    page.open()
    until(lambda: "%" in page.text("#metric-ctr .effect"), "an effect on CTR", timeout_s=PATIENCE_S)
    until(
        lambda: drawn(page) >= 5,
        "the charts",
        timeout_s=PATIENCE_S,
    )
    page.complaints()
    return page


def test_before_any_event_it_says_what_it_waits_for(waiting: dict[str, str]) -> None:
    assert "Not enough data yet" in waiting["#metrics"]
    assert "as soon as the shop sends events" in waiting["#explore-table"]
    assert "relevance up" in waiting["#parts"]
    assert "every record so far could be read" in waiting["#dead-letters"]
    assert "none" in waiting["#totals"]


def test_it_shows_each_arms_ctr_as_counted_from_the_rows(shown: Page, rows: traffic.Rows) -> None:
    seen = shown.text("#metric-ctr")
    for arm in ("control", "treatment"):
        impressions = sum(row["arms"]["ranking"] == arm for row in rows["impressions"])
        clicks = sum(row["arms"]["ranking"] == arm for row in rows["clicks"])
        assert f"{100 * clicks / impressions:.2f} %" in seen
    assert "treatment is better" in seen
    assert " to " in shown.text("#metric-ctr .range")


def test_it_says_who_wins_and_what_is_wrong(shown: Page) -> None:
    assert "CTR" in shown.text("#verdict")
    assert "treatment" in shown.text("#verdict").lower()
    health = shown.text("#health")
    assert "127.0.0.1:1" in health
    assert "look at this" in health


def test_it_shows_classes_guardrails_sample_ratio_parts_and_dead_letters(shown: Page) -> None:
    for words in ("head", "torso", "tail"):
        assert words in shown.text("#classes")
    assert "Slowest answers" in shown.text("#guardrails")
    assert "control" in shown.text("#sample-ratio")
    assert "streams-1" in shown.text("#parts")
    until(lambda: "not_json" in shown.text("#dead-letters"), "the reasons", timeout_s=PATIENCE_S)
    shown.click("#dead-letters button", "not_utf8")
    until(lambda: "ubi.events" in shown.text("#dead-letter-list"), "the newest dead letters")
    assert "<script>" in shown.text("#dead-letter-list")


def test_another_figure_can_be_chosen(shown: Page) -> None:
    shown.click("#metric-tabs button", "Revenue")
    until(lambda: shown.text(".capital").lower() == "revenue per shopper", "the other figure")
    assert shown.text("#metric-tabs [aria-pressed=true]") == "Revenue"


def test_new_events_show_without_a_reload(shown: Page, settings: Settings, store: Client) -> None:
    shown.run("window.untouched = true")
    before = shown.text("#totals")
    end_ms = now_ms()
    more = traffic.make(
        experiment=settings.experiment.name,
        seed=3,
        searches=500,
        start_ms=end_ms - 1000,
        end_ms=end_ms,
        uplift=0.2,
    )
    traffic.insert(store, more)
    until(lambda: shown.text("#totals") != before, "other totals", timeout_s=PATIENCE_S)
    queries = store.query("SELECT count() FROM queries FINAL").result_rows[0][0]
    tip = "return [...document.querySelectorAll('#totals .number')].map((n) => n.dataset.tip).join(' ')"
    until(
        lambda: f"{queries:,} searches" in shown.run(tip), "the new number of queries", timeout_s=PATIENCE_S
    )
    assert shown.run("return window.untouched") is True


def test_drill_down_from_an_arm_to_a_pairs_events_and_back(
    shown: Page, rows: traffic.Rows, store: Client
) -> None:
    shown.run(
        "const arm = document.querySelector('[name=arm]'); arm.value = 'treatment';"
        "arm.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    until(lambda: "Queries of treatment" in shown.text("#crumbs"), "the arm's queries")
    until(lambda: "queries shown" in shown.text("#explore-note"), "their table")
    shown.click("#explore-table button.link", "coffee")
    until(lambda: "items were shown" in shown.text("#explore-note"), "the query's items")
    assert "COEC" in shown.text("#explore-table thead")
    item = shown.text("#explore-table tbody button.link")
    shown.click("#explore-table tbody button.link", item)
    until(lambda: "events of this query and item" in shown.text("#explore-note"), "the pair's events")
    impressions = store.query(
        "SELECT count() FROM impressions FINAL WHERE normalised_query = 'coffee' AND item_id = {item:String} "
        "AND arms['ranking'] = 'treatment'",
        parameters={"item": item},
    ).result_rows[0][0]
    seen = len(shown.driver.find_elements(By.CSS_SELECTOR, "#explore-table tr.impression"))
    assert seen == impressions > 0
    assert "control" not in shown.text("#explore-table")
    shown.driver.back()
    until(lambda: "items were shown" in shown.text("#explore-note"), "the query's items again")


def test_queries_can_be_searched_and_sorted(shown: Page) -> None:
    shown.driver.find_element(By.NAME, "q").send_keys("LAMP model 1")
    until(lambda: "lamp model 11" in shown.text("#explore-table tbody"), "lamps")
    until(lambda: "coffee" not in shown.text("#explore-table tbody"), "nothing but lamps")
    shown.click("#explore-table button.sort", "CTR")
    until(lambda: shown.text("th[aria-sort=descending]").startswith("CTR"), "sorted by CTR")
    figures = [
        found.text
        for found in shown.driver.find_elements(By.CSS_SELECTOR, "#explore-table tbody td:nth-child(5)")
    ]
    shares = [float(figure.split()[0]) for figure in figures]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) == 3


def test_what_strangers_wrote_stays_text(shown: Page) -> None:
    until(lambda: traffic.HOSTILE_QUERY in shown.text("#explore-table"), "the hostile query")
    shown.click("#explore-table button.link", "onerror")
    until(lambda: "items were shown" in shown.text("#explore-note"), "its items")
    shown.click("#explore-table tbody button.link", "<script>")
    until(lambda: "events of this query and item" in shown.text("#explore-note"), "the pair's events")
    assert traffic.HOSTILE_QUERY in shown.text("#crumbs")
    assert traffic.HOSTILE_ITEM in shown.text("#crumbs")
    assert shown.driver.title == "Relevance Loop"
    assert shown.run("return document.querySelectorAll('main img, main script').length") == 0


@pytest.mark.parametrize(
    "place", ["", "#look?arm=treatment&query=coffee", "#look?query=coffee&item=item-00003"]
)
def test_a_narrow_screen_needs_no_sideways_scrolling(shown: Page, place: str) -> None:
    shown.resize(360, 740)
    shown.open(place)
    until(lambda: "%" in shown.text("#metric-ctr .effect"), "an effect on CTR", timeout_s=PATIENCE_S)
    until(
        lambda: drawn(shown) >= 5,
        "the charts",
        timeout_s=PATIENCE_S,
    )
    assert too_wide(shown, 360) == []


def test_dark_as_the_system_prefers_and_by_the_button(shown: Page) -> None:
    assert luminance(shown) > 200
    shown.prefer("dark")
    until(lambda: luminance(shown) < 60, "dark colours")
    shown.click("#theme")
    until(lambda: luminance(shown) > 200, "light colours by choice")
    shown.open()
    assert luminance(shown) > 200
    shown.run("localStorage.clear()")


def test_a_number_explains_itself_to_pointer_and_keyboard(shown: Page) -> None:
    shown.run("document.querySelector('#metric-ctr .effect').focus()")
    until(lambda: "relative difference" in shown.text("#tip"), "the explanation")
    assert shown.run("return document.activeElement.getAttribute('aria-describedby')") == "tip"
    shown.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    until(lambda: shown.text("#tip") == "", "the explanation gone")
    unexplained = (
        "return [...document.querySelectorAll('.number, .figure')]"
        ".filter((node) => !node.matches('[data-tip], .wrap') && !node.querySelector('[data-tip]'))"
        ".map((node) => node.outerHTML)"
    )
    assert shown.run(unexplained) == []


def test_focus_stays_where_it_is_while_numbers_change(shown: Page) -> None:
    shown.run("document.querySelector('#totals .number').focus(); window.held = document.activeElement")
    time.sleep(5)
    assert shown.run("return document.activeElement === window.held && window.held.isConnected") is True


def test_every_control_has_a_name(shown: Page) -> None:
    nameless = (
        "return [...document.querySelectorAll('button, input, select, a')].filter((node) => "
        "!(node.textContent.trim() || node.ariaLabel || node.labels?.length)).map((node) => node.outerHTML)"
    )
    assert shown.run(nameless) == []
    assert shown.run("return document.documentElement.lang") == "en"


def test_it_asks_nobody_but_its_own_server_and_has_no_complaints(shown: Page) -> None:
    asked = cast(
        list[str], shown.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    )
    assert len(asked) > 5
    assert [name for name in asked if not name.startswith((shown.url, "data:"))] == []
    shown.open("#look?query=coffee&item=item-00003")
    until(
        lambda: drawn(shown) >= 5,
        "the charts",
        timeout_s=PATIENCE_S,
    )
    assert shown.complaints() == []


def test_a_lost_connection_is_said_and_comes_back_by_itself(shown: Page, app: Starlette) -> None:
    port = free_port()
    home = shown.url
    try:
        with serving(app, port) as url:
            shown.url = url
            shown.open()
            until(lambda: shown.text("#connection") == "Live", "the page to be live", timeout_s=PATIENCE_S)
            shown.run("window.untouched = true")
        until(lambda: "Connection lost" in shown.text("#connection"), "the loss to be said")
        until(lambda: " s old" in shown.text("#connection"), "the age of the numbers")
        with serving(app, port):
            until(lambda: shown.text("#connection") == "Live", "the page to be live again")
            assert shown.run("return window.untouched") is True
    finally:
        shown.url = home
        shown.open()


def test_a_store_that_gives_no_answer_is_said_and_recovers(
    shown: Page, app: Starlette, store: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise DatabaseError("the store is down")

    until(lambda: shown.text("#connection") == "Live", "the page to be live", timeout_s=PATIENCE_S)
    monkeypatch.setattr(store, "query", fail)
    until(lambda: "the store is down" in shown.text("#health"), "the store's failure")
    assert "Not healthy" in shown.text("#health")
    shown.click("#again")
    until(lambda: "the store is down" in shown.text("#explore-note"), "the drill-down's failure")
    monkeypatch.undo()
    until(lambda: "the store is down" not in shown.text("#health"), "recovery")
    shown.click("#again")
    until(lambda: "coffee" in shown.text("#explore-table"), "the drill-down's recovery")
