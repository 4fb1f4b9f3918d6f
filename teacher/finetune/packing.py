"""Shared-prefix packing: one copy of the prompt's beginning, then many pairs that cannot see each other.

Four fifths of a prompt are the same for all pairs. A pack holds that prefix once; an attention mask and position
ids make each pair's logits what they would be alone, so the loss is the same and the work about half.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch


class PackingError(ValueError):
    """Examples cannot be packed. The message says which and why."""


@dataclass(frozen=True, slots=True)
class TokenPair:
    """A pair as tokens: the whole prompt, and the answer with its end mark."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


def shared_prefix(pairs: Sequence[TokenPair]) -> tuple[int, ...]:
    """Return the longest beginning that all prompts share and that leaves each at least one token more."""
    if not pairs:
        raise PackingError("expected at least one pair, got none")
    first, last = min(pair.prompt for pair in pairs), max(pair.prompt for pair in pairs)
    length = next(
        (n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last))
    )
    return first[: min(length, min(len(pair.prompt) for pair in pairs) - 1)]


def pack(
    pairs: Sequence[TokenPair], *, pairs_per_pack: int, max_pair_tokens: int, seed: int
) -> tuple[tuple[int, ...], list[list[TokenPair]], int]:
    """Return the shared prefix, the pairs in shuffled packs, and how many were left out for their length."""
    prefix = shared_prefix(pairs)
    kept = [pair for pair in pairs if len(pair.prompt) - len(prefix) + len(pair.answer) <= max_pair_tokens]
    if not kept:
        raise PackingError(f"all {len(pairs)} pairs are longer than max_pair_tokens = {max_pair_tokens}")
    random.Random(f"packs {seed}").shuffle(kept)
    packs = [kept[n : n + pairs_per_pack] for n in range(0, len(kept), pairs_per_pack)]
    return prefix, packs, len(pairs) - len(kept)


def collate(
    prefix: Sequence[int], pairs: Sequence[TokenPair], *, additive: bool = False
) -> dict[str, torch.Tensor]:
    """Return a pack as a model's inputs, a batch of one sequence of L tokens.

    `input_ids`, `position_ids` (1, L); `attention_mask` (1, 1, L, L), true where attention is allowed: each pair
    sees the prefix and itself, or, if `additive`, 0 there and a large negative number elsewhere, as the eager
    attention wants it; `logits_to_keep` (M,), the positions that predict answer tokens; `labels` (1, M).
    """
    ids, positions, owners = list(prefix), list(range(len(prefix))), [0] * len(prefix)
    kept: list[int] = []
    labels: list[int] = []
    for number, pair in enumerate(pairs, start=1):
        own = pair.prompt[len(prefix) :] + pair.answer
        start = len(ids) + len(own) - len(pair.answer)
        ids += own
        positions += range(len(prefix), len(prefix) + len(own))
        owners += [number] * len(own)
        kept += range(start - 1, start - 1 + len(pair.answer))
        labels += pair.answer
    owner = torch.tensor(owners)
    causal = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
    allowed = causal & ((owner[None, :] == 0) | (owner[None, :] == owner[:, None]))
    mask = (~allowed).to(torch.bfloat16) * torch.finfo(torch.bfloat16).min if additive else allowed
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "attention_mask": mask[None, None],
        "logits_to_keep": torch.tensor(kept),
        "labels": torch.tensor([labels]),
    }


def tokens_of(packs: Sequence[Sequence[TokenPair]], prefix: Sequence[int]) -> Iterator[int]:
    """Yield the length of each pack."""
    for pairs in packs:
        yield len(prefix) + sum(len(pair.prompt) - len(prefix) + len(pair.answer) for pair in pairs)
