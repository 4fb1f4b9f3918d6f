"""The demo's settings: all of them exist, none goes before what a person has set, and they hold together."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.loop import demo_settings as demo
from ops.loop.cold_start import ColdStart
from ops.settings import Settings, load
from ops.stack import plan
from teacher.serving.weights import ADAPTER_FILES


def loaded(**chosen: object) -> Settings:
    return load({f"RELEVANCE_{name}": str(value) for name, value in chosen.items()})


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("real", [False, True])
def test_they_load_and_start_every_part_of_the_loop(fast: bool, real: bool) -> None:
    settings = loaded(**demo.demo_settings(Settings(), fast=fast, real=real, base=True))
    names = [part.name for part in plan.parts(settings)]
    for part in ("triton", "teacher-server", "sampler", "teacher-worker-1", "trainer", "loop", "shop"):
        assert part in names
    stages = {part.name: part.stage for part in plan.parts(settings)}
    assert stages["triton"] < stages["loop"] < stages["shop"]
    assert settings.shop.students
    assert not settings.trainer.to_treatment
    assert settings.teacher_server.base
    assert (settings.shop.golden_share > 0) == real
    assert (settings.shop.speed > 1) == fast


def test_what_a_person_has_set_goes_before() -> None:
    given = load({"RELEVANCE_SHOP__SEARCHES_PER_S": "25", "RELEVANCE_GATE__MARGIN": "0.01"})
    chosen = demo.demo_settings(given)
    assert "SHOP__SEARCHES_PER_S" not in chosen
    assert "GATE__MARGIN" not in chosen
    assert chosen["TRAINER__HELD_OUT_SHARE"] == 0.25
    assert demo.light_settings(load({"RELEVANCE_SHOP__SPEED": "2"}), fast=True) == {}


def test_on_real_catalogues_the_small_teacher_grades_without_chains_and_no_other_does() -> None:
    chosen = loaded(**demo.demo_settings(Settings(), real=True))
    assert (chosen.teacher_server.adapter, chosen.teacher.mode) == ("score", "score")
    for given in (
        {"RELEVANCE_TEACHER_URL": "http://gpu-1:8000/v1"},
        {"RELEVANCE_TEACHER_SERVER__MODEL": "Qwen/Qwen2.5-7B-Instruct"},
        {"RELEVANCE_TEACHER__MODE": "chain"},
        {"RELEVANCE_TEACHER_SERVER__ADAPTER": "default"},
    ):
        assert not set(demo.REAL_SMALL_TEACHER) & set(demo.demo_settings(load(given), real=True))
    assert not set(demo.REAL_SMALL_TEACHER) & set(demo.demo_settings(Settings()))
    assert not set(demo.REAL_SMALL_TEACHER) & set(demo.demo_settings(Settings(), real=True, base=True))


def test_light_is_the_shop_as_it_is() -> None:
    assert demo.light_settings(Settings()) == {}
    assert [part.name for part in plan.parts(loaded(**demo.light_settings(Settings(), fast=True)))] == [
        "broker",
        "streams-1",
        "metrics",
        "features",
        "shop",
    ]


def test_another_teacher_needs_no_fine_tuning_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "DEFAULT_ADAPTER", tmp_path)
    assert not demo.has_teacher(Settings())
    assert demo.has_teacher(load({"RELEVANCE_TEACHER_URL": "http://gpu-1:8000/v1"}))
    assert demo.has_teacher(load({"RELEVANCE_TEACHER_SERVER__MODEL": "Qwen/Qwen2.5-7B-Instruct"}))
    for name in ADAPTER_FILES:
        (tmp_path / name).touch()
    assert demo.has_teacher(Settings())


def test_the_loop_begins_with_what_was_prepared(tmp_path: Path) -> None:
    settings = loaded(**demo.settings_of(ColdStart(tmp_path)))
    assert settings.loop.first_versions == tmp_path / "versions"
    assert settings.trainer.start == tmp_path / "runs" / "interaction" / "student"
    assert settings.trainer.start_version == 1
    assert settings.trainer.labels == tmp_path / "learned.jsonl"
    assert settings.gate.golden == tmp_path / "golden.jsonl"
