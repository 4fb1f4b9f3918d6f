"""What the tests of the loop's page and of a pair's page share: rows with attacks in them, and what a page shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

from clickhouse_connect.driver.client import Client
from starlette.applications import Starlette

from ops.dashboard.app import create_app
from ops.dashboard.lag import LagWatch
from ops.dashboard.source import Source
from ops.experiments.states import StateReader
from ops.settings import Settings
from streams.item_text import content_hash
from streams.records import Pair
from streams.rows import TABLES
from streams.sampling_memory import Drawn
from streams.sampling_worker import sampled_row
from students.gate.guards import Alarm
from students.incremental import lineage as lineages
from students.publishing.announcing import row_of
from tests.integration import browser
from tests.integration import dashboard_judgements as judged
from tests.integration import dashboard_loop as made
from tests.integration.browser import Page, Running
from tests.integration.dashboard_traffic import Rows

MINUTE_MS = 60_000
PATIENCE_S = 180
#: Views fill these from other tables.
FILLED = ("pair_events", "seen_queries")
ATTACK = "</script><img src=x onerror=\"document.title='owned'\">"
ATTACK_QUERY = f"{ATTACK} \u202eerongi\u200b"
ATTACK_ITEM = "<b>item</b>\u200f"
LONG_TITLE = (ATTACK + "\u202e" + "W" * 10_000)[:10_000]
ATTACK_KIND = "<i>kind</i>"

UNREADABLE = """
const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
const light = (colour) => {
  const [red, green, blue] = parts(colour).map((part) => linear(part / 255));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const ground = (node) => {
  const colour = getComputedStyle(node).backgroundColor;
  return parts(colour).length === 3 || !node.parentElement ? colour : ground(node.parentElement);
};
const contrast = (node) => {
  const look = getComputedStyle(node);
  const both = [node instanceof SVGElement ? look.fill : look.color, ground(node)].map(light).sort((a, b) => b - a);
  return (both[0] + 0.05) / (both[1] + 0.05);
};
const writes = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
const all = [...document.querySelectorAll('header *, main *')].filter((node) =>
  writes(node) && node.checkVisibility() && !node.closest('option, style, .bartext'));
const low = all.filter((node) => contrast(node) < 4.5);
return [all.length, low.map((node) => `${node.textContent}: ${contrast(node)}`)];
"""


UNNAMED_OR_UNEXPLAINED = """
const controls = [...document.querySelectorAll('button, input, select, a[href], progress')];
const numbers = [...document.querySelectorAll('.number, .figure')];
const bad = [
  ...controls.filter((node) => !node.hidden && !(node.textContent.trim() || node.ariaLabel || node.labels?.length)),
  ...numbers.filter((node) => !node.matches('[data-tip]') && !node.querySelector('[data-tip]')),
];
return bad.map((node) => node.outerHTML);
"""


def rows_of(*, seed: int, end_ms: int) -> Rows:
    """Make an hour of the loop, with a halted update at its end, a pair that expired, one that was refused, and
    attacks in every text."""
    rows = made.whole(seed=seed, searches=1500, end_ms=end_ms, halted=1)
    answered = {(row["query"], row["item_id"]) for row in rows["judgements"]}
    gone, refused = [row for row in rows["sampled_pairs"] if (row["query"], row["item_id"]) not in answered][
        :2
    ]
    gone["deadline"] = end_ms - 1
    key = {name: refused[name] for name in ("query", "item_id", "content_hash")}
    (refusal,) = judged.refusals(count=1, at_ms=refused["event_time"] + 1000)["teacher_refusals"]
    rows["teacher_refusals"].append(refusal | key)
    reasons = {"tail": 1.0, "uncertainty": 0.5, "contradiction": 0.5, "novelty": 1.0, "uniform": 0.0}
    pair = Pair(
        query=ATTACK_QUERY,
        item_id=ATTACK_ITEM,
        item_text=LONG_TITLE,
        content_hash=content_hash(LONG_TITLE),
        reasons=reasons | {"priority": 0.25},
        sampled_ms=end_ms - MINUTE_MS,
        deadline_ms=end_ms + 60 * MINUTE_MS,
        traffic_class="tail",
    )
    rows["sampled_pairs"].append(sampled_row(Drawn(pair=pair, tokens=500.0)))
    of = (ATTACK_QUERY, LONG_TITLE)
    attack = judged.judgement(
        query=ATTACK_QUERY,
        item_id=ATTACK_ITEM,
        item_text=LONG_TITLE,
        verdicts=[judged.verdict(ATTACK, "erongi", "WWWW", "mismatch", of=of)],
        judged_ms=end_ms - MINUTE_MS // 2,
    )
    rows["judgements"] += judged.rows([attack, judged.hostile(judged_ms=end_ms - MINUTE_MS)])["judgements"]
    alarm = Alarm(guard=ATTACK, why=ATTACK_QUERY)
    halted = made.update(1, outcome="halted", used=[], at_ms=end_ms, kind=ATTACK_KIND, alarms=[alarm])
    rows["student_updates"].append(lineages.row_of(halted, None))
    given = {"kind": ATTACK_KIND, "decision": ATTACK_QUERY, "champion": 0}
    rows["student_versions"].append(row_of(made.step(1, "published", 1, at_ms=end_ms - MINUTE_MS, **given)))
    return rows


def until(holds: Callable[[], Any], what: str) -> None:
    """Wait as long as a busy machine may take."""
    browser.until(holds, what, timeout_s=PATIENCE_S)


def emptied(client: Client) -> Client:
    for table in (*TABLES, *FILLED):
        client.command(f"TRUNCATE TABLE {table}")
    return client


def app_of(store: Client, settings: Settings) -> Starlette:
    source = Source(
        settings,
        report_client=store,
        flow_client=store,
        request_client=store,
        lag=LagWatch(settings, settings.kafka),
        states=cast(StateReader, Running()),
    )
    return create_app(settings, source)


def unreadable(page: Page) -> list[str]:
    """Return the texts whose contrast to what is behind them is below 4.5 (WCAG 2.1), those on bars aside."""
    seen, found = page.run(UNREADABLE)
    assert seen > 30
    return cast(list[str], found)


def cells(page: Page, selector: str) -> list[list[str]]:
    """Return a table's body as it is read."""
    script = (
        "return [...document.querySelectorAll(`${arguments[0]} tbody tr`)]"
        ".map((row) => [...row.cells].map((cell) => cell.innerText))"
    )
    return cast(list[list[str]], page.driver.execute_script(script, selector))


def requested(page: Page) -> list[str]:
    """Return the addresses that the browser asked for since the last call."""
    lines = cast(Any, page.driver).get_log("performance")
    messages = [json.loads(line["message"])["message"] for line in lines]
    return [
        each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"
    ]


def visible(text: str) -> str:
    """Write out the invisible characters of the attacks as the page does."""
    return "".join(f"⟨U+{ord(char):04X}⟩" if char in "\u202e\u200b\u200f" else char for char in text)


def drawn(page: Page) -> int:
    return cast(int, page.run("return document.querySelectorAll('[data-drawn]').length"))


def unnamed_or_unexplained(page: Page) -> list[str]:
    """Return the controls without a name and the numbers without an explanation."""
    return cast(list[str], page.run(UNNAMED_OR_UNEXPLAINED))
