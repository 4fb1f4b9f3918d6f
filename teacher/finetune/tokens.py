"""Examples as the tokens that a model learns from, by its own tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from teacher import policy
from teacher.examples import Example, answer
from teacher.finetune.packing import TokenPair
from teacher.policy import Policy
from teacher.prompt import Mode, messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def told(example: Example, mode: Mode) -> str:
    """Return the answer's text that an example teaches in a mode."""
    return answer(example.chain, example.grade) if mode is Mode.CHAIN else example.grade


def prompt_text(
    tokenizer: PreTrainedTokenizerBase, asked: Policy, mode: Mode, *, query: str, item_text: str
) -> str:
    """Return the whole prompt, up to where the answer begins. Raises ValueError without a chat template."""
    if not tokenizer.chat_template:
        raise ValueError("the base has no chat template: expected an instruction-tuned model")
    chat = messages(asked, mode, query, item_text)
    return str(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))


def tokenise(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    mode: Mode,
    asked: Policy | None = None,
) -> list[TokenPair]:
    """Return the examples as tokens, answers with their end mark; `asked` is the project's policy unless given."""
    asked = asked or policy.default()
    end = tokenizer.eos_token_id
    pairs = []
    for each in examples:
        prompt = prompt_text(tokenizer, asked, mode, query=each.query, item_text=each.item_text)
        pairs.append(
            TokenPair(
                tuple(tokenizer(prompt, add_special_tokens=False)["input_ids"]),
                (*tokenizer(told(each, mode), add_special_tokens=False)["input_ids"], end),
            )
        )
    return pairs
