"""A loop made for the dashboard's tests: traffic, sampled pairs, judgements, updates and steps, truth known."""

from __future__ import annotations

import random
from typing import Any

from streams.item_text import content_hash, item_text
from streams.judgement_identity import identity_of
from streams.records import Judgement, Pair, StudentStep
from streams.sampling_memory import Drawn
from streams.sampling_worker import sampled_row
from students.gate.guards import Alarm
from students.incremental import lineage as lineages
from students.incremental.lineage import Lineage, Published
from students.publishing.announcing import row_of
from tests.feature_store import samples
from tests.integration import dashboard_judgements as judged
from tests.integration import dashboard_traffic as traffic
from tests.integration.dashboard_traffic import Rows
from tests.students.incremental.lineage_samples import lineage

SECOND_MS, MINUTE_MS = 1000, 60_000
UPDATE_EVERY_MS = 10 * MINUTE_MS
#: Each stage of a pair's way takes this long, in milliseconds; served after training.
SAMPLED_AFTER_MS, JUDGED_AFTER_MS, SERVED_AFTER_MS = 30_000, 20_000, 5_000
OUTCOMES = ("passed", "kept", "passed", "passed")
WHY_KEPT = "tail auc +0.0041 is not surely above 0: it may be -0.0102"
WHY_HALTED = (
    "the teacher's disagreement with the champions: +0.164 nats over 212 judgements, p 0.00021 in all"
)


def figures(*, golden: float, difference: float, tail: float) -> dict[str, float]:
    """Return the figures of a gate, with intervals around these."""
    return {
        "golden.auc": golden,
        "golden.auc.difference": difference,
        "golden.auc.lower": difference - 0.006,
        "golden.auc.upper": difference + 0.006,
        "golden.ndcg_at_10": golden - 0.04,
        "golden.ece.difference": -0.004,
        "golden.ece.lower": -0.011,
        "golden.ece.upper": 0.003,
        "tail.auc.difference": tail,
        "tail.auc.lower": tail - 0.012,
        "tail.auc.upper": tail + 0.012,
        "tail.queries": 84.0,
        "tail.pairs": 301.0,
        "pair_ms": 8.4,
        "pair_ms.champion": 8.2,
    }


def update(number: int, *, outcome: str, used: list[Judgement], at_ms: int, **given: Any) -> Lineage:
    """Make the record of an update that took these judgements in, the last of them held back for the gate."""
    names = [identity_of(each) for each in used]
    fields = {
        "parent": max(0, number - 1),
        "ranges": {"relevance.judgements/0": (40 * number - 40, 40 * number)},
        "offsets": {"relevance.judgements/0": 40 * number},
        "used": names[:-1],
        "held_out": names[-1:],
        "fresh": len(names[:-1]),
        "replayed": len(names),
        "outcome": outcome,
        "why": {"passed": "tail auc +0.0210, golden not worse", "kept": WHY_KEPT, "halted": WHY_HALTED}[
            outcome
        ],
        "alarms": [Alarm(guard="disagreement", why=WHY_HALTED)] if outcome == "halted" else [],
        "figures": figures(
            golden=0.86 + 0.004 * number, difference=0.004, tail=0.0041 if outcome == "kept" else 0.021
        ),
        "seconds": 41.5,
        "at_ms": at_ms,
    }
    return lineage(number, **(fields | given))


def step(number: int, name: str, version: int, *, at_ms: int, **given: Any) -> StudentStep:
    """Make a step of an interaction student."""
    fields: dict[str, Any] = {
        "step_id": number,
        "step": name,
        "kind": "interaction",
        "version": version,
        "parent": max(0, version - 1),
        "offsets": {"relevance.judgements/0": 40 * version},
        "gate": figures(golden=0.86 + 0.004 * version, difference=0.004, tail=0.021),
        "champion": 1,
        "pinned": True,
        "at_ms": at_ms,
    }
    return samples.step(**(fields | given))


def shown(*, seed: int, searches: int, start_ms: int, end_ms: int, ahead_ms: int = 0) -> Rows:
    """Make traffic that versions 1 to 4 score one after another; event times are `ahead_ms` ahead of the clock."""
    rows = traffic.make(
        experiment="ranking", seed=seed, searches=searches, start_ms=start_ms, end_ms=end_ms, uplift=0.15
    )
    for table in ("queries", "impressions", "clicks", "conversions", "exposures"):
        for row in rows[table]:
            at_ms = round(1000 * float(row["event_time"]))
            part = min(3, 4 * (at_ms - start_ms) // (end_ms - start_ms))
            arm = row["arm"] if table == "exposures" else row["arms"]["ranking"]
            row["student_version"] = f"interaction-{1 + part if arm == 'treatment' else 1}"
            row["event_time"] = traffic.time_text(at_ms + ahead_ms)
            if table == "impressions":
                row["ingested_at"] = traffic.time_text(at_ms + SECOND_MS)
                row["score"] = round(
                    min(1.0, 0.3 + 0.1 * part + random.Random(row["item_id"]).random() / 3), 4
                )
    return rows


def sampled(rows: Rows, *, seed: int, start_ms: int, end_ms: int, ahead_ms: int = 0) -> list[Drawn]:
    """Sample a pair of each fifth search, by its priority or, each tenth, by lot."""
    rng = random.Random(seed)
    made: list[Drawn] = []
    seen: set[tuple[str, str]] = set()
    for row in rows["impressions"][:: 5 * traffic.PAGE]:
        key = (row["normalised_query"], row["item_id"])
        at_ms = round(1000 * float(row["event_time"])) - ahead_ms + SAMPLED_AFTER_MS
        if key in seen or not start_ms <= at_ms < end_ms:
            continue
        seen.add(key)
        kind = rng.choice(["linen shirt", "desk lamp", "kettle"])
        text = item_text(
            title=f"Norvik {kind} {row['item_id'][:40]}", brand="Norvik", attributes={"colour": "blue"}
        )
        reasons = {
            "tail": {"head": 0.02, "torso": 0.2, "tail": 0.9}[row["traffic_class"]] * rng.uniform(0.6, 1),
            "uncertainty": rng.uniform(0.5, 1),
            "contradiction": rng.uniform(0.05, 0.6),
            "novelty": rng.choice([1.0, 0.707, 0.577]),
            "uniform": float(len(made) % 10 == 0),
        }
        reasons["priority"] = (
            reasons["tail"] * reasons["uncertainty"] * reasons["contradiction"] * reasons["novelty"]
        )
        pair = Pair(
            query=row["normalised_query"],
            item_id=row["item_id"],
            item_text=text,
            content_hash=content_hash(text),
            reasons=reasons,
            sampled_ms=at_ms,
            deadline_ms=at_ms + 60 * MINUTE_MS,
            traffic_class=row["traffic_class"],
        )
        made.append(Drawn(pair=pair, tokens=500.0))
    return made


def judgements(drawn: list[Drawn]) -> list[Judgement]:
    """Judge the pairs: an `E` where the colour is asked for, else an `S`."""
    made = []
    for each in drawn:
        pair = each.pair
        of = (pair.query, pair.item_text)
        blue = "blue" in pair.query
        words = "blue" if blue else ""
        made.append(
            judged.judgement(
                query=pair.query,
                item_id=pair.item_id,
                item_text=pair.item_text,
                grade="E" if blue else "S",
                verdicts=[judged.verdict("colour", words, "blue", "match" if blue else "unstated", of=of)],
                judged_ms=pair.sampled_ms + JUDGED_AFTER_MS,
                sampled_ms=pair.sampled_ms,
                traffic_class=pair.traffic_class,
            )
        )
    return made


def whole(*, seed: int, searches: int, end_ms: int, halted: int = 0, ahead_ms: int = 0) -> Rows:
    """Make an hour of the loop: four updates, the second of which is kept back, then `halted` ones; versions 2 to 4,
    the last of which is rolled back. The newest pairs wait for the teacher."""
    start_ms = end_ms - 60 * MINUTE_MS
    rows = shown(seed=seed, searches=searches, start_ms=start_ms, end_ms=end_ms, ahead_ms=ahead_ms)
    drawn = sampled(rows, seed=seed, start_ms=start_ms, end_ms=end_ms, ahead_ms=ahead_ms)
    made = judgements([each for each in drawn if each.pair.sampled_ms < end_ms - 5 * MINUTE_MS])
    updates: list[tuple[Lineage, Published | None]] = []
    steps = [
        step(1, "published", 1, at_ms=start_ms - 3_600_000, gate={}, parent=0, decision="the first student")
    ]
    version, before_ms = 1, start_ms
    for number, outcome in enumerate((*OUTCOMES, *["halted"] * halted), start=1):
        at_ms = start_ms + number * UPDATE_EVERY_MS
        used = [each for each in made if before_ms <= each.judged_ms < at_ms]
        lineage = update(number, outcome=outcome, used=used, at_ms=at_ms)
        before_ms, published = at_ms, None
        if outcome == "passed":
            version += 1
            published = Published(
                update=number,
                version=version,
                step="published",
                why=f"update {number} passed the gate",
                at_ms=at_ms,
            )
            arms = {"challenger": version - 1 if version > 2 else 0}
            why = published.why
            steps.append(step(len(steps) + 1, "published", version, at_ms=at_ms + 2000, decision=why, **arms))
            arms = {"challenger": version}
            why = "it waited for no other; guardrails are kept"
            at_ms += SERVED_AFTER_MS
            steps.append(step(len(steps) + 1, "promoted", version, at_ms=at_ms, decision=why, **arms))
        updates.append((lineage, published))
    why = "CTR fell by 4.1 % (at least 1.2 %) since it was promoted"
    at_ms = start_ms + 45 * MINUTE_MS
    steps.append(
        step(len(steps) + 1, "rolled_back", version, at_ms=at_ms, decision=why, challenger=version - 1)
    )
    return rows | {
        "sampled_pairs": [sampled_row(each) for each in drawn],
        **judged.rows(made),
        **judged.refusals(count=12, at_ms=end_ms - MINUTE_MS),
        "student_updates": [lineages.row_of(lineage, published) for lineage, published in updates],
        "student_versions": [row_of(each) for each in steps],
    }


def insert(client: Any, rows: Rows) -> None:
    """Insert rows: traffic with the times at which it was stored, the rest as the sink does."""
    shop = {
        name: lines
        for name, lines in rows.items()
        if name in ("queries", "impressions", "clicks", "conversions", "exposures")
    }
    traffic.insert(client, shop)
    judged.insert(client, {name: lines for name, lines in rows.items() if name not in shop})
