"""The experiment's report against the embedded ClickHouse: the figures of plain Python, and every edge."""

from __future__ import annotations

import json
import math
import random
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import numpy as np
import pytest
from clickhouse_connect.driver.client import Client
from kafka import TopicPartition

from ops import kafka
from ops.experiments import aggregates
from ops.experiments.aggregates import ALL_TRAFFIC, VARIABLES, Looks, Window
from ops.experiments.report import ExperimentReport, experiment_report, render_text
from ops.experiments.states import StateReader, publish, watch
from ops.settings import Settings
from streams.records import ExperimentState
from streams.rows import NIL_UUID
from streams.topics import EXPERIMENT_STATES, TOPICS

pytestmark = pytest.mark.integration

EXPERIMENT = "ranking"
TABLES = ("queries", "impressions", "clicks", "conversions", "exposures")
START_MS = 1_750_000_000_000
HOUR_MS = 3_600_000
END_MS = START_MS + HOUR_MS
WINDOW = Window(0, END_MS)
Row = dict[str, Any]
Rows = dict[str, list[Row]]


@pytest.fixture
def store(embedded_client: Client) -> Iterator[Client]:
    def clear() -> None:
        for table in TABLES:
            embedded_client.command(f"TRUNCATE TABLE {table}")

    clear()
    yield embedded_client
    clear()


def settings_with(**changes: Any) -> Settings:
    return Settings.model_validate({"experiment": {"min_shoppers": 50} | changes})


class Traffic:
    """Makes rows as the streams worker ships them, with duplicates, early versions and noise beside."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rows: Rows = {table: [] for table in TABLES}

    def put(self, table: str, row: Row) -> None:
        rows = self.rows[table]
        rows.append(row)
        if self.random.random() < 0.1:
            rows.append(dict(row))
        if self.random.random() < 0.1 and table != "exposures":
            # What was known before the query's record had come.
            rows.append(row | {"arms": {}, "traffic_class": "unknown", "version": 0})

    def search(
        self,
        *,
        shopper: str,
        arm: str,
        at_ms: int,
        click_share: float,
        traffic_class: str = "head",
        latency_ms: float = 12.0,
        fallback: bool = False,
        buy_share: float = 0.3,
    ) -> None:
        shared: Row = {
            "query_id": self.uuid(),
            "client_id": shopper,
            "traffic_class": traffic_class,
            "arms": {EXPERIMENT: arm} if arm else {},
            "version": 3,
        }
        query = shared | {"event_id": self.uuid(), "event_time": at_ms}
        self.put("queries", query | {"latency_ms": latency_ms, "fallback": fallback})
        if arm:
            named = ("event_id", "client_id", "query_id", "traffic_class", "event_time", "version")
            self.put("exposures", {k: query[k] for k in named} | {"experiment": EXPERIMENT, "arm": arm})
        for position in range(1, self.random.randint(2, 8)):
            impression = shared | {"event_id": self.uuid(), "event_time": at_ms + 5, "position": position}
            self.put("impressions", impression)
            while self.random.random() < click_share:
                self.click(shared, impression, at_ms + self.random.randint(1, 20 * 60_000), buy_share)
        if self.random.random() < 0.1:
            self.put("clicks", shared | self.event(at_ms, "no_impression", NIL_UUID))

    def click(self, shared: Row, impression: Row, at_ms: int, buy_share: float) -> None:
        self.put("clicks", shared | self.event(at_ms, "impression", impression["event_id"]))
        if self.random.random() < buy_share:
            kind = self.random.choice(["purchase", "purchase", "add_to_cart"])
            bought = self.event(at_ms + 1000, "impression", impression["event_id"])
            revenue = round(self.random.lognormvariate(3, 0.5), 2)
            self.put("conversions", shared | bought | {"kind": kind, "revenue": revenue, "quantity": 1})

    def event(self, at_ms: int, attribution: str, impression_id: str) -> Row:
        return {
            "event_id": self.uuid(),
            "event_time": at_ms,
            "attribution": attribution,
            "impression_id": impression_id,
            "delay_ms": 1,
        }

    def uuid(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128)))

    def insert(self, client: Client) -> None:
        for table, rows in self.rows.items():
            shuffled = self.random.sample(rows, len(rows))
            # Several parts, so that duplicates lie in different ones.
            for part in (shuffled[::2], shuffled[1::2]):
                lines = msgspec.json.Encoder().encode_lines(
                    [row | {"event_time": row["event_time"] / 1000} for row in part]
                )
                if part:
                    client.raw_insert(table, insert_block=lines, fmt="JSONEachRow")


def ordinary(seed: int = 3, *, shoppers: int = 400, uplift: float = 0.0, searches: int = 2) -> Traffic:
    """Make an hour of traffic of both arms, a day of history, and shoppers who were seen in both arms."""
    traffic = Traffic(seed)
    draw = traffic.random
    for number in range(shoppers):
        shopper, arm = f"s{number}", ("control", "treatment")[number % 2]
        taste = min(0.1 * draw.lognormvariate(0, 0.5), 0.5)
        for _ in range(draw.choice([0, 1, 2, 5])):
            at_ms = START_MS - draw.randint(HOUR_MS, 20 * HOUR_MS)
            traffic.search(shopper=shopper, arm="", at_ms=at_ms, click_share=taste)
        lifted = taste * (1 + uplift * (arm == "treatment"))
        for _ in range(1 + int(draw.expovariate(1 / searches))):
            traffic.search(
                shopper=shopper,
                arm="treatment" if number % 50 == 6 and draw.random() < 0.5 else arm,
                at_ms=START_MS + draw.randrange(HOUR_MS),
                click_share=lifted,
                traffic_class=draw.choice(["head", "head", "torso", "tail"]),
            )
    # A device whose clock is half a century slow, and one that does not say who it is.
    traffic.search(shopper="s0", arm="control", at_ms=HOUR_MS, click_share=0.3)
    traffic.search(shopper="", arm="control", at_ms=START_MS, click_share=0.5)
    return traffic


def in_python(rows: Rows, looks: Looks) -> tuple[dict[tuple[str, int, str], np.ndarray], int]:
    """Count what `aggregates.cells` counts, from the rows themselves: one line of figures per shopper."""
    known: Rows = {}
    for table, table_rows in rows.items():
        best: dict[str, Row] = {}
        for row in table_rows:
            if row["event_id"] not in best or row["version"] >= best[row["event_id"]]["version"]:
                best[row["event_id"]] = row
        known[table] = [row for row in best.values() if row["client_id"]]
    arms = defaultdict(set)
    for row in known["exposures"]:
        arms[row["client_id"]].add(row["arm"])
    clean = {shopper: next(iter(names)) for shopper, names in arms.items() if len(names) == 1}
    history: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    clicked_before = {
        (row["client_id"], row["impression_id"])
        for row in known["clicks"]
        if not row["arms"] and row["attribution"] == "impression" and row["event_time"] < START_MS
    }
    for row in known["impressions"]:
        history[row["client_id"]][0] += not row["arms"] and row["event_time"] < START_MS
    for shopper, _ in clicked_before:
        history[shopper][1] += 1
    found = {}
    for cut in (ALL_TRAFFIC, "head", "torso", "tail"):
        for look in range(looks.count):
            upto = min(looks.at_ms(look), END_MS)

            def counts(row: Row, upto: int = upto, cut: str = cut) -> bool:
                in_cut = cut in (ALL_TRAFFIC, row["traffic_class"])
                return in_cut and row["event_time"] < upto and row["client_id"] in clean

            figures: dict[str, list[float]] = {}
            for row in filter(counts, known["exposures"]):
                figures[row["client_id"]] = [0.0] * 5 + history[row["client_id"]]
            seen = set()
            for table in ("impressions", "clicks", "conversions"):
                for row in filter(counts, known[table]):
                    if not row["arms"] or row.get("attribution", "impression") != "impression":
                        continue
                    line = figures[row["client_id"]]
                    if table == "impressions":
                        line[0] += 1
                    elif table == "clicks":
                        line[1] += row["impression_id"] not in seen
                        seen.add(row["impression_id"])
                        line[2] += 1
                    elif row["kind"] == "purchase":
                        line[3] += 1
                        line[4] += row["revenue"]
            for arm in ("control", "treatment"):
                table_of = [line for shopper, line in figures.items() if clean[shopper] == arm]
                if table_of:
                    found[cut, look, arm] = np.array(table_of)
    return found, sum(len(names) > 1 for names in arms.values())


def test_sql_computes_what_python_counts(store: Client) -> None:
    traffic = ordinary()
    traffic.insert(store)
    exposed = aggregates.exposed(store, experiment=EXPERIMENT, window=WINDOW)
    start_ms = exposed.start_ms
    assert start_ms is not None
    assert START_MS <= start_ms < START_MS + HOUR_MS / 20
    looks = aggregates.looks_between(START_MS, END_MS, most=5)
    assert looks.count >= 3
    cells = aggregates.cells(store, experiment=EXPERIMENT, window=WINDOW, start_ms=start_ms, looks=looks)
    expected, in_both = in_python(traffic.rows, looks)
    assert in_both == exposed.in_several_arms > 0
    cuts = (ALL_TRAFFIC, "head", "torso", "tail")
    assert {key for key in cells if key[0] in cuts} == set(expected)
    for key, lines in expected.items():
        cell = cells[key]
        assert cell.count() == len(lines), key
        assert [cell.mean(name) for name in VARIABLES] == pytest.approx(lines.mean(axis=0)), key
        if len(lines) == 1:
            continue
        covariance = np.cov(lines, rowvar=False)
        for i, left in enumerate(VARIABLES):
            assert cell.var(left) == pytest.approx(covariance[i, i], abs=1e-9), (key, left)
            for j in range(i):
                assert cell.cov(left, VARIABLES[j]) == pytest.approx(covariance[i, j], abs=1e-9), (key, left)
    assert exposed.shoppers == {
        arm: len(expected[ALL_TRAFFIC, looks.count - 1, arm]) for arm in ("control", "treatment")
    }


def report_of(client: Client, **changes: Any) -> ExperimentReport:
    """Compute the report and check what must hold of any: JSON without NaN that reads back, printable."""
    report = experiment_report(client, settings_with(**changes), now_ms=END_MS)
    encoded = msgspec.json.encode(report)
    assert msgspec.json.decode(encoded, type=ExperimentReport) == report

    def numbers(value: Any) -> Iterator[float]:
        if isinstance(value, dict):
            for inner in value.values():
                yield from numbers(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from numbers(inner)
        elif isinstance(value, float):
            yield value

    assert all(map(math.isfinite, numbers(msgspec.to_builtins(report))))
    assert "NaN" not in encoded.decode()
    json.loads(encoded)
    text = render_text(report)
    assert report.verdict.text[:40] in text
    assert max(map(len, text.splitlines())) <= 110
    return report


def test_empty_store(store: Client) -> None:
    report = report_of(store)
    assert report.verdict.text == "no data yet"
    assert report.arms == []
    assert report.start_ms is None
    assert not any(guardrail.breached for guardrail in report.guardrails)


def test_one_arm_only(store: Client) -> None:
    traffic = Traffic(1)
    for number in range(60):
        traffic.search(shopper=f"s{number}", arm="control", at_ms=START_MS + number, click_share=0.2)
    traffic.insert(store)
    report = report_of(store)
    assert report.verdict.text == "nothing to compare: only control has shoppers (60)"
    assert [arm.name for arm in report.arms] == ["control"]


def test_too_few_shoppers(store: Client) -> None:
    ordinary(shoppers=80).insert(store)
    report = report_of(store, min_shoppers=100)
    assert report.verdict.text.startswith("not enough data yet: ")
    assert report.verdict.text.endswith(" of 100 shoppers in the smaller arm")


def test_no_clicks_at_all(store: Client) -> None:
    traffic = Traffic(1)
    for number in range(200):
        arm = ("control", "treatment")[number % 2]
        traffic.search(shopper=f"s{number}", arm=arm, at_ms=START_MS + number, click_share=0)
    traffic.insert(store)
    report = report_of(store)
    assert report.verdict.text == "not enough data yet: 0 of 20 clicked impressions in control"
    assert {arm.ctr for arm in report.arms} == {0.0}
    assert {arm.cvr for arm in report.arms} == {None}


def test_shoppers_who_are_all_alike(store: Client) -> None:
    traffic = Traffic(1)
    for number in range(120):
        shared: Row = {
            "query_id": traffic.uuid(),
            "client_id": f"s{number}",
            "traffic_class": "tail",
            "arms": {EXPERIMENT: ("control", "treatment")[number % 2]},
            "version": 3,
            "event_time": START_MS,
        }
        exposure = {
            key: shared[key] for key in ("query_id", "client_id", "traffic_class", "version", "event_time")
        }
        arm = shared["arms"][EXPERIMENT]
        traffic.put(
            "exposures", exposure | {"event_id": traffic.uuid(), "experiment": EXPERIMENT, "arm": arm}
        )
        impression = shared | {"event_id": traffic.uuid()}
        traffic.put("impressions", impression)
        traffic.put("clicks", shared | traffic.event(START_MS + 9, "impression", impression["event_id"]))
    traffic.insert(store)
    report = report_of(store)
    assert report.verdict.text == "every shopper in control is alike, so nothing can be said about chance"
    assert [arm.ctr for arm in report.arms] == [1.0, 1.0]


def test_a_true_uplift_is_found(store: Client) -> None:
    ordinary(seed=5, shoppers=1500, uplift=0.6).insert(store)
    report = report_of(store)
    assert report.verdict.tone == "better"
    assert report.verdict.text.startswith("treatment clicks more: CTR +")
    assert "(95 % interval +" in report.verdict.text
    assert report.sure_since_ms is not None
    assert report.sure_since_ms > START_MS
    estimate = report.classes[ALL_TRAFFIC][0].estimate
    assert estimate is not None
    assert estimate.cuped
    assert estimate.variance_reduction > 0.02
    last = report.series[ALL_TRAFFIC][-1].effects[0].estimate
    assert last is not None
    assert last.relative == estimate.relative
    shown = sum(look.arms["treatment"].impressions for look in report.series[ALL_TRAFFIC])
    assert shown == report.arms[1].impressions
    assert sum(sum(look.arms["control"].clicks for look in report.series[cut]) for cut in report.series) == (
        2 * report.arms[0].clicked_impressions
    )
    assert "left out: " in render_text(report)


def test_a_broken_treatment_breaches_every_guardrail(store: Client) -> None:
    traffic = Traffic(2)
    for number in range(900):
        treated = number % 3 == 0
        traffic.search(
            shopper=f"s{number}",
            arm="treatment" if treated else "control",
            at_ms=START_MS + number,
            click_share=0.05 if treated else 0.4,
            latency_ms=900 if number % 9 == 0 else 10,
            fallback=number % 6 == 0,
        )
    traffic.insert(store)
    report = report_of(store)
    assert [guardrail.name for guardrail in report.guardrails if guardrail.breached] == [
        "ctr_change",
        "latency_p99_ms",
        "fallback_share",
        "sample_ratio_p_value",
    ]
    assert report.verdict.tone == "stop"
    assert report.verdict.text.startswith("stop treatment: CTR is surely more than 5.0 % lower")


def test_what_came_after_the_stop_does_not_count(store: Client) -> None:
    traffic = ordinary(seed=8)
    for number in range(400):
        traffic.search(shopper=f"s{number}", arm="control", at_ms=END_MS + number, click_share=0.5)
    traffic.insert(store)
    settings, later_ms = settings_with(), END_MS + HOUR_MS
    state = ExperimentState(experiment=EXPERIMENT, state="stopped", reason="a test", since_ms=END_MS)
    stopped = experiment_report(store, settings, now_ms=later_ms, state=state)
    before = experiment_report(store, settings, now_ms=END_MS)
    totals = ("name", "shoppers", "impressions", "clicks", "purchases", "queries", "ctr", "cvr")
    for one, other in zip(stopped.arms, before.arms, strict=True):
        assert [getattr(one, name) for name in totals] == [getattr(other, name) for name in totals]
    assert stopped.verdict.tone == "stop"
    assert stopped.verdict.text.endswith("UTC: a test")
    assert stopped.verdict.note == before.verdict.text
    running = ExperimentState(experiment=EXPERIMENT, state="running", reason="", since_ms=END_MS)
    anew = experiment_report(store, settings, now_ms=later_ms, state=running)
    assert [arm.name for arm in anew.arms] == ["control"]


def test_hostile_names_are_data(store: Client) -> None:
    hostile = "x' OR 1=1 --"
    traffic = ordinary(seed=9, shoppers=60)
    for rows in traffic.rows.values():
        for row in rows:
            row["client_id"] = row["client_id"] and f"{row['client_id']}[bold]'; DROP TABLE clicks; --"
    traffic.search(shopper="s", arm="[red]\\'", at_ms=START_MS + 5, click_share=0.5)
    traffic.insert(store)
    report = report_of(store)
    assert {arm.role for arm in report.arms} == {"control", "treatment", "other"}
    assert "[red]\\'" in render_text(report)
    exposed = aggregates.exposed(store, experiment=hostile, window=WINDOW)
    assert exposed.start_ms is None


def test_the_watch_stops_a_breached_experiment_once(store: Client, broker: str) -> None:
    settings = settings_with(name="watched")
    kafka.ensure_topics(settings, broker, [spec for spec in TOPICS if spec.name == EXPERIMENT_STATES])
    traffic = Traffic(4)
    for number in range(300):
        arm = ("control", "treatment")[number % 2]
        traffic.search(
            shopper=f"s{number}",
            arm=arm,
            at_ms=START_MS + number,
            click_share=0.3,
            fallback=arm == "treatment",
        )
    for rows in traffic.rows.values():
        for row in rows:
            if row.get("arms"):
                row["arms"] = {"watched": row["arms"][EXPERIMENT]}
            if "experiment" in row:
                row["experiment"] = "watched"
    traffic.insert(store)
    garbage = kafka.producer(settings, broker)
    garbage.send(EXPERIMENT_STATES, key=b"x", value=b"\xff no state").get(timeout=10)
    garbage.close()
    publish(
        settings,
        broker,
        ExperimentState(experiment="another", state="running", reason="", since_ms=1),
    )
    stop = threading.Event()
    arguments = {"stop": stop, "every_s": 0.05}
    thread = threading.Thread(target=watch, args=(settings, broker, store), kwargs=arguments)
    thread.start()
    reader = StateReader(settings, broker)
    try:
        until_s = time.monotonic() + 120
        states = reader.read()
        while "watched" not in states and time.monotonic() < until_s:
            stop.wait(0.1)
            states = reader.read()
        stop.wait(0.5)
    finally:
        stop.set()
        thread.join(20)
        reader.close()
    assert not thread.is_alive()
    assert states["watched"].state == "stopped"
    assert "scored without the model, 0.00 % in control: surely more by 5.0 %" in states["watched"].reason
    assert states["another"].state == "running"
    partition = TopicPartition(EXPERIMENT_STATES, 0)
    with closing(kafka.consumer(settings, broker, group_id=None)) as consumer:
        assert consumer.end_offsets([partition]) == {partition: 3}
