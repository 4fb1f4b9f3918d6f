"""Traffic made for the dashboard's tests: rows as the streams worker would ship them, truth known."""

from __future__ import annotations

import base64
import random
import uuid
from typing import Any

import msgspec
from clickhouse_connect.driver.client import Client

from streams.rows import NIL_UUID

Rows = dict[str, list[dict[str, Any]]]

HOSTILE_QUERY = "<img src=x onerror=\"document.title='owned'\">"
HOSTILE_ITEM = "<script>document.title='owned'</script>"
HEAD = ["red shoes", "phone case", "coffee", HOSTILE_QUERY]
TORSO = [f"lamp model {n}" for n in range(12)]
TAIL = [f"size {n} blue linen shirt for travel" for n in range(200)]
PAGE = 8
CLICK_AT = [0.30, 0.20, 0.14, 0.10, 0.08, 0.06, 0.05, 0.04]


def make(
    *,
    experiment: str,
    seed: int,
    searches: int,
    start_ms: int,
    end_ms: int,
    uplift: float,
    history: bool = False,
    shoppers: int = 600,
) -> Rows:
    """Make searches spread over [start_ms, end_ms). Treatment multiplies a click's chance by 1 + `uplift`.

    With `history` the rows carry no arms, as those of the day before an experiment.
    """
    rng = random.Random(seed)
    rows: Rows = {name: [] for name in ("queries", "impressions", "clicks", "conversions", "exposures")}
    for n in range(searches):
        at_ms = start_ms + (end_ms - start_ms) * n // searches
        shopper = rng.randrange(shoppers)
        arm = "treatment" if shopper % 2 else "control"
        traffic_class, text = rng.choices(
            [("head", rng.choice(HEAD)), ("torso", rng.choice(TORSO)), ("tail", rng.choice(TAIL))], [5, 3, 2]
        )[0]
        query_id = str(uuid.UUID(int=rng.getrandbits(128)))
        shared = {
            "query_id": query_id,
            "application": "shop",
            "client_id": f"shopper-{shopper}",
            "session_id": f"session-{shopper}",
            "normalised_query": text,
            "traffic_class": traffic_class,
            "arms": {} if history else {experiment: arm},
            "student_version": "lexical" if arm == "control" or history else "oracle",
            "version": 3,
        }
        query = shared | {
            "event_id": str(uuid.UUID(int=rng.getrandbits(128))),
            "query": text,
            "latency_ms": round(rng.lognormvariate(2.5, 0.4), 2),
            "fallback": rng.random() < 0.002,
            "event_time": time_text(at_ms),
        }
        rows["queries"].append(query)
        if not history:
            rows["exposures"].append(
                {
                    "event_id": query["event_id"],
                    "experiment": experiment,
                    "arm": arm,
                    "client_id": shared["client_id"],
                    "query_id": query_id,
                    "traffic_class": traffic_class,
                    "student_version": shared["student_version"],
                    "event_time": time_text(at_ms),
                    "version": 3,
                }
            )
        effect = 1 + (uplift if arm == "treatment" and not history else 0.0)
        for position in range(1, PAGE + 1):
            _show(rng, rows, shared, position=position, at_ms=at_ms, chance=CLICK_AT[position - 1] * effect)
    return rows


def _show(
    rng: random.Random, rows: Rows, shared: dict[str, Any], *, position: int, at_ms: int, chance: float
) -> None:
    number = rng.randrange(30)
    item_id = HOSTILE_ITEM if number == 0 else f"item-{number:05d}"
    impression_id = str(uuid.UUID(int=rng.getrandbits(128)))
    event = shared | {"item_id": item_id, "position": position}
    rows["impressions"].append(
        event
        | {
            "event_id": impression_id,
            "score": round(rng.random(), 4),
            "bid": round(rng.random() * 2, 2),
            "event_time": time_text(at_ms),
        }
    )
    if rng.random() >= chance:
        return
    attributed = {"impression_id": impression_id, "attribution": "impression"}
    rows["clicks"].append(
        event
        | attributed
        | {
            "event_id": str(uuid.UUID(int=rng.getrandbits(128))),
            "delay_ms": 4000,
            "event_time": time_text(at_ms + 4000),
        }
    )
    if rng.random() < 0.15:
        rows["conversions"].append(
            event
            | attributed
            | {
                "event_id": str(uuid.UUID(int=rng.getrandbits(128))),
                "kind": "purchase",
                "delay_ms": 60_000,
                "revenue": round(rng.lognormvariate(3, 0.6), 2),
                "quantity": 1,
                "event_time": time_text(at_ms + 60_000),
            }
        )


def dead_letters(*, count: int, at_ms: int) -> Rows:
    """Make dead letters of three reasons, the last one's bytes no text at all."""
    reasons = ("not_json", "no_query_id", "not_utf8")
    payloads = (b'{"broken": ', b'{"action_name": "click"}', b"\xff\xfe\x00<script>")
    return {
        "dead_letters": [
            {
                "source_topic": "ubi.events",
                "source_partition": n % 4,
                "source_offset": 1000 + n,
                "reason": reasons[n % 3],
                "detail": f"record {n} could not be typed",
                "payload_bytes": len(payloads[n % 3]),
                "payload_base64": base64.b64encode(payloads[n % 3]).decode(),
                "event_time": time_text(at_ms),
                "version": 1,
            }
            for n in range(count)
        ]
    }


def unattributed_click(*, at_ms: int, query: str, item_id: str) -> Rows:
    """Make one click whose impression nobody has seen."""
    return {
        "clicks": [
            {
                "event_id": str(uuid.uuid4()),
                "impression_id": NIL_UUID,
                "attribution": "no_impression",
                "delay_ms": 0,
                "query_id": "q-unknown",
                "item_id": item_id,
                "position": 0,
                "application": "shop",
                "client_id": "shopper-x",
                "session_id": "",
                "normalised_query": query,
                "traffic_class": "unknown",
                "arms": {},
                "student_version": "",
                "event_time": time_text(at_ms),
                "version": 1,
            }
        ]
    }


def insert(client: Client, rows: Rows) -> None:
    """Insert rows as the sink does: JSON lines."""
    for table, lines in rows.items():
        if lines:
            client.raw_insert(
                table, insert_block=msgspec.json.Encoder().encode_lines(lines), fmt="JSONEachRow"
            )


def time_text(at_ms: int) -> str:
    return f"{at_ms // 1000}.{at_ms % 1000:03d}"
