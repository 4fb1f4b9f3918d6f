"""Training a student: a plain loop over length-bucketed batches, resumable at any step, alone or under torchrun.

transformers' Trainer, which the teacher's fine-tuning uses, does not serve here: its sampler cannot keep the pairs of
a query together in batches of like length, a resumed run of it replays its data loader to reach its place, and an
incremental update of 256 pairs would pay for its set-up every time. What is left of it is this file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import get_cosine_schedule_with_warmup

from ops.settings import Students as Settings
from students.alignment import Lost
from students.examples import TrainingExample
from students.losses.bio_tags import tag_weights
from students.saved import LoadedStudent, Student, encoders_of
from students.training import checkpoint
from students.training.batches import epoch_batches, share_of
from students.training.curves import Curve
from students.training.features import Features, collate, featurise, tag_counts, to_device
from students.training.objective import Objective
from students.training.parallel import Processes
from students.training.progress import Progress

ALONE = Processes(0, 1, torch.device("cpu"))
_LARGE_PRIME = 1_000_003

Validate = Callable[[LoadedStudent], Mapping[str, float]]


class TrainingError(RuntimeError):
    """A run cannot begin or go on. The message says why."""


@dataclass(frozen=True, slots=True)
class Trained:
    """How a run went: its curve, what of the evidence was lost, all its steps and those done when it was last
    started (0: from the beginning), seconds and training pairs a second since then."""

    curve: Curve
    lost: Lost
    steps: int
    resumed_from: int
    seconds: float
    pairs_per_s: float


def train(
    student: LoadedStudent,
    examples: Sequence[TrainingExample],
    *,
    settings: Settings,
    state: Path | None = None,
    processes: Processes = ALONE,
    validate: Validate | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Trained:
    """Train a student in place; it is left in evaluation mode.

    `state` is the checkpoint's file: a run that was killed goes on from it, None keeps none. `validate` is asked by
    the first process after each epoch. Equal arguments give equal weights, killed meanwhile or not.

    Raises TrainingError for no examples or a loss that is not finite, CheckpointError, EncoderError.
    """
    if not examples:
        raise TrainingError("expected examples to learn from, got none")
    scale, model = student.description.scale, student.model.to(processes.device)
    features, lost = featurise(
        examples, student.tokeniser, paradigm=student.description.paradigm, scale=scale
    )
    for encoder in encoders_of(model):
        encoder.freeze(embeddings=settings.frozen_embeddings, layers=settings.frozen_layers)
    objective = Objective(
        model,
        losses=settings.losses,
        tag_weights=tag_weights(tag_counts(features)),
        bf16=settings.bf16,
    ).to(processes.device)
    run = _Run(student, features, settings, processes)
    optimizer = torch.optim.AdamW(parameter_groups(model, settings), fused=processes.device.type == "cuda")
    warmup = int(settings.warmup_share * run.total_steps)
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup, run.total_steps)
    parts = checkpoint.Parts(model, optimizer, schedule)
    begun, curve = (0, Curve()) if state is None else checkpoint.restore(state, parts, processes.device)
    forward = DistributedDataParallel(objective) if processes.count > 1 else objective
    if not processes.first:
        state, validate, say = None, None, lambda _: None
    say(run.told(begun, lost))
    model.train()
    progress = Progress(curve, done=begun, total=run.total_steps, say=say)
    saved_s = time.monotonic()
    for done in range(begun + 1, run.total_steps + 1):
        epoch, place = divmod(done - 1, run.steps_per_epoch)
        batches = run.steps_of(epoch)[place]
        _seed(settings.seed, done, processes.rank)
        losses = _step(forward, run, batches)
        nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        progress.add(losses, pairs=sum(map(len, batches)) * processes.count)
        if not progress.finite:
            raise TrainingError(
                f"the loss is not finite at step {done}: lower students.learning_rate, or train with"
                " students.precision fp32"
            )
        last = place + 1 == run.steps_per_epoch
        if last or progress.silent_s >= settings.log_every_s:
            progress.point(step=done, epoch=epoch + 1, learning_rate=schedule.get_last_lr()[0])
        if last and validate is not None:
            model.eval()
            progress.check(step=done, epoch=epoch + 1, figures=validate(student))
            model.train()
        if state is not None and (last or time.monotonic() - saved_s >= settings.save_every_s):
            checkpoint.write(state, parts, step=done, curve=curve)
            saved_s = time.monotonic()
    model.eval()
    return Trained(
        curve=curve,
        lost=lost,
        steps=run.total_steps,
        resumed_from=begun,
        seconds=progress.seconds,
        pairs_per_s=progress.pairs / max(progress.seconds, 1e-9),
    )


def parameter_groups(model: Student, settings: Settings) -> list[dict[str, Any]]:
    """Return the optimiser's groups: encoder and heads by learning rate; biases and norms without decay."""
    encoders = {id(weight) for each in encoders_of(model) for weight in each.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for weight in model.parameters():
        if weight.requires_grad:
            groups.setdefault((id(weight) in encoders, weight.ndim > 1), []).append(weight)
    return [
        {
            "params": weights,
            "lr": settings.learning_rate if of_encoder else settings.head_learning_rate,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (of_encoder, decays), weights in groups.items()
    ]


class _Run:
    """The examples of a run and their order."""

    def __init__(
        self,
        student: LoadedStudent,
        features: list[Features],
        settings: Settings,
        processes: Processes,
    ) -> None:
        self.student = student
        self.features = features
        self.settings = settings
        self.processes = processes
        self._lengths = [each.length for each in features]
        self._queries = [each.query for each in features]
        self._made: tuple[int, list[list[list[int]]]] | None = None
        self.steps_per_epoch = len(self.steps_of(0))
        self.total_steps = settings.epochs * self.steps_per_epoch

    def steps_of(self, epoch: int) -> list[list[list[int]]]:
        """Return this process's optimiser steps of an epoch, each a list of batches of places."""
        if self._made is not None and self._made[0] == epoch:
            return self._made[1]
        settings = self.settings
        batches = epoch_batches(
            self._lengths,
            self._queries,
            batch_pairs=settings.batch_pairs,
            seed=settings.seed,
            epoch=epoch,
            buckets=settings.length_buckets,
            grouped=settings.losses.margin_mse > 0,
        )
        mine = share_of(batches, process=self.processes.rank, processes=self.processes.count)
        steps = [mine[at : at + settings.accumulation] for at in range(0, len(mine), settings.accumulation)]
        self._made = (epoch, steps)
        return steps

    def told(self, done: int, lost: Lost) -> str:
        """Return what is said before the first step."""
        model = self.student.model
        learned = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        every = sum(weight.numel() for weight in model.parameters())
        text = (
            f"{len(self.features):,} examples of {len(set(self._queries)):,} queries, {self.total_steps:,} steps; "
            f"{learned / 1e6:.1f} of {every / 1e6:.1f} M weights learn; evidence left out: {lost.outside} outside "
            f"the text, {lost.cut} cut, {lost.without_tokens} without tokens, {lost.conflicts} tokens in conflict"
        )
        return f"{text}\ngoes on after step {done:,}" if done else text


def _step(forward: nn.Module, run: _Run, batches: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Add up the gradients of one optimiser step; return the mean losses."""
    sums: dict[str, Tensor] = {}
    for number, places in enumerate(batches):
        batch = collate(
            [run.features[place] for place in places],
            run.student.tokeniser,
            run.student.description.scale,
        )
        if isinstance(forward, DistributedDataParallel):
            # Gradients travel once a step.
            forward.require_backward_grad_sync = number + 1 == len(batches)
        total, parts = forward(to_device(batch, run.processes.device))
        (total / len(batches)).backward()
        for name, value in ({"loss": total.detach()} | parts).items():
            sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value / len(batches)
    return sums


def _seed(seed: int, step: int, rank: int) -> None:
    torch.manual_seed((seed * _LARGE_PRIME + step) * _LARGE_PRIME + rank)
