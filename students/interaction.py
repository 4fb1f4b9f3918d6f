"""The interaction student: query and item in one input, so that every word of one sees every word of the other.

The grade is read from the first token, the mean of all, and the strongest tag of each side: a clash that the tag
head finds, which the chain of thought teaches it, bears on the grade directly. That reading is our own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from students.encoder import Encoder
from students.grades import GradeScale, relevance_score
from students.tags import TAGS

DROPOUT = 0.1
#: Far below every logit, and finite in half precision.
LOW = -1e4


class InteractionStudent(nn.Module):
    """(query, item) to grade logits and a tag for each token. B pairs, L tokens, G grades, T tags, H hidden size."""

    gains: Tensor

    def __init__(self, encoder: Encoder, *, scale: GradeScale) -> None:
        """Take the encoder, and the scale that the grade logits are of."""
        super().__init__()
        self.encoder = encoder
        self.scale = scale
        hidden = encoder.hidden_size
        self.dropout = nn.Dropout(DROPOUT)
        self.tag_head = nn.Linear(hidden, len(TAGS))
        self.dense = nn.Linear(2 * hidden + 2 * len(TAGS), hidden)
        self.grade_head = nn.Linear(hidden, len(scale.labels))
        self.register_buffer("gains", torch.tensor(scale.gains, dtype=torch.float32), persistent=False)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return grade logits [B, G] and tag logits [B, L, T], both float32, of int64 inputs [B, L].

        Segment 0 is the query, 1 the item; where the mask is 0 the tag logits mean nothing.
        """
        hidden = self.encoder(input_ids, attention_mask, token_type_ids).float()
        # Few weights: in float32 they cost nothing, and exports need no special care.
        with torch.autocast(device_type=hidden.device.type, enabled=False):
            tag_logits = self.tag_head(self.dropout(hidden))
            real = attention_mask.unsqueeze(-1).to(hidden.dtype)
            item = real * token_type_ids.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * real).sum(dim=1) / real.sum(dim=1).clamp(min=1.0)
            strongest = [(tag_logits * side + LOW * (1.0 - side)).amax(dim=1) for side in (real - item, item)]
            pooled = torch.cat([hidden[:, 0], mean, *strongest], dim=-1)
            pooled = torch.tanh(self.dense(self.dropout(pooled)))
            return self.grade_head(self.dropout(pooled)), tag_logits

    def score(self, grade_logits: Tensor) -> Tensor:
        """Return the relevance score in [0, 1], [B], of grade logits [B, G]."""
        return relevance_score(grade_logits, self.gains)
