"""A student with its losses as one module: what a training step, alone or in data parallel, runs forward."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ops.settings import StudentLosses
from students.interaction import InteractionStudent
from students.losses.attention_adjustment import attention_adjustment_loss
from students.losses.bio_tags import bio_tags_loss
from students.losses.hard_grade import hard_grade_loss
from students.losses.margin_mse import margin_mse_loss
from students.losses.score_distribution import score_distribution_loss
from students.saved import Student
from students.training.features import Batch


class Objective(nn.Module):
    """The weighted sum of a student's losses on a batch."""

    tag_weights: Tensor

    def __init__(
        self, student: Student, *, losses: StudentLosses, tag_weights: Tensor, bf16: bool = False
    ) -> None:
        """Take the student and what it learns by; `tag_weights` [T] as `losses.bio_tags` makes them."""
        super().__init__()
        self.student = student
        self.losses = losses
        self.bf16 = bf16
        self.register_buffer("tag_weights", tag_weights, persistent=False)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum, a scalar to minimise, and each loss before its weight, without gradient."""
        student, weights = self.student, self.losses
        parts: dict[str, Tensor] = {}
        device = batch.grades.device.type
        with torch.autocast(device_type=device, dtype=torch.bfloat16, enabled=self.bf16):
            if isinstance(student, InteractionStudent):
                (pairs,) = batch.texts
                logits, tags = student(pairs.input_ids, pairs.attention_mask, pairs.token_type_ids)
            else:
                queries, items = batch.texts
                asked, query_attention = student.encode_query(queries.input_ids, queries.attention_mask)
                offered, item_attention = student.encode_item(items.input_ids, items.attention_mask)
                logits = student.grade_logits(asked, offered)
        if isinstance(student, InteractionStudent):
            if weights.bio_tags:
                parts["bio_tags"] = bio_tags_loss(tags, pairs.tags, self.tag_weights)
        elif weights.attention_adjustment:
            parts["attention_adjustment"] = torch.stack(
                [
                    attention_adjustment_loss(
                        attention,
                        side.used,
                        side.attention_mask,
                        side.evident,
                        factor=weights.attention_factor,
                    )
                    for attention, side in ((query_attention, queries), (item_attention, items))
                ]
            ).mean()
        if weights.hard_grade:
            parts["hard_grade"] = hard_grade_loss(logits, batch.grades)
        if weights.score_distribution:
            parts["score_distribution"] = score_distribution_loss(
                logits, batch.distribution, batch.distilled, temperature=weights.temperature
            )
        if weights.margin_mse:
            parts["margin_mse"] = margin_mse_loss(
                student.score(logits), batch.scores, batch.queries, batch.distilled
            )
        total = sum((getattr(weights, name) * value for name, value in parts.items()), 0.0 * logits.sum())
        return total, {name: value.detach() for name, value in parts.items()}
