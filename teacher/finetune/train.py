"""Supervised fine-tuning of any Hugging Face causal LM on judged pairs, loss on the answer only.

    python -m teacher.finetune.train --base FOLDER --examples FILE --out FOLDER [--settings FILE.json]

transformers' Trainer does the training and peft the adapter; this file turns examples into packs and keeps the
logits of answer positions only (a vocabulary of 49k makes them a fifth of the small model's work). A run that was
killed goes on from its last checkpoint when started again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from ops.files import write_atomically
from teacher import examples as example_files
from teacher import policy
from teacher.examples import Example, ExampleError
from teacher.finetune import run_folder
from teacher.finetune.frozen_prefix import FrozenPrefixTrainer
from teacher.finetune.packing import PackingError, TokenPair, collate, pack, tokens_of
from teacher.finetune.run_folder import Training
from teacher.finetune.settings import FinetuneSettings
from teacher.finetune.tokens import tokenise
from teacher.policy import Policy
from teacher.prompt import Mode


class Packs(Dataset[list[TokenPair]]):
    """The packs of one epoch, in order."""

    def __init__(self, packs: Sequence[list[TokenPair]]) -> None:
        self._packs = packs

    def __len__(self) -> int:
        return len(self._packs)

    def __getitem__(self, index: int) -> list[TokenPair]:
        return self._packs[index]


class Progress(TrainerCallback):
    """Prints step, loss, pairs a second and the time left."""

    def __init__(self, pairs_per_step: int) -> None:
        self._pairs_per_step = pairs_per_step
        self._began = (0, time.monotonic())

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note where a resumed run begins."""
        self._began = (state.global_step, time.monotonic())

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Print a line."""
        loss = (kwargs.get("logs") or {}).get("loss")
        done = state.global_step - self._began[0]
        if loss is None or not done or not state.is_world_process_zero:
            return
        took_s = time.monotonic() - self._began[1]
        left_s = (state.max_steps - state.global_step) * took_s / done
        click.echo(
            f"step {state.global_step}/{state.max_steps}  loss {float(loss):.4f}  "
            f"{done * self._pairs_per_step / took_s:.2f} pairs/s  {left_s / 60:.0f} min left"
        )


def answer_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Return the mean cross-entropy of the answers' tokens; `outputs.logits` (1, M, V), `labels` (1, M)."""
    total = torch.nn.functional.cross_entropy(
        outputs.logits.float().flatten(0, 1), labels.flatten(), reduction="sum"
    )
    return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)


def train(
    *, base: Path | str, examples: Sequence[Example], out: Path, settings: FinetuneSettings, asked: Policy
) -> Training:
    """Train and save the adapter (or the whole model) to `out`; return what the run was and how it went.

    Raises PackingError for examples that cannot be packed.
    """
    set_seed(settings.seed)
    tokenizer = AutoTokenizer.from_pretrained(base)
    pairs = tokenise(tokenizer, examples, Mode(settings.mode), asked)
    prefix, packs, too_long = pack(
        pairs,
        pairs_per_pack=settings.pairs_per_pack,
        max_pair_tokens=settings.max_pair_tokens,
        seed=settings.seed,
    )
    model: Any = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.bfloat16, attn_implementation=settings.attention
    )
    model.config.use_cache = False
    if settings.lora_rank:
        config = LoraConfig(
            r=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(model, config)
        if settings.gradient_checkpointing:
            model.enable_input_require_grads()
    else:
        # Pure bf16 weights lose small updates.
        model = model.float()
    arguments = TrainingArguments(
        output_dir=str(out / run_folder.CHECKPOINTS),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=settings.packs_per_step,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup_share,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=True,
        use_cpu=settings.device == "cpu",
        # Under FSDP its own configuration checkpoints the activations; both at once are refused.
        gradient_checkpointing=settings.gradient_checkpointing and not _under_fsdp(),
        logging_steps=settings.log_steps,
        save_steps=settings.save_steps,
        save_total_limit=1,
        seed=settings.seed,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=settings.device == "cuda",
    )
    lengths = list(tokens_of(packs, prefix))
    if _is_first_process():
        click.echo(
            f"{len(pairs) - too_long} pairs in {len(packs)} packs of {sum(lengths) / len(lengths):.0f} tokens "
            f"({len(prefix)} shared), {too_long} too long; "
            f"{sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6:.2f} M weights to train"
        )
    parts: dict[str, Any] = {
        "model": model,
        "args": arguments,
        "train_dataset": Packs(packs),
        "data_collator": lambda batch: collate(prefix, batch[0], additive=settings.attention == "eager"),
        "callbacks": [Progress(settings.pairs_per_pack * settings.packs_per_step * arguments.world_size)],
    }
    trainer = (
        FrozenPrefixTrainer(prefix=prefix, answer_loss=answer_loss, **parts)
        if settings.frozen_prefix
        else Trainer(compute_loss_func=answer_loss, **parts)
    )
    trainer.remove_callback(PrinterCallback)
    last = run_folder.last_checkpoint(out)
    if last is not None and _is_first_process():
        click.echo(f"goes on from {last}")
    began_s = time.monotonic()
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    trainer.save_model(str(out))
    if _is_first_process():
        tokenizer.save_pretrained(out)
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return Training(
        settings=settings,
        base=str(base),
        examples=len(examples),
        examples_too_long=too_long,
        data_fingerprint=run_folder.data_fingerprint(examples),
        shared_prefix_tokens=len(prefix),
        tokens=sum(lengths),
        final_loss=logged[-1] if logged else None,
        seconds=round(time.monotonic() - began_s),
        resumed=last is not None,
    )


def _is_first_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def _under_fsdp() -> bool:
    return os.environ.get("ACCELERATE_USE_FSDP") == "true"


@click.command(help=__doc__)
@click.option("--base", required=True, help="Model folder or name.")
@click.option("--examples", "examples_file", required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option(
    "--settings", "settings_file", type=click.Path(path_type=Path), help="JSON; default: small local one."
)
@click.option(
    "--policy", "policy_file", type=click.Path(path_type=Path), help="JSON; default: the project's own."
)
def main(
    base: str, examples_file: Path, out: Path, settings_file: Path | None, policy_file: Path | None
) -> None:
    """Run from files."""
    settings, asked = FinetuneSettings(), policy.default()
    if settings_file is not None:
        settings = msgspec.json.decode(settings_file.read_bytes(), type=FinetuneSettings)
    if policy_file is not None:
        asked = msgspec.json.decode(policy_file.read_bytes(), type=Policy)
    try:
        examples = list(example_files.read(examples_file))
        begun = run_folder.record(
            base=base,
            examples=examples,
            settings=settings,
            policy=asked,
            processes=int(os.environ.get("WORLD_SIZE", "1")),
        )
        run_folder.begin(out, begun)
        made = train(base=base, examples=examples, out=out, settings=settings, asked=asked)
    except (ExampleError, PackingError, run_folder.RunFolderError) as error:
        raise click.ClickException(str(error)) from error
    if _is_first_process():
        write_atomically(out / run_folder.DONE, msgspec.json.format(msgspec.json.encode(made)))
        loss = "" if made.final_loss is None else f", loss {made.final_loss:.4f}"
        click.echo(f"trained in {made.seconds} s{loss}: {out}")


if __name__ == "__main__":
    main()
