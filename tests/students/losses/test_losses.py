"""Every loss against a value worked out by hand, and its gradient against finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from students.losses.attention_adjustment import attention_adjustment_loss
from students.losses.bio_tags import bio_tags_loss, tag_weights
from students.losses.hard_grade import hard_grade_loss
from students.losses.margin_mse import margin_mse_loss
from students.losses.score_distribution import score_distribution_loss
from students.tags import IGNORED

YES = torch.tensor([True])


def logits(*shape: int) -> torch.Tensor:
    drawn = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return drawn.requires_grad_(True)


def test_hard_grade_by_hand() -> None:
    # softmax(0, log 3) = (1/4, 3/4); the grades are the first and the second.
    given = torch.tensor([[0.0, math.log(3.0)], [0.0, math.log(3.0)]])
    found = hard_grade_loss(given, torch.tensor([0, 1]))
    assert found.item() == pytest.approx((math.log(4) + math.log(4 / 3)) / 2)


def test_hard_grade_gradient() -> None:
    assert torch.autograd.gradcheck(lambda z: hard_grade_loss(z, torch.tensor([0, 3, 2])), logits(3, 4))


def test_score_distribution_by_hand() -> None:
    # At T = 2 the teacher's (0.8, 0.2) becomes (2/3, 1/3), the student's logits (0, 0) stay (1/2, 1/2).
    found = score_distribution_loss(torch.zeros(1, 2), torch.tensor([[0.8, 0.2]]), YES, temperature=2.0)
    by_hand = 4 * (2 / 3 * math.log(2 / 3 / 0.5) + 1 / 3 * math.log(1 / 3 / 0.5))
    assert found.item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_score_distribution_is_0_for_the_teacher_itself(temperature: float) -> None:
    teacher = torch.tensor([[0.7, 0.2, 0.1]])
    found = score_distribution_loss(teacher.log(), teacher, YES, temperature=temperature)
    assert found.item() == pytest.approx(0.0, abs=1e-6)


def test_score_distribution_of_a_sure_teacher_is_finite() -> None:
    given = torch.zeros(1, 2, requires_grad=True)
    found = score_distribution_loss(given, torch.tensor([[1.0, 0.0]]), YES, temperature=2.0)
    found.backward()  # type: ignore[no-untyped-call]
    assert found.item() == pytest.approx(4 * math.log(2))
    assert given.grad is not None
    assert given.grad.isfinite().all()


def test_score_distribution_leaves_absent_rows_out() -> None:
    given = torch.tensor([[0.0, 0.0], [9.0, -9.0]])
    teacher = torch.tensor([[0.8, 0.2], [0.0, 0.0]])
    both = score_distribution_loss(given, teacher, torch.tensor([True, False]), temperature=1.0)
    assert both.item() == pytest.approx(
        score_distribution_loss(given[:1], teacher[:1], YES, temperature=1.0).item()
    )
    none = score_distribution_loss(given, teacher, torch.tensor([False, False]), temperature=1.0)
    assert none.item() == 0


def test_score_distribution_gradient() -> None:
    teacher = torch.tensor([[0.7, 0.1, 0.2], [1.0, 0.0, 0.0], [0.2, 0.2, 0.6]], dtype=torch.float64)
    present = torch.tensor([True, True, False])
    assert torch.autograd.gradcheck(
        lambda z: score_distribution_loss(z, teacher, present, temperature=3.0), logits(3, 3)
    )


def test_bio_tags_by_hand() -> None:
    # Uniform logits cost log 5 each, whatever the weights; the third token's logits favour its tag.
    given = torch.zeros(1, 4, 5)
    given[0, 2, 1] = math.log(4.0)
    tags = torch.tensor([[IGNORED, 0, 1, IGNORED]])
    weights = torch.tensor([1.0, 3.0, 1.0, 1.0, 1.0])
    by_hand = (1 * math.log(5) + 3 * math.log(8 / 4)) / (1 + 3)
    assert bio_tags_loss(given, tags, weights).item() == pytest.approx(by_hand)


def test_bio_tags_without_any_target_is_0_and_has_a_gradient() -> None:
    given = logits(2, 3, 5)
    found = bio_tags_loss(given, torch.full((2, 3), IGNORED), torch.ones(5))
    found.backward()  # type: ignore[no-untyped-call]
    assert found.item() == 0
    assert given.grad is not None
    assert not given.grad.any()


def test_bio_tags_gradient() -> None:
    tags = torch.tensor([[IGNORED, 0, 1, 2], [0, 3, 4, IGNORED]])
    weights = tag_weights([50, 10, 5, 2, 1])
    assert torch.autograd.gradcheck(lambda z: bio_tags_loss(z, tags, weights), logits(2, 4, 5))


def test_tag_weights_refuse_another_number_of_tags() -> None:
    with pytest.raises(ValueError, match="expected 5 counts"):
        tag_weights([1, 2])


def test_attention_adjustment_by_hand() -> None:
    # Three real tokens, one used, factor 2: wanted (1/4, 1/2, 1/4); the attention is even.
    attention = torch.tensor([[1 / 3, 1 / 3, 1 / 3, 0.0]])
    used = torch.tensor([[False, True, False, False]])
    mask = torch.tensor([[1, 1, 1, 0]])
    by_hand = 2 * 0.25 * math.log(0.25 * 3) + 0.5 * math.log(0.5 * 3)
    found = attention_adjustment_loss(attention, used, mask, YES, factor=2.0)
    assert found.item() == pytest.approx(by_hand)
    wanted = torch.tensor([[0.25, 0.5, 0.25, 0.0]])
    assert attention_adjustment_loss(wanted, used, mask, YES, factor=2.0).item() == pytest.approx(0, abs=1e-6)


def test_attention_adjustment_gradient() -> None:
    used = torch.tensor([[False, True, False, True], [True, False, False, False]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    present = torch.tensor([True, True])

    def loss(scores: torch.Tensor) -> torch.Tensor:
        attention = torch.softmax(scores.masked_fill(mask == 0, -1e4), dim=-1)
        return attention_adjustment_loss(attention, used, mask, present, factor=4.0)

    assert torch.autograd.gradcheck(loss, logits(2, 4))


def test_margin_mse_by_hand() -> None:
    scores = torch.tensor([0.9, 0.4, 0.1, 0.7])
    teacher = torch.tensor([1.0, 0.2, 0.3, 0.5])
    queries = torch.tensor([5, 5, 5, 8])
    every = torch.ones(4, dtype=torch.bool)
    by_hand = ((0.5 - 0.8) ** 2 + (0.8 - 0.7) ** 2 + (0.3 - -0.1) ** 2) / 3
    assert margin_mse_loss(scores, teacher, queries, every).item() == pytest.approx(by_hand, rel=1e-5)
    without = torch.tensor([True, False, True, True])
    assert margin_mse_loss(scores, teacher, queries, without).item() == pytest.approx(
        (0.8 - 0.7) ** 2, rel=1e-4
    )


def test_margin_mse_without_comparable_pairs_is_0() -> None:
    alone = torch.tensor([0.3], requires_grad=True)
    found = margin_mse_loss(alone, torch.tensor([0.9]), torch.tensor([1]), YES)
    found.backward()  # type: ignore[no-untyped-call]
    assert found.item() == 0


def test_margin_mse_gradient() -> None:
    teacher = torch.tensor([0.1, 0.9, 0.4, 0.6], dtype=torch.float64)
    queries, every = torch.tensor([0, 0, 1, 1]), torch.ones(4, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda s: margin_mse_loss(s, teacher, queries, every), logits(4))
