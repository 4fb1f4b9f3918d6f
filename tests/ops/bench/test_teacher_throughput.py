from __future__ import annotations

import pytest

from ops.bench.teacher_throughput import Figures, counter, readable
from ops.shop.judged_pairs import JudgedPair
from teacher import policy

METRICS = """# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 4160.0
vllm:prefix_cache_hits_total{engine="1",model_name="m"} 1e3
vllm:prefix_cache_hits_created{engine="0",model_name="m"} 1.7e9
vllm:external_prefix_cache_hits_total{engine="0"} 5.0
plain_total 2
"""


def test_a_counter_is_summed_over_its_labels() -> None:
    assert counter(METRICS, "vllm:prefix_cache_hits_total") == 5160
    assert counter(METRICS, "plain_total") == 2
    with pytest.raises(ValueError, match="expected the counter vllm:prefix_cache_queries_total"):
        counter(METRICS, "vllm:prefix_cache_queries_total")


def test_figures_are_per_pair_and_per_second() -> None:
    figures = Figures(
        name="vLLM",
        pairs=10,
        readable=9,
        seconds=4,
        prompt_tokens=5000,
        completion_tokens=600,
        hits=0.8125,
    )
    assert figures.per_s == 2.5
    line = figures.line()
    for part in ("2.50 pairs/s", "150 tokens/s", "500 + 60.0 tokens a pair", "9 of 10 readable", "81.2%"):
        assert part in line


def test_only_chains_are_readable() -> None:
    pair = JudgedPair(
        query="red mug", item_id="1", item_text="Mug", grade="E", traffic_class="head", source="shop"
    )
    answers = ["red | colour | - | unstated\ngrade: S", "I think it is relevant", ""]
    assert readable(policy.default(), [pair] * 3, answers) == 1
