"""A quick comparison on held-out examples: the base, and what fine-tuning made of it.

    python -m teacher.finetune.heldout --base FOLDER --tuned FOLDER --examples FILE --mode MODE --out FILE

Runs in the teacher's environment and writes a `Comparison` as JSON; `teacher.finetune.outcomes` says what it can
tell. Forward passes alone, on packs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from ops.files import write_atomically
from teacher import examples as example_files
from teacher import policy
from teacher.examples import Example, ExampleError
from teacher.finetune.outcomes import Comparison
from teacher.finetune.packing import PackingError
from teacher.finetune.teacher_forcing import ChoicesError, outcomes
from teacher.policy import Policy
from teacher.prompt import Mode


def compare(
    *, base: Path | str, tuned: Path, examples: Sequence[Example], mode: Mode, asked: Policy, device: str
) -> Comparison:
    """Return the outcomes of the base and of `tuned`, an adapter for it or a whole model.

    Raises ChoicesError or PackingError for examples that cannot be compared on.
    """
    tokenizer = AutoTokenizer.from_pretrained(base)

    def seen(tuned: Path | None) -> Any:
        model = load(base, tuned).to(device).eval()
        return outcomes(model, tokenizer, examples, mode=mode, asked=asked)

    return Comparison(mode=mode.value, before=seen(None), after=seen(tuned))


def load(base: Path | str, tuned: Path | None) -> Any:
    """Return the base, the base under an adapter, or the tuned model itself, in bfloat16."""
    is_adapter = tuned is not None and (tuned / "adapter_config.json").exists()
    weights = base if tuned is None or is_adapter else tuned
    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.bfloat16, attn_implementation="sdpa")
    return PeftModel.from_pretrained(model, tuned) if is_adapter else model


@click.command(help=__doc__)
@click.option("--base", required=True, help="Model folder or name.")
@click.option("--tuned", required=True, type=click.Path(path_type=Path), help="Adapter or model folder.")
@click.option("--examples", "examples_file", required=True, type=click.Path(path_type=Path))
@click.option("--mode", required=True, type=click.Choice([mode.value for mode in Mode]))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--policy", "policy_file", type=click.Path(path_type=Path), help="JSON.")
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
def main(
    *,
    base: str,
    tuned: Path,
    examples_file: Path,
    mode: str,
    out: Path,
    policy_file: Path | None,
    device: str,
) -> None:
    """Run from files."""
    asked = policy.default()
    if policy_file is not None:
        asked = msgspec.json.decode(policy_file.read_bytes(), type=Policy)
    try:
        examples = list(example_files.read(examples_file))
        found = compare(
            base=base, tuned=tuned, examples=examples, mode=Mode(mode), asked=asked, device=device
        )
    except (ExampleError, ChoicesError, PackingError) as error:
        raise click.ClickException(str(error)) from error
    write_atomically(out, msgspec.json.encode(found))


if __name__ == "__main__":
    main()
