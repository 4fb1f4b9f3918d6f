"""First against served student: the same pairs, the same resamples, tail apart."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from ops.evaluation.pairs import ScoredPairs, scored_pairs
from ops.loop.evaluation import Gain, compare, gains
from students.examples import LabelledPair
from students.export.export import export_version
from students.version_folder import VersionError
from tests.integration.triton_server import LOOSE, PAIRS, small_student

GAINS = {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}


def pairs(noise: float, *, queries: int = 60, strata: tuple[str, ...] = ("tail", "head")) -> ScoredPairs:
    """Return pairs whose scores are the gain with noise: the less, the better."""
    rng, of = np.random.default_rng(5), np.random.default_rng(6)
    grades = [list(GAINS)[each] for each in of.integers(0, 4, size=queries * 8)]
    truth = np.array([GAINS[each] for each in grades])
    names = [f"q{number // 8}" for number in range(len(grades))]
    return scored_pairs(
        gains=GAINS,
        queries=names,
        scores=np.clip(truth + noise * rng.normal(size=len(truth)), 0, 1),
        grades=grades,
        strata=[strata[int(name[1:]) % len(strata)] for name in names],
    )


def by_cut(found: list[Gain]) -> dict[tuple[str, str], Gain]:
    return {(each.cut, each.metric): each for each in found}


def test_a_better_student_is_surely_better_on_all_and_on_tail_queries() -> None:
    found = by_cut(gains(pairs(0.9), pairs(0.2)))
    assert set(found) == {(cut, metric) for cut in ("all", "tail") for metric in ("auc", "ndcg_at_10")}
    for each in found.values():
        assert each.difference.lower is not None
        assert each.difference.lower > 0
        assert each.first.value is not None
        assert each.last.value is not None
        assert each.difference.value == pytest.approx(each.last.value - each.first.value)
    assert (found["all", "auc"].queries, found["tail", "auc"].queries) == (60, 30)


def test_the_same_student_is_neither_better_nor_worse() -> None:
    for each in gains(pairs(0.5), pairs(0.5)):
        assert (each.difference.value, each.difference.lower, each.difference.upper) == (0, 0, 0)


@pytest.mark.parametrize("name", ["", "tail"])
def test_queries_of_one_class_are_compared_as_a_whole(name: str) -> None:
    found = gains(pairs(0.9, strata=(name,)), pairs(0.2, strata=(name,)))
    assert {each.cut for each in found} == {"all"}


def test_versions_are_compared_as_they_are_served(tmp_path: Path, small_encoder: Path) -> None:
    for seed in (1, 2):
        export_version(
            small_student(small_encoder, "interaction", seed=seed),
            tmp_path / "versions",
            pairs=PAIRS,
            now_ms=1,
            limits=LOOSE,
        )
    unseen = tmp_path / "unseen.jsonl"
    made = [
        LabelledPair(query=query, item_id=str(at), item_text=text, grade="ESCI"[at % 4], traffic_class="tail")
        for at, (query, text) in enumerate(PAIRS)
    ]
    unseen.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in made))
    same = by_cut(compare(tmp_path / "versions", 1, 1, unseen, precision="int8"))
    other = by_cut(compare(tmp_path / "versions", 1, 2, unseen, precision="int8"))
    assert same["all", "auc"].difference.value == 0
    assert other["all", "auc"].first == same["all", "auc"].first
    assert other["all", "auc"].last != same["all", "auc"].last
    with pytest.raises(VersionError):
        compare(tmp_path / "versions", 1, 3, unseen, precision="int8")
    unseen.write_text("<b>\n")
    with pytest.raises(msgspec.DecodeError):
        compare(tmp_path / "versions", 1, 2, unseen, precision="int8")
