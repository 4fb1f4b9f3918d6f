"""`relevance teacher finetune`: a causal LM taught to judge, from examples to a merged model with its card."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from ops.cli.context import CommandError, Context, pass_context
from ops.files import write_atomically
from ops.servers.steps import PreparationError, StoppedError, locked, run_step
from teacher import policy as policies
from teacher.examples import ExampleError
from teacher.examples import read as read_examples
from teacher.finetune import run_folder
from teacher.finetune.figures import compared
from teacher.finetune.launch import PRESETS, LaunchError, Run, chosen_settings, refuse_foreign
from teacher.finetune.outcomes import Compared, Comparison, rows
from teacher.finetune.run_folder import RunFolderError
from teacher.policy import PolicyError
from teacher.serving.environment import ensure_environment
from teacher.serving.weights import ensure_weights

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class Base:
    """A model to fine-tune: where it is loaded from, and its name and licence on the model card."""

    where: str
    name: str
    licence: str


SMALL_NAME, SMALL_LICENCE = "HuggingFaceTB/SmolLM2-135M-Instruct", "Apache-2.0"
SEVEN_B_NAME = "Qwen/Qwen2.5-7B-Instruct"


@click.command(
    epilog="\b\nExamples:\n"
    "  relevance teacher finetune --examples train.jsonl --evaluate held-out.jsonl --out runs/chain\n"
    "  relevance teacher finetune --examples train.jsonl --out runs/score --mode score\n"
    "  relevance teacher finetune --examples train.jsonl --out runs/7b --preset 7b --gpus 4"
)
@click.option("--examples", required=True, type=FILE, help="Judged pairs with their chains, as JSON lines.")
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The run's folder."
)
@click.option("--base", help=f"Model folder or hub name [small: the project's own; 7b: {SEVEN_B_NAME}].")
@click.option(
    "--mode", type=click.Choice(["chain", "score"]), help="Chain and grade, or the grade alone [chain]."
)
@click.option("--preset", type=click.Choice(list(PRESETS)), default="small", show_default=True)
@click.option("--settings", "settings_file", type=FILE, help="JSON laid over the preset.")
@click.option("--gpus", type=click.IntRange(1, 64), default=1, show_default=True, help="More than one: FSDP.")
@click.option("--evaluate", type=FILE, help="Held-out examples to compare base and result on.")
@pass_context
def finetune(
    context: Context,
    *,
    examples: Path,
    out: Path,
    base: str | None,
    mode: str | None,
    preset: str,
    settings_file: Path | None,
    gpus: int,
    evaluate: Path | None,
) -> None:
    """Fine-tune a model on judged pairs, compare before and after, merge, and write the model card.

    Training, in the teacher's own environment, saves checkpoints: after Ctrl-C, a crash or a reboot the same
    command goes on from the last one. `adapter/` of the run's folder is the adapter to keep, `merged/` the model
    that `relevance teacher serve` takes.
    """
    settings = context.settings()
    say = context.console.print
    examples, out = examples.absolute(), out.absolute()
    try:
        chosen = chosen_settings(preset, file=settings_file, mode=mode)
        if gpus > 1 and chosen.device == "cpu":
            raise LaunchError("--gpus is for settings with device cuda, such as --preset 7b")
        if gpus > 1 and chosen.frozen_prefix:
            raise LaunchError("frozen_prefix is for one device: set it to false for --gpus")
        policy = policies.configured(settings.teacher)
        learned = list(read_examples(examples))
        refuse_foreign(learned, policy)
        held_out = list(read_examples(evaluate)) if evaluate else []
        if evaluate:
            refuse_foreign(held_out, policy)
        _refuse_overlap({each.query for each in learned}, {each.query for each in held_out})
        python = ensure_environment(settings.teacher_server, say=say)
        found = _base(base, preset, python=python, say=say)
        run = Run(python, found.where, examples, out, chosen, policy, gpus)
        with locked(out / "lock", say=say, what=str(out)):
            record = run_folder.record(
                base=found.where, examples=learned, settings=chosen, policy=policy, processes=gpus
            )
            run_folder.begin(out, record)
            run.write_inputs()
            _train(run, say=say)
            told = _compare(run, evaluate.absolute(), context, policy.gains) if evaluate else None
            if chosen.lora_rank:
                _keep(run, found, told)
            served = out / "merged" if chosen.lora_rank else out
    except (ExampleError, LaunchError, PolicyError, PreparationError, RunFolderError, StoppedError) as error:
        raise CommandError(str(error)) from error
    say(f"serve it: RELEVANCE_TEACHER_SERVER__MODEL={shlex.quote(str(served))} relevance teacher serve")


def _refuse_overlap(learned: set[str], held_out: set[str]) -> None:
    if shared := sorted(learned & held_out):
        raise LaunchError(
            f"{len(shared)} queries are both learned from and held out, such as {shared[0]!r}:"
            " split by query, or the comparison shows what was memorised"
        )


def _base(given: str | None, preset: str, *, python: Path, say: Callable[[str], None]) -> Base:
    if given:
        folder = Path(given).expanduser()
        where = str(folder.resolve()) if folder.is_dir() else given
        return Base(where, folder.name if folder.is_dir() else given, "under the licence of its owner")
    if preset == "7b":
        return Base(SEVEN_B_NAME, SEVEN_B_NAME, "Apache-2.0")
    return Base(str(ensure_weights(python, adapter=None, say=say)), SMALL_NAME, SMALL_LICENCE)


def _train(run: Run, *, say: Callable[[str], None]) -> None:
    if run_folder.finished(run.out):
        say(f"{run.out} is trained already")
        return
    again = "the same command goes on"
    try:
        _step(run, run.training(), what=f"the adapter in {run.out}", mend=again)
    except KeyboardInterrupt:
        last = run_folder.last_checkpoint(run.out)
        where = (
            f"after step {run_folder.step_of(last)}"
            if last
            else "from the beginning, no checkpoint is there yet"
        )
        click.echo(f"\nstopped; {again} {where}", err=True)
        raise


def _compare(run: Run, examples: Path, context: Context, gains: Mapping[str, float]) -> Compared:
    context.console.print("comparing base and result on held-out pairs")
    outcomes = run.out / "heldout-outcomes.json"
    _step(run, run.heldout(examples, outcomes), what="the comparison", mend="mend what it says")
    made = compared(msgspec.json.decode(outcomes.read_bytes(), type=Comparison), gains=gains)
    write_atomically(_heldout_file(run), msgspec.json.format(msgspec.json.encode(made)))
    context.console.print(f"{made.pairs:,} held-out pairs, {made.read}")
    context.table(["figure", "base", "fine-tuned"], rows(made))
    return made


def _keep(run: Run, base: Base, told: Compared | None) -> None:
    """Write the adapter with its card, and the merged model."""
    adapter, merged = run.out / "adapter", run.out / "merged"
    extra = ["--made-by", shlex.join(["relevance", *sys.argv[1:]])]
    if told:
        extra += ["--heldout", str(_heldout_file(run))]
    command = run.export(adapter=adapter, base_name=base.name, base_licence=base.licence, extra=extra)
    _step(run, command, what=str(adapter), mend="mend what it says")
    shutil.rmtree(merged, ignore_errors=True)
    _step(run, run.merge(adapter=adapter, merged=merged), what=str(merged), mend="mend what it says")


def _heldout_file(run: Run) -> Path:
    return run.out / "heldout.json"


def _step(run: Run, command: Sequence[str], *, what: str, mend: str) -> None:
    run_step(command, environment=run.environment(), what=what, mend=mend)
