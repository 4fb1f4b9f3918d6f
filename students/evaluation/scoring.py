"""Scores of many pairs by a student in torch, batches of like length first: for evaluation and for the gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from students.interaction import InteractionStudent
from students.representation import RepresentationStudent
from students.saved import LoadedStudent
from students.tokenisation import StudentTokeniser, Tokens

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scores:
    """Of N pairs: scores [N] in [0, 1], grade distributions [N, G] in the scale's order."""

    scores: Floats
    distributions: Floats

    def grades(self, labels: Sequence[str]) -> list[str]:
        """Return each pair's likeliest grade."""
        return [labels[place] for place in self.distributions.argmax(axis=1).tolist()]


@torch.inference_mode()
def score_pairs(
    student: LoadedStudent,
    pairs: Sequence[tuple[str, str]],
    *,
    batch_pairs: int = 64,
    bf16: bool = False,
) -> Scores:
    """Return the scores of (query, item text) pairs, both cleaned, in order. The student scores as in serving.

    An empty text, or one far beyond the limits, has a score like any other. Raises TextError.
    """
    was_training = student.model.training
    student.model.eval()
    device = next(student.model.parameters()).device
    with torch.autocast(device_type=device.type, dtype=torch.bfloat16, enabled=bf16):
        logits = _logits(student, pairs, device=device, batch_pairs=batch_pairs)
        scores = student.model.score(logits)
    student.model.train(was_training)
    return Scores(scores=scores.cpu().numpy(), distributions=torch.softmax(logits, dim=-1).cpu().numpy())


def _logits(
    student: LoadedStudent, pairs: Sequence[tuple[str, str]], *, device: torch.device, batch_pairs: int
) -> Tensor:
    model, tokeniser = student.model, student.tokeniser
    if not pairs:
        return torch.zeros((0, len(student.description.scale.labels)))
    if isinstance(model, InteractionStudent):
        inputs = tokeniser.pairs([query for query, _ in pairs], [item for _, item in pairs])
        return _batched(
            tokeniser, inputs, lambda *given: model(*given)[0], device=device, batch_pairs=batch_pairs
        )
    return _by_towers(model, tokeniser, pairs, device=device, batch_pairs=batch_pairs)


def _by_towers(
    model: RepresentationStudent,
    tokeniser: StudentTokeniser,
    pairs: Sequence[tuple[str, str]],
    *,
    device: torch.device,
    batch_pairs: int,
) -> Tensor:
    """Read each text once, then compare vectors."""
    queries = {text: place for place, text in enumerate(dict.fromkeys(query for query, _ in pairs))}
    items = {text: place for place, text in enumerate(dict.fromkeys(item for _, item in pairs))}
    asked = _batched(
        tokeniser,
        tokeniser.queries(list(queries)),
        lambda ids, mask, _: model.encode_query(ids, mask)[0],
        device=device,
        batch_pairs=batch_pairs,
    )
    offered = _batched(
        tokeniser,
        tokeniser.items(list(items)),
        lambda ids, mask, _: model.encode_item(ids, mask)[0],
        device=device,
        batch_pairs=batch_pairs,
    )
    left = asked[[queries[query] for query, _ in pairs]]
    return model.grade_logits(left, offered[[items[item] for _, item in pairs]])


def _batched(
    tokeniser: StudentTokeniser,
    inputs: Sequence[Tokens],
    forward: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    device: torch.device,
    batch_pairs: int,
) -> Tensor:
    """Return `forward` of all inputs, in order, as float32."""
    order = sorted(range(len(inputs)), key=lambda place: len(inputs[place]))
    parts = []
    for begin in range(0, len(order), batch_pairs):
        padded = tokeniser.padded([inputs[place] for place in order[begin : begin + batch_pairs]])
        columns = (padded.input_ids, padded.attention_mask, padded.token_type_ids)
        parts.append(forward(*(torch.from_numpy(column).to(device) for column in columns)).float())
    found = torch.cat(parts)
    back = torch.empty(len(order), dtype=torch.long)
    back[order] = torch.arange(len(order))
    return found[back]
