"""Cross-entropy on the grade.

    loss = mean over pairs of  -log softmax(z)[g]

z [B, G] grade logits, g [B] the grade's position. People's grades and the teacher's likeliest ones are both taught
by it; it knows nothing of how sure the teacher was.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def hard_grade_loss(grade_logits: Tensor, grades: Tensor) -> Tensor:
    """Return the loss, a scalar >= 0 in nats: logits [B, G], grades [B] int64."""
    return functional.cross_entropy(grade_logits, grades)
