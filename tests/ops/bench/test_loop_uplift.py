"""Uplift from sums of pages: weights, classes, intervals; and what a run directory must be."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from ops.bench.loop_uplift import Asked, Uplift, asked_of, check_shop, main, mean_of, uplift
from ops.scoring import item_vectors
from ops.scoring.scorer import text_of
from ops.settings import Settings
from ops.shop.items import Item, TrafficQuery
from ops.shop.shop import Shop, open_shop
from streams.item_text import content_hash

STRATA = ["head", "torso", "torso", "tail", "tail", "tail"]


def shop_of(shares: list[float]) -> Shop:
    opened = open_shop(Settings.model_validate({"shop": {"items": 200, "queries": 60}}).shop)
    queries = [TrafficQuery(text=f"query {place}", share=share) for place, share in enumerate(shares)]
    return Shop(items=opened.items, queries=queries, truth=opened.truth)


def test_drawn_queries_keep_each_class_its_share_of_the_traffic() -> None:
    shares = [0.5, 0.2, 0.1, 0.1, 0.06, 0.04]
    asked = asked_of(shop_of(shares), STRATA, queries=2, rng=np.random.default_rng(1))
    assert asked.strata == ["head", "torso", "torso", "tail", "tail"]
    by_class = {
        name: sum(asked.weights[place] for place, each in enumerate(asked.strata) if each == name)
        for name in ("head", "torso", "tail")
    }
    assert by_class == pytest.approx({"head": 0.5, "torso": 0.3, "tail": 0.2})


def asked(queries: int = 40) -> Asked:
    strata = ["head"] * (queries // 2) + ["tail"] * (queries // 2)
    return Asked([f"query {place}" for place in range(queries)], np.full(queries, 1 / queries), strata)


def test_an_uplift_is_the_change_of_the_rate_by_class() -> None:
    control = np.tile([10.0, 1.0, 0.1], (40, 1))
    treatment = control.copy()
    treatment[20:, 1:] *= 1.5
    all_ctr = uplift("CTR", asked(), treatment, control, cut="all", seed=1)
    assert all_ctr.value == pytest.approx(0.25)
    lower, upper = np.quantile(all_ctr.drawn, [0.025, 0.975])
    # Queries are drawn within classes, and within one all are alike.
    assert lower == pytest.approx(0.25)
    assert upper == pytest.approx(0.25)
    assert uplift("CTR", asked(), treatment, control, cut="head", seed=1).value == pytest.approx(0)
    assert uplift("CTR", asked(), treatment, control, cut="tail", seed=1).value == pytest.approx(0.5)
    assert uplift("CVR", asked(), treatment, control, cut="all", seed=1).value == pytest.approx(0)


def test_the_interval_covers_what_queries_differ_by() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for seed in range(40):
        control = np.tile([10.0, 1.0, 0.1], (40, 1))
        treatment = control.copy()
        treatment[:, 1] *= 1 + rng.normal(0.1, 0.3, 40)
        lower, upper = np.quantile(
            uplift("CTR", asked(), treatment, control, cut="all", seed=seed).drawn, [0.025, 0.975]
        )
        covered += lower <= 0.1 <= upper
    assert covered >= 34


def test_the_mean_over_shops_is_surer_than_one() -> None:
    rng = np.random.default_rng(5)
    shops = [Uplift(0.1, rng.normal(0.1, 0.05, 2000)) for _ in range(4)]
    mean = mean_of(shops)
    assert mean.value == pytest.approx(0.1)
    assert mean.drawn.std() == pytest.approx(0.025, rel=0.1)
    assert str(Uplift(0.1, np.full(3, 0.1))) == "+10.0% [+10.0%, +10.0%]"


def test_a_run_of_another_shop_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.model_validate(
        {"run_dir": tmp_path / "run", "shop": {"items": 200, "queries": 60, "seed": 3}}
    )
    shop = open_shop(settings.shop)

    def table(items: list[Item]) -> item_vectors.ItemVectors:
        hashes = [content_hash(text_of(each)) for each in items]
        return item_vectors.table(
            2, [each.item_id for each in items], hashes, np.zeros((len(items), 4), np.float32)
        )

    monkeypatch.setattr(item_vectors, "load", lambda _: table(list(shop.items.values())))
    check_shop(settings, shop, 2)
    other = settings.model_copy(update={"shop": settings.shop.model_copy(update={"seed": 4})})
    with pytest.raises(click.ClickException, match="of another shop than that of seed 4"):
        check_shop(other, open_shop(other.shop), 2)


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ("7", "expected --run SEED=RUN_DIR"),
        ("x=.", "expected --run SEED=RUN_DIR"),
        ("7=.", "holds no students"),
    ],
)
def test_a_folder_that_is_no_run_is_told(run: str, says: str, tmp_path: Path) -> None:
    runner = CliRunner()
    with runner.isolated_filesystem(tmp_path):
        result = runner.invoke(main, ["--run", run])
    assert result.exit_code != 0
    assert says in result.output
