"""Judgements made for the dashboard's tests: as a teacher would give them, and hostile ones, truth known."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from clickhouse_connect.driver.client import Client

from ops.clickhouse.inserting import Inserter
from ops.evaluation.bootstrap import Estimate
from ops.evaluation.drift import Drift
from streams.item_text import content_hash, item_text
from streams.records import Judgement, SubtaskVerdict
from teacher.evidence import locate
from teacher.rows import judgement_row, refusal_row
from teacher.watching import TeacherReport
from tests.integration.dashboard_traffic import HOSTILE_ITEM, HOSTILE_QUERY, Rows

TEACHER = "relevance-teacher"
PROMPT = "a1b2c3d4e5f6"
QUERY = "red steel kettle 1.7 litre from norvik"
ITEM = item_text(
    title="Norvik Aalto kettle with gooseneck, crimson",
    brand="Norvik",
    category=("Kitchen", "Drinks", "Kettle"),
    attributes={"colour": "crimson", "size": "1 l"},
)
GRADES = {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}
RIGHT_TO_LEFT = "\u202e"


def verdict(subtask: str, query: str, item: str, found: str, *, of: tuple[str, str]) -> SubtaskVerdict:
    """Make a verdict whose words are looked up in the pair `of`."""
    return SubtaskVerdict(
        subtask=subtask,
        verdict=found,
        query_words=query,
        item_words=item,
        query_span=locate(query, of[0]),
        item_span=locate(item, of[1]),
    )


def judgement(*, verdicts: list[SubtaskVerdict], judged_ms: int, **given: Any) -> Judgement:
    """Make a judgement of the kettle, other fields as given."""
    chosen = given.get("grade", "S")
    grades = {label: 0.91 if label == chosen else 0.03 for label in GRADES}
    text = given.get("item_text", ITEM)
    chain = "\n".join(
        f"{each.subtask}: {each.query_words or '-'} | {each.item_words or '-'} | {each.verdict}"
        for each in verdicts
    )
    fields = {
        "query": QUERY,
        "item_id": "kettle-1",
        "item_text": text,
        "content_hash": content_hash(text),
        "teacher_id": TEACHER,
        "prompt_hash": PROMPT,
        "grades": grades,
        "grade": chosen,
        "relevance_score": sum(share * GRADES[label] for label, share in grades.items()),
        "verdicts": verdicts,
        "unlocated": 0,
        "chain_of_thought": f"{chain}\ngrade: {chosen}",
        "latency_ms": 420.0,
        "prompt_tokens": 520,
        "cached_tokens": 430,
        "completion_tokens": 61,
        "judged_ms": judged_ms,
    }
    return Judgement(**(fields | given))


def kettle(*, judged_ms: int) -> Judgement:
    """Make a judgement with every verdict, and one quotation that stands in neither text."""
    pair = (QUERY, ITEM)
    return judgement(
        verdicts=[
            verdict("category", "kettle", "kettle", "match", of=pair),
            verdict("brand", "norvik", "Norvik", "match", of=pair),
            verdict("colour", "red", "crimson", "match", of=pair),
            verdict("size", "1.7 litre", "1 l", "mismatch", of=pair),
            verdict("material", "steel", "stainless", "unstated", of=pair),
        ],
        unlocated=1,
        judged_ms=judged_ms,
    )


def hostile(*, judged_ms: int) -> Judgement:
    """Make a judgement whose every text attacks the page, and whose spans overlap, are inverted or lie outside."""
    item = f"{HOSTILE_ITEM} 👟👟 shoe {RIGHT_TO_LEFT}erongi\n<mark class=match>exact</mark>"
    spans = [(0, 12), (6, 30), (-50, 3), (20, 5), (10, 10_000), (400, 500), (40, 42)]
    return judgement(
        query=HOSTILE_QUERY,
        item_id=HOSTILE_ITEM,
        item_text=item,
        grade="I",
        teacher_id="<b>teacher</b>",
        verdicts=[
            SubtaskVerdict(
                subtask=f"<i>{number}</i>",
                verdict=("match", "mismatch", "unstated", "<u>exact</u>")[number % 4],
                query_words="<svg onload=x>",
                item_words=f"{RIGHT_TO_LEFT}words",
                query_span=span,
                item_span=span,
            )
            for number, span in enumerate(spans)
        ],
        chain_of_thought=f"</pre><script>document.title='owned'</script>\x00\x1b[31m {RIGHT_TO_LEFT} \ud800 grade: E",
        judged_ms=judged_ms,
    )


def many(*, count: int, seed: int, start_ms: int, end_ms: int) -> list[Judgement]:
    """Make judgements of different items, evenly over [start_ms, end_ms), by two teachers."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        wanted, kind = rng.choice(["blue", "red", "green"]), rng.choice(["mug", "lamp", "desk"])
        query = f"{wanted} {kind} number {number}"
        colour = rng.choice(["blue", "red", "green"])
        text = item_text(title=f"Nova {kind} {number}", brand="Nova", attributes={"colour": colour})
        found = "match" if colour == wanted else "mismatch"
        pair = (query, text)
        made.append(
            judgement(
                query=query,
                item_id=f"item-{number:05d}",
                item_text=text,
                grade="E" if colour == wanted else rng.choice("SCI"),
                teacher_id=rng.choice([TEACHER, "qwen-7b"]),
                verdicts=[
                    verdict("category", kind, kind, "match", of=pair),
                    verdict("colour", wanted, colour, found, of=pair),
                ],
                latency_ms=rng.lognormvariate(6, 0.5),
                judged_ms=start_ms + (end_ms - start_ms) * number // count,
            )
        )
    return made


def rows(judgements: list[Judgement]) -> Rows:
    """Return the judgements as the store takes them."""
    return {"judgements": [judgement_row(each) for each in judgements]}


def refusals(*, count: int, at_ms: int) -> Rows:
    """Make refusals of two reasons."""
    return {
        "teacher_refusals": [
            refusal_row(
                query=f"query {number}",
                item_id="item-1",
                content_hash="0123456789abcdef",
                teacher_id=TEACHER,
                prompt_hash=PROMPT,
                reason=("no_grade", "bad_line")[number % 3 == 0],
                detail="line 1: <b>what?</b>",
                at_ms=at_ms,
            )
            for number in range(count)
        ]
    }


def report(*, until_ms: int, kappa: float) -> TeacherReport:
    """Make a report on the teacher with the figures that the page shows, one of them unknown."""
    return TeacherReport(
        teacher_id=TEACHER,
        prompt_hash=PROMPT,
        from_ms=until_ms - 3_600_000,
        until_ms=until_ms,
        judgements=500,
        refused={},
        grades={"E": 200, "S": 100, "C": 50, "I": 150},
        drift=Drift.UNKNOWN,
        drift_why="nothing earlier to compare with",
        figures={
            "people_pairs": Estimate(value=480.0),
            "people_queries": Estimate(value=120.0),
            "kappa": Estimate(value=kappa, lower=kappa - 0.06, upper=kappa + 0.05),
            "auc": Estimate(value=0.934, lower=0.918, upper=0.951),
            "ndcg_at_10": Estimate(value=None, why="no query has two grades"),
            "ece": Estimate(value=0.087, lower=0.071, upper=0.104),
            "ece_calibrated": Estimate(value=0.031, lower=0.024, upper=0.045),
            "accuracy_<b>E</b>": Estimate(value=0.8),
        },
    )


def insert(client: Client, made: Rows) -> None:
    """Insert rows as the sink does."""
    inserter = Inserter(client)
    for table, lines in made.items():
        inserter.insert(table, msgspec.json.Encoder().encode_lines(lines), origin=f"test:{table}")
