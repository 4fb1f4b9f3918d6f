"""Pairs a second of fine-tuning steps: packed behind one copy of the prompt's beginning, and one by one.

    TEACHER_ENVIRONMENT/bin/python -m ops.bench.teacher_packing --base FOLDER --examples FILE [--steps 3]

The kinds of step train the same LoRA adapter on the same pairs, forward, backward and optimiser, with logits of
answer tokens alone: each pair in a pass of its own, so that none is slowed by padding; packed; packed behind a
frozen prefix that is read once a step; the same with plain attention, which takes a pack's mask faster on a CPU.
Kinds alternate; figures are medians. Runs in the teacher's environment.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from ops.bench.machine import announce
from teacher import examples as example_files
from teacher.finetune.frozen_prefix import behind_prefix, read_prefix
from teacher.finetune.packing import TokenPair, collate, pack
from teacher.finetune.settings import FinetuneSettings
from teacher.finetune.tokens import tokenise
from teacher.prompt import Mode

SETTINGS = FinetuneSettings()

#: Yields the logits (M, V) and labels (M,) of each forward pass of a step.
Passes = Iterator[tuple[torch.Tensor, torch.Tensor]]
Packs = Sequence[Sequence[TokenPair]]


@click.command(help=__doc__)
@click.option("--base", required=True, help="Model folder or name.")
@click.option("--examples", "examples_file", required=True, type=click.Path(path_type=Path))
@click.option("--steps", default=3, show_default=True, type=click.IntRange(1), help="Timed, after a warm-up.")
@click.option("--mode", default="chain", show_default=True, type=click.Choice([mode.value for mode in Mode]))
def main(base: str, examples_file: Path, steps: int, mode: str) -> None:
    """Measure and print."""
    announce("ops.bench.teacher_packing")
    tokenizer = AutoTokenizer.from_pretrained(base)
    per_step = SETTINGS.packs_per_step * SETTINGS.pairs_per_pack
    wanted = per_step * (steps + 1)
    examples = list(example_files.read(examples_file))[: 2 * wanted]
    prefix, packs, _ = pack(
        tokenise(tokenizer, examples, Mode(mode)),
        pairs_per_pack=SETTINGS.pairs_per_pack,
        max_pair_tokens=SETTINGS.max_pair_tokens,
        seed=SETTINGS.seed,
    )
    if sum(map(len, packs)) < wanted:
        raise click.ClickException(f"expected at least {wanted} examples, got {len(examples)}")
    model = _with_adapter(base)
    optimiser = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-5)
    kinds: dict[str, Callable[[Packs], Passes]] = {
        "one by one": lambda packs: _one_by_one(model, packs),
        "packed": lambda packs: _packed(model, packs, prefix),
        "packed, frozen prefix": lambda packs: _behind_frozen_prefix(model, packs, prefix),
        "and plain attention": lambda packs: _behind_frozen_prefix(model, packs, prefix, additive=True),
    }
    took_s: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(steps + 1):
        chosen = packs[number * SETTINGS.packs_per_step : (number + 1) * SETTINGS.packs_per_step]
        for kind, passes in kinds.items():
            model.set_attn_implementation("eager" if kind == "and plain attention" else "sdpa")
            began_s = time.perf_counter()
            _step(
                optimiser, passes(chosen), answer_tokens=sum(len(p.answer) for each in chosen for p in each)
            )
            if number:
                took_s[kind].append(time.perf_counter() - began_s)
    print(
        f"{steps} steps of {per_step} pairs, {mode}, {len(prefix)} tokens shared, "
        f"{torch.get_num_threads()} threads"
    )
    slowest = statistics.median(took_s["one by one"])
    for kind, times_s in took_s.items():
        median_s = statistics.median(times_s)
        print(
            f"{kind:22} {per_step / median_s:6.2f} pairs/s  {slowest / median_s:5.2f}x  "
            f"({min(times_s):.2f} to {max(times_s):.2f} s a step)"
        )


def _with_adapter(base: str) -> Any:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, attn_implementation="sdpa")
    model.config.use_cache = False
    config = LoraConfig(
        r=SETTINGS.lora_rank,
        lora_alpha=SETTINGS.lora_alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config).train()


def _one_by_one(model: Any, packs: Packs) -> Passes:
    for pair in (pair for pairs in packs for pair in pairs):
        first = len(pair.prompt) - 1
        # Without a mask attention takes its fast causal way.
        outputs = model(
            input_ids=torch.tensor([pair.prompt + pair.answer]),
            logits_to_keep=torch.arange(first, first + len(pair.answer)),
        )
        yield outputs.logits[0], torch.tensor(pair.answer)


def _packed(model: Any, packs: Packs, prefix: Sequence[int]) -> Passes:
    for pairs in packs:
        batch = collate(prefix, pairs)
        labels = batch.pop("labels")[0]
        yield model(**batch).logits[0], labels


def _behind_frozen_prefix(
    model: Any, packs: Packs, prefix: Sequence[int], *, additive: bool = False
) -> Passes:
    keys_and_values = read_prefix(model, torch.tensor([list(prefix)]))
    for pairs in packs:
        batch = collate(prefix, pairs, additive=additive)
        yield behind_prefix(model, keys_and_values, batch).logits[0], batch["labels"][0]


def _step(optimiser: torch.optim.Optimizer, passes: Passes, *, answer_tokens: int) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for logits, labels in passes:
            loss = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
            torch.autograd.backward(loss / answer_tokens)
    optimiser.step()
    optimiser.zero_grad()


if __name__ == "__main__":
    main()
