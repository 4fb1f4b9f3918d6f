"""The representation student: query and item each become a vector, apart from each other, so that item vectors are
stored and a query meets thousands of them in a millisecond.

Learned attention pooling (Lin et al. 2017, arXiv 1703.03130, one hop) makes the vector; it starts as the plain
mean. The grade logits are linear in the cosine of the two vectors: 2 G numbers score stored vectors.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from students.encoder import Encoder
from students.grades import GradeScale, relevance_score

#: Where the similarity head starts: steepness, and the cosine at which all grades are alike.
STEEPNESS = 8.0
MIDDLE = 0.5
#: Adam moves every weight by about the learning rate a step; these must come further than others.
REACH = 10.0


class Tower(nn.Module):
    """Texts to unit vectors [B, D] and the attention [B, L] that pooled them."""

    def __init__(self, encoder: Encoder, *, dimensions: int) -> None:
        """Take the encoder; `dimensions` is D, 0 for the encoder's own hidden size."""
        super().__init__()
        self.encoder = encoder
        hidden = encoder.hidden_size
        weight = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(weight.weight)
        self.attention = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), weight)
        self.projection: nn.Module = nn.Identity()
        if dimensions not in (0, hidden):
            self.projection = nn.Linear(hidden, dimensions, bias=False)
            nn.init.orthogonal_(self.projection.weight)
        self.dimensions = dimensions or hidden

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return float32 vectors [B, D] of length 1 and attention [B, L], each row summing to 1, 0 on padding."""
        hidden = self.encoder(input_ids, attention_mask).float()
        with torch.autocast(device_type=hidden.device.type, enabled=False):
            logits = self.attention(hidden).squeeze(-1).masked_fill(attention_mask == 0, -1e4)
            attention = torch.softmax(logits, dim=-1) * attention_mask.to(hidden.dtype)
            pooled = self.projection((attention.unsqueeze(-1) * hidden).sum(dim=1))
            return nn.functional.normalize(pooled, dim=-1), attention


class SimilarityHead(nn.Module):
    """Cosine [...] to grade logits [..., G]: slope * cosine + offset, one of each a grade."""

    def __init__(self, grades: int) -> None:
        """Start with the best grade likelier the more alike the two are."""
        super().__init__()
        slopes = torch.linspace(STEEPNESS, -STEEPNESS, grades)
        self.slope_weight = nn.Parameter(slopes / REACH)
        self.offset_weight = nn.Parameter(-slopes * MIDDLE / REACH)

    @property
    def slope(self) -> Tensor:
        """Return the slopes [G]."""
        return REACH * self.slope_weight

    @property
    def offset(self) -> Tensor:
        """Return the offsets [G]."""
        return REACH * self.offset_weight

    def forward(self, cosine: Tensor) -> Tensor:
        """Return the logits."""
        return cosine.unsqueeze(-1) * self.slope + self.offset


class RepresentationStudent(nn.Module):
    """Two towers, of the same weights or not, and the head on their similarity."""

    gains: Tensor

    def __init__(
        self, encoder: Encoder, *, scale: GradeScale, dimensions: int = 0, shared: bool = True
    ) -> None:
        """Take the encoder both towers start from; `shared` keeps them one, `dimensions` as in Tower."""
        super().__init__()
        self.scale = scale
        self.shared = shared
        self.query_tower = Tower(encoder, dimensions=dimensions)
        self.item_tower = self.query_tower if shared else copy.deepcopy(self.query_tower)
        self.head = SimilarityHead(len(scale.labels))
        self.register_buffer("gains", torch.tensor(scale.gains, dtype=torch.float32), persistent=False)

    @property
    def dimensions(self) -> int:
        """Return D, the vectors' length."""
        return self.query_tower.dimensions

    def encode_query(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the queries' unit vectors [B, D] and pooling attention [B, L] of int64 inputs [B, L]."""
        found: tuple[Tensor, Tensor] = self.query_tower(input_ids, attention_mask)
        return found

    def encode_item(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the items' unit vectors [B, D] and pooling attention [B, L] of int64 inputs [B, L]."""
        found: tuple[Tensor, Tensor] = self.item_tower(input_ids, attention_mask)
        return found

    def grade_logits(self, query: Tensor, item: Tensor) -> Tensor:
        """Return grade logits [B, G] of vectors [B, D]."""
        found: Tensor = self.head((query * item).sum(dim=-1))
        return found

    def score(self, grade_logits: Tensor) -> Tensor:
        """Return the relevance score in [0, 1], [B], of grade logits [B, G]."""
        return relevance_score(grade_logits, self.gains)
