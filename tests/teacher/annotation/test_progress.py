from __future__ import annotations

import pytest

from teacher.annotation.accounting import Prices
from teacher.annotation.ledger import Spent
from teacher.annotation.progress import Progress
from tests.teacher.annotation.samples import judgement


def test_rate_is_of_this_run_and_cost_of_the_ledger() -> None:
    prices = {
        "a": Prices(usd_per_million_prompt_tokens=1000, usd_per_million_completion_tokens=5000),
        "b": Prices(),
    }
    spent = {"a": Spent(answers=6, prompt_tokens=1000, completion_tokens=100)}
    progress = Progress(to_ask={"a": 4, "b": 10}, spent=spent, prices=prices, now_s=100)
    assert progress.told(100) == "6/20 answers, 0.0/s, 1,100 tokens, $1.50, unknown left"
    progress.add("a", judgement())
    assert progress.left_s(102) is None
    progress.add("b", judgement())
    progress.add("b", judgement())
    # The slower one decides: a has 3 left at 2 s each, b has 8 left at 1 s each.
    assert progress.left_s(102) == pytest.approx(8)
    assert progress.told(102) == "9/20 answers, 1.5/s, 2,360 tokens, $2.00, 0:00:08 left"


def test_nothing_to_ask_leaves_nothing() -> None:
    progress = Progress(to_ask={"a": 0}, spent={}, prices={"a": Prices()}, now_s=0)
    assert (progress.done, progress.total, progress.left_s(0)) == (0, 0, 0)
