"""What a model makes of reference answers: loss, the grade's probabilities, the verdicts; nothing is generated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from teacher.examples import ChainLine, Example, answer
from teacher.finetune.outcomes import Outcome
from teacher.finetune.packing import collate, shared_prefix
from teacher.finetune.tokens import tokenise, told
from teacher.policy import Policy, Verdict
from teacher.prompt import Mode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PAIRS_PER_PACK = 6


class ChoicesError(ValueError):
    """A grade or verdict cannot be told by one token. The message says which."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The token that each grade's label and each verdict begins with."""

    grades: Mapping[str, int]
    verdicts: Mapping[Verdict, int]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, asked: Policy, mode: Mode) -> Choices:
        """Return the choices. Raises ChoicesError if two of a kind begin with the same token."""
        written = {label: answer((), label) if mode is Mode.CHAIN else label for label in asked.labels}
        grades = {
            label: _token_at(tokenizer, text, len(text) - len(label)) for label, text in written.items()
        }
        verdicts = {}
        for verdict in Verdict:
            line = ChainLine(subtask="colour", query_words="red", item_words="red", verdict=verdict)
            text = answer([line], asked.labels[0])
            verdicts[verdict] = _token_at(tokenizer, text, text.index("\n") - len(verdict))
        for kind, tokens in (("grades", grades), ("verdicts", verdicts)):
            if len(set(tokens.values())) != len(tokens):
                raise ChoicesError(f"expected {kind} that begin with tokens of their own, got {dict(tokens)}")
        return cls(grades, verdicts)

    def grade_shares(self, logprobs: torch.Tensor) -> dict[str, float]:
        """Return the labels' probabilities among themselves; `logprobs` (V,)."""
        shares = logprobs[list(self.grades.values())].softmax(-1).tolist()
        return dict(zip(self.grades, shares, strict=True))

    def likeliest_verdict(self, logprobs: torch.Tensor) -> Verdict:
        """Return the likeliest of the three; `logprobs` (V,)."""
        return list(self.verdicts)[int(logprobs[list(self.verdicts.values())].argmax())]


@dataclass(frozen=True, slots=True)
class Places:
    """The index, within an answer's tokens, of the grade and of each verdict."""

    grade: int
    verdicts: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, example: Example, mode: Mode) -> Places:
        """Return the places in the answer that an example teaches."""
        text = told(example, mode)
        verdicts = []
        end = -1
        for line in example.chain if mode is Mode.CHAIN else ():
            end = text.index("\n", end + 1)
            verdicts.append(_index_at(tokenizer, text, end - len(line.verdict)))
        return cls(_index_at(tokenizer, text, len(text) - len(example.grade)), tuple(verdicts))


@torch.inference_mode()
def outcomes(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    mode: Mode,
    asked: Policy,
) -> list[Outcome]:
    """Return what a causal LM makes of the examples, in their order.

    Raises ChoicesError for a grade that is not the policy's or cannot be told by one token, PackingError without
    examples.
    """
    if unknown := sorted({each.grade for each in examples} - set(asked.labels)):
        raise ChoicesError(f"expected grades among {', '.join(asked.labels)}, got {', '.join(unknown)}")
    choices = Choices.of(tokenizer, asked, mode)
    pairs = tokenise(tokenizer, examples, mode, asked)
    prefix = shared_prefix(pairs)
    found = []
    for start in range(0, len(pairs), PAIRS_PER_PACK):
        chunk = pairs[start : start + PAIRS_PER_PACK]
        batch = {name: tensor.to(model.device) for name, tensor in collate(prefix, chunk).items()}
        labels = batch.pop("labels")[0]
        logprobs = model(**batch, use_cache=False).logits[0].float().log_softmax(-1)
        losses = -logprobs.gather(1, labels[:, None])[:, 0]
        sizes = [len(pair.answer) for pair in chunk]
        for example, own, loss in zip(
            examples[start : start + PAIRS_PER_PACK], logprobs.split(sizes), losses.split(sizes), strict=True
        ):
            places = Places.of(tokenizer, example, mode)
            likeliest = [choices.likeliest_verdict(own[place]) for place in places.verdicts]
            found.append(
                Outcome(
                    query=example.query,
                    grade=example.grade,
                    loss=float(loss.sum()),
                    tokens=len(own),
                    grades=choices.grade_shares(own[places.grade]),
                    verdicts=len(likeliest),
                    # Without a chain in the answer there is nothing to be likeliest.
                    verdicts_right=sum(
                        verdict is line.verdict
                        for verdict, line in zip(likeliest, example.chain, strict=False)
                    ),
                )
            )
    return found


def _index_at(tokenizer: PreTrainedTokenizerBase, text: str, character: int) -> int:
    """Return the index of the token that holds a character of the text."""
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return next(index for index, (start, stop) in enumerate(spans) if start <= character < stop)


def _token_at(tokenizer: PreTrainedTokenizerBase, text: str, character: int) -> int:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids[_index_at(tokenizer, text, character)]
