"""Examples as tokens and targets, made once before training, and batches of them as tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from students.alignment import Aligned, Lost, align
from students.examples import TrainingExample
from students.grades import GradeScale
from students.saved import Paradigm
from students.tags import IGNORED, TAGS
from students.tokenisation import StudentTokeniser, Tokens


@dataclass(frozen=True, slots=True)
class Features:
    """One example. `inputs` is the pair, or query and item apart; `aligned` has as many, None without a chain.

    `query` numbers the queries; `distribution` is None for a person's grade.
    """

    inputs: tuple[Tokens, ...]
    aligned: tuple[Aligned, ...] | None
    grade: int
    distribution: tuple[float, ...] | None
    query: int

    @property
    def length(self) -> int:
        """Return the tokens of the longest input."""
        return max(map(len, self.inputs))


@dataclass(frozen=True, slots=True)
class Texts:
    """B inputs of L tokens: ids, mask, segments and tags [B, L] int64, `used` [B, L] bool; `evident` [B] bool
    tells where the chain used any token."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    tags: Tensor
    used: Tensor
    evident: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """B examples: one `texts` of pairs, or two of queries and items. Grades and queries are [B] int64, the
    distribution [B, G], `scores` its expected gains [B]; `distilled` [B] bool tells where there is one."""

    texts: tuple[Texts, ...]
    grades: Tensor
    distribution: Tensor
    scores: Tensor
    distilled: Tensor
    queries: Tensor

    def __len__(self) -> int:
        """Return B."""
        return len(self.grades)


def featurise(
    examples: Sequence[TrainingExample], tokeniser: StudentTokeniser, *, paradigm: Paradigm, scale: GradeScale
) -> tuple[list[Features], Lost]:
    """Return the examples' features in order, and what of the evidence was lost. Raises GradeError."""
    queries, items = [each.query for each in examples], [each.item_text for each in examples]
    inputs: list[tuple[Tokens, ...]]
    if paradigm == "interaction":
        inputs = [(pair,) for pair in tokeniser.pairs(queries, items)]
    else:
        inputs = list(zip(tokeniser.queries(queries), tokeniser.items(items), strict=True))
    numbers = {query: number for number, query in enumerate(dict.fromkeys(queries))}
    lost = Lost()
    found = []
    for example, tokens in zip(examples, inputs, strict=True):
        aligned = _aligned(example, tokens)
        for each in aligned or ():
            lost += each.lost
        found.append(
            Features(
                inputs=tokens,
                aligned=aligned,
                grade=scale.position(example.grade),
                distribution=example.distribution,
                query=numbers[example.query],
            )
        )
    return found, lost


def tag_counts(features: Sequence[Features]) -> list[int]:
    """Return how many tokens have each tag."""
    counts = Counter(tag for each in features for aligned in each.aligned or () for tag in aligned.tags)
    return [counts[place] for place in range(len(TAGS))]


def collate(rows: Sequence[Features], tokeniser: StudentTokeniser, scale: GradeScale) -> Batch:
    """Return the features as one batch of tensors, as long as the longest."""
    texts = tuple(_texts(rows, side, tokeniser) for side in range(len(rows[0].inputs)))
    nothing = (0.0,) * len(scale.labels)
    distribution = torch.tensor([each.distribution or nothing for each in rows], dtype=torch.float32)
    return Batch(
        texts=texts,
        grades=torch.tensor([each.grade for each in rows]),
        distribution=distribution,
        scores=distribution @ torch.tensor(scale.gains),
        distilled=torch.tensor([each.distribution is not None for each in rows]),
        queries=torch.tensor([each.query for each in rows]),
    )


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on a device."""
    return Batch(
        texts=tuple(
            Texts(**{name: getattr(each, name).to(device) for name in Texts.__dataclass_fields__})
            for each in batch.texts
        ),
        **{name: getattr(batch, name).to(device) for name in Batch.__dataclass_fields__ if name != "texts"},
    )


def _aligned(example: TrainingExample, tokens: tuple[Tokens, ...]) -> tuple[Aligned, ...] | None:
    if example.evidence is None:
        return None
    query, item = example.query, example.item_text
    if len(tokens) == 1:
        return (align(tokens[0], example.evidence, query=query, item_text=item),)
    return (
        align(tokens[0], example.evidence, query=query, item_text=None),
        align(tokens[1], example.evidence, query=None, item_text=item),
    )


def _texts(rows: Sequence[Features], side: int, tokeniser: StudentTokeniser) -> Texts:
    inputs = tokeniser.padded([each.inputs[side] for each in rows])
    tags = torch.full(inputs.input_ids.shape, IGNORED)
    used = torch.zeros(inputs.input_ids.shape, dtype=torch.bool)
    for row, each in enumerate(rows):
        if each.aligned is not None:
            aligned = each.aligned[side]
            tags[row, : len(aligned.tags)] = torch.tensor(aligned.tags)
            used[row, : len(aligned.used)] = torch.tensor(aligned.used)
    return Texts(
        input_ids=torch.from_numpy(inputs.input_ids),
        attention_mask=torch.from_numpy(inputs.attention_mask),
        token_type_ids=torch.from_numpy(inputs.token_type_ids),
        tags=tags,
        used=used,
        evident=used.any(dim=1),
    )
