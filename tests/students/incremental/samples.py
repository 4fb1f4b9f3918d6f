"""Judgements of a rule that is easily learned, a golden set, a first student and settings: all of them tiny."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import torch

from ops.settings import Settings
from streams.records import Judgement
from students import saved
from students.grades import ESCI
from students.incremental.judged import Judged, read
from students.saved import Description, new_student
from students.tokenisation import Limits
from tests.students.samples import judgement, verdict

COLOURS, THINGS = ("red", "blue"), ("kettle", "mug", "phone", "case", "pot")


def judgements(count: int, *, seed: int = 1, queries: int = 150, flipped: float = 0.0) -> list[Judgement]:
    """Return judgements: exact if the item is red, else irrelevant, whatever is asked: learned in moments."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        place = rng.randrange(queries)
        asked, thing = COLOURS[place % 2], THINGS[place // 2 % 5]
        colour = rng.choice(COLOURS)
        exact = (colour == "red") is not (rng.random() < flipped)
        query, item = f"{asked} {thing} {place}", f"{colour} {thing} {seed} {number}"
        found = judgement(
            query,
            item,
            grades={"E": 0.9, "S": 0.05, "C": 0.03, "I": 0.02}
            if exact
            else {"E": 0.05, "S": 0.1, "C": 0.05, "I": 0.8},
            verdicts=[verdict("match" if exact else "mismatch", (0, len(asked)), (0, len(colour)))],
            item_id=f"{seed}-{number}",
        )
        made.append(
            msgspec.structs.replace(found, judged_ms=1_700_000_000_000 + number, traffic_class="tail")
        )
    return made


def judged(count: int, **options: float) -> list[Judged]:
    """Return the same as the trainer reads them."""
    return [read(msgspec.json.encode(each), ESCI) for each in judgements(count, **options)]  # type: ignore[arg-type]


def write_golden(path: Path, *, queries: int = 24) -> Path:
    """Write pairs that people graded by the same rule, of queries of their own."""
    lines = []
    for place in range(queries):
        asked, thing = COLOURS[place % 2], THINGS[place // 2 % 5]
        for colour in COLOURS:
            grade = "E" if colour == "red" else "I"
            lines.append(
                msgspec.json.encode(
                    {
                        "query": f"{asked} {thing} golden {place}",
                        "item_id": f"golden-{place}-{colour}",
                        "item_text": f"{colour} {thing} nova",
                        "grade": grade,
                        "traffic_class": ("head", "tail")[place % 2],
                    }
                )
            )
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def write_first(folder: Path, encoder: Path) -> Path:
    """Write a student that knows nothing."""
    torch.manual_seed(3)
    description = Description(paradigm="interaction", scale=ESCI, limits=Limits(query=8, input=32))
    saved.save(new_student(description, encoder=encoder), folder)
    return folder


def tiny_trainer(run_dir: Path, first: Path, golden: Path, **changed: object) -> Settings:
    """Return settings of a trainer of tiny updates that learn fast; `changed` are of section trainer."""
    trainer: dict[str, object] = {
        "start": first,
        "group": "test-trainer",
        "update_judgements": 64,
        "update_within_s": 0.5,
        "least_judgements": 8,
        "replay_pairs": 200,
        "learning_rate": 1e-3,
        "head_learning_rate": 3e-3,
        "epochs": 4,
        "averaging": 0.9,
    }
    return Settings.model_validate(
        {
            "run_dir": run_dir,
            "trainer": trainer | changed,
            # The tiny student's time is all overhead, and its scores are no forecasts.
            "gate": {
                "golden": golden,
                "slower": 100,
                "calibration_margin": 1,
                "margin": 0.5,
                "least_queries": 10,
            },
            "students": {"precision": "fp32", "frozen_embeddings": False, "batch_pairs": 8},
        }
    )
