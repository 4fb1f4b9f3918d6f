"""Training pairs a second and memory: plain transformers, then what each means adds; and an incremental update.

    python -m ops.bench.student_speed [--pairs 512] [--repeats 2] [--replay 1024]

Plain is what a script on transformers does: the same layers of the same encoder under a classification head, random
batches padded to their longest, float32, all weights. The others train our students, all losses on, adding one means
at a time. Every measurement is a process of its own, so that memory is its own; repeats go round, figures are
medians. Pairs are of a generated shop with its true grades; a target that is missing costs as much as one that is
there.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging as hugging_face_logging

from ops.bench.machine import announce
from ops.bench.student_answers import SCALE, pairs_to_learn_from
from ops.cli.context import Context
from ops.settings import Students as Settings
from ops.settings import load
from students import saved
from students.encoder import keep_layers, load_tokenizer
from students.evaluation.ablation import PARADIGMS
from students.examples import TrainingExample
from students.saved import Paradigm
from students.tokenisation import Limits, StudentTokeniser
from students.training.batches import epoch_batches
from students.training.loop import train
from students.training.run import described, untrained
from students.training.run_folder import start_of

PLAIN = "plain transformers"
#: Each adds to the one before.
MEANS: Mapping[str, Mapping[str, Any]] = {
    "ours, no means": {
        "length_buckets": False,
        "precision": "fp32",
        "frozen_embeddings": False,
        "frozen_layers": 0,
    },
    "+ length buckets": {"length_buckets": True},
    "+ bf16": {"precision": "bf16"},
    "+ frozen embeddings": {"frozen_embeddings": True},
    "+ lowest layer frozen": {"frozen_layers": 1},
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Training pairs a second, seconds in all with tokenisation, most resident memory."""

    pairs_per_s: float
    seconds: float
    peak_mb: float


def ours(examples: Sequence[TrainingExample], settings: Settings, paradigm: Paradigm) -> Measured:
    """Train one epoch of a student."""
    student = untrained(described(paradigm, SCALE, settings), settings)
    began_s = time.monotonic()
    made = train(student, examples, settings=settings.model_copy(update={"epochs": 1}))
    return Measured(made.pairs_per_s, time.monotonic() - began_s, _peak_mb())


def plain(examples: Sequence[TrainingExample], settings: Settings, paradigm: Paradigm) -> Measured:
    """Train one epoch as a plain script on transformers would. Cross-encoder only."""
    torch.manual_seed(settings.seed)
    # A head that starts from nothing is what is wanted here.
    hugging_face_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    hugging_face_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    folder = start_of(settings)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(SCALE.labels))
    keep_layers(getattr(model, model.base_model_prefix), range(settings.interaction_layers))
    limits = Limits(query=settings.max_query_tokens, input=settings.max_tokens)
    tokeniser = StudentTokeniser(load_tokenizer(folder), limits)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate)
    began_s = time.monotonic()
    inputs = tokeniser.pairs([each.query for each in examples], [each.item_text for each in examples])
    lengths = list(map(len, inputs))
    trained_s = time.monotonic()
    model.train()
    for batch in epoch_batches(
        lengths,
        lengths,
        batch_pairs=settings.batch_pairs,
        seed=settings.seed,
        epoch=0,
        buckets=False,
        grouped=False,
    ):
        padded = tokeniser.padded([inputs[place] for place in batch])
        columns = {name: torch.from_numpy(getattr(padded, name)) for name in padded.__struct_fields__}
        labels = torch.tensor([SCALE.position(examples[place].grade) for place in batch])
        model(**columns, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    ended_s = time.monotonic()
    return Measured(len(examples) / (ended_s - trained_s), ended_s - began_s, _peak_mb())


@click.command(help=__doc__)
@click.option("--pairs", default=512, show_default=True, type=click.IntRange(1), help="Of an epoch.")
@click.option("--repeats", default=2, show_default=True, type=click.IntRange(1))
@click.option(
    "--replay", default=1_024, show_default=True, type=click.IntRange(0), help="Beside 256 judgements."
)
def main(*, pairs: int, repeats: int, replay: int) -> None:
    """Measure and print."""
    announce("ops.bench.student_speed")
    loaded = load()
    settings = loaded.students
    wanted = max(pairs, 256 + replay)
    found = pairs_to_learn_from("shop", loaded.data, count=wanted, per_query=4, unseen=())
    examples = [
        TrainingExample(query=each.query, item_id=each.item_id, item_text=each.item_text, grade=each.grade)
        for each in found
    ]
    context = Context()
    for paradigm in PARADIGMS:
        first = {PLAIN: plain} if paradigm == "interaction" else {}
        rows = compared(examples[:pairs], settings, paradigm, first, repeats=repeats)
        base = next(iter(rows.values())).pairs_per_s
        click.echo(f"\n{paradigm} student, {pairs} pairs, batches of {settings.batch_pairs}")
        context.table(
            ["training", "pairs/s", "times the first", "peak MB"],
            [
                (name, f"{row.pairs_per_s:.1f}", f"{row.pairs_per_s / base:.2f}", f"{row.peak_mb:.0f}")
                for name, row in rows.items()
            ],
        )
        update = [_apart(ours, examples[: 256 + replay], settings, paradigm) for _ in range(repeats)]
        weights, size = size_of(settings, paradigm)
        click.echo(
            f"update of 256 judgements + {replay} replayed, one epoch as set: "
            f"{statistics.median(each.seconds for each in update):.1f} s; the student has "
            f"{weights / 1e6:.1f} M weights, {size / 1e6:.1f} MB in its folder"
        )


def compared(
    examples: Sequence[TrainingExample],
    settings: Settings,
    paradigm: Paradigm,
    first: Mapping[str, Callable[..., Measured]],
    *,
    repeats: int,
) -> dict[str, Measured]:
    """Return each kind's medians, the kinds taking turns."""
    kinds: dict[str, tuple[Callable[..., Measured], Settings]] = {
        name: (function, settings) for name, function in first.items()
    }
    changed = settings
    for name, means in MEANS.items():
        changed = changed.model_copy(update=dict(means))
        kinds[name] = (ours, changed)
    runs: dict[str, list[Measured]] = {name: [] for name in kinds}
    for _ in range(repeats):
        for name, (function, given) in kinds.items():
            runs[name].append(_apart(function, examples, given, paradigm))
    return {
        name: Measured(
            *(
                statistics.median(getattr(each, field) for each in made)
                for field in Measured.__dataclass_fields__
            )
        )
        for name, made in runs.items()
    }


def size_of(settings: Settings, paradigm: Paradigm) -> tuple[int, int]:
    """Return a student's weights and the bytes of its folder."""
    student = untrained(described(paradigm, SCALE, settings), settings)
    with tempfile.TemporaryDirectory() as folder:
        saved.save(student, Path(folder))
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    return sum(weight.numel() for weight in student.model.parameters()), size


def _apart(
    function: Callable[..., Measured],
    examples: Sequence[TrainingExample],
    settings: Settings,
    paradigm: Paradigm,
) -> Measured:
    """Measure in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, examples, settings, paradigm).result()


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
