"""An adapter merged into its base: a model folder that any server loads, in bfloat16, with tokenizer and template.

    python -m teacher.finetune.merge --base FOLDER --adapter FOLDER --out FOLDER

Runs in the teacher's environment. The sum is made in float32 and rounded once. What was written is read back and
compared with base and adapter side by side before the folder gets its name.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from teacher import policy
from teacher.finetune.tokens import prompt_text
from teacher.prompt import Mode

#: Total variation distance of the next-token distributions, mean over the places of the prompts below. On the
#: small model rounding the weights made 0.005, bfloat16 arithmetic makes 0.02, a base left unmerged 0.38.
TOLERANCE = 0.05
#: Pairs to compare on: any text would do.
PAIRS = (
    ("red cotton t-shirt men xl", "Acme men's T-shirt, cotton, crimson, XL\nbrand: Acme\ncolour: crimson"),
    ("steel kettle 1.7 litre", "Kettle cleaner powder, 500 g\ncategory: Kitchen / Cleaning"),
)


class MergeError(RuntimeError):
    """The adapter cannot be merged, or the merged model says something else. The message says which."""


def merge(*, base: Path | str, adapter: Path, out: Path) -> float:
    """Write the merged model to `out`, which must not exist; return how far its distributions are off, in [0, 1].

    Raises MergeError if a folder is not as expected or the distance is above `TOLERANCE`.
    """
    if out.exists():
        raise MergeError(f"{out} exists: expected a new folder")
    if not (adapter / "adapter_config.json").exists():
        raise MergeError(f"{adapter}: expected an adapter's folder with adapter_config.json")
    tokenizer = AutoTokenizer.from_pretrained(base)
    told = PeftModel.from_pretrained(_load(base), adapter).eval()
    expected = _probabilities(told, tokenizer)
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    told.merge_and_unload(safe_merge=True).to(torch.bfloat16).save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    del told
    found = _probabilities(_load(unfinished).eval(), tokenizer)
    distance = float(((expected - found).abs().sum(-1) / 2).mean())
    if not distance <= TOLERANCE:
        raise MergeError(
            f"{unfinished} answers otherwise than {base} with {adapter}: its next-token distributions are "
            f"{distance:.3f} away, expected at most {TOLERANCE}"
        )
    unfinished.rename(out)
    return distance


def _load(folder: Path | str) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")


@torch.inference_mode()
def _probabilities(model: Any, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """Return the next token's probabilities at all places of all prompts, shape (places, V)."""
    found = []
    for query, item_text in PAIRS:
        prompt = prompt_text(tokenizer, policy.default(), Mode.CHAIN, query=query, item_text=item_text)
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        found.append(model(input_ids=ids).logits[0].softmax(-1))
    return torch.cat(found)


@click.command(help=__doc__)
@click.option("--base", required=True, help="Model folder or name.")
@click.option("--adapter", required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path))
def main(base: str, adapter: Path, out: Path) -> None:
    """Run from folders."""
    try:
        distance = merge(base=base, adapter=adapter, out=out)
    except MergeError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"merged into {out}; distributions {distance:.4f} away from base and adapter side by side")


if __name__ == "__main__":
    main()
