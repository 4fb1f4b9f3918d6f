"""The first students of a tiny shop: made once, named by what they are made of, laid into a run directory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from ops.loop import cold_start, labels
from ops.loop.cold_start import ColdStart, ColdStartError, install, key_of, of_run, prepare
from ops.scoring import item_vectors
from ops.settings import Settings
from students.examples import read_labelled
from students.export.fidelity import FidelityLimits
from students.export.onnx_student import OnnxStudent
from students.grades import ESCI
from students.incremental.golden import read_golden
from students.publishing.repository import root_of, versions_of
from students.version_folder import verify
from tests.students.samples import write_small_encoder
from tests.students.tiny import tiny_settings

#: The order of a tiny student's scores under int8 is chance.
LOOSE = FidelityLimits(mean_error=1, largest_error=1, rank_correlation=-1)


def settings_in(run_dir: Path, encoder: Path, **students: object) -> Settings:
    tiny = tiny_settings(encoder, **({"epochs": 1, "batch_pairs": 32, "max_tokens": 32} | students))
    return Settings.model_validate(
        {"run_dir": run_dir, "shop": {"items": 300, "queries": 200}, "students": tiny.model_dump()}
    )


@dataclass
class Made:
    settings: Settings
    cache: Path
    start: ColdStart
    said: list[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "LEARNED", 100)
        patch.setattr(labels, "UNSEEN", 12)
        folder = tmp_path_factory.mktemp("cold")
        settings = settings_in(folder / "run", write_small_encoder(tmp_path_factory.mktemp("encoder")))
        said: list[str] = []
        start = prepare(settings, folder / "cache", say=said.append, limits=LOOSE)
        yield Made(settings, folder / "cache", start, said)


def test_both_students_are_versions_that_score(made: Made) -> None:
    pairs = read_golden(made.start.golden, ESCI).pairs[:20]
    for number, kind in ((1, "interaction"), (2, "representation")):
        folder = made.start.versions / str(number)
        assert verify(folder).kind == kind
        scores = OnnxStudent.open(folder, precision="int8", threads=1).scores(
            [pair.query for pair in pairs], [pair.item_text for pair in pairs]
        )
        assert ((scores >= 0) & (scores <= 1)).all()
    vectors = item_vectors.load(made.start.versions / "2")
    assert len(vectors.item_ids) == made.settings.shop.items


def test_what_they_learned_is_kept_for_the_trainer_to_replay(made: Made) -> None:
    assert read_labelled(made.start.learned, ESCI) == labels.labels_of(made.settings).learned


def test_progress_tells_the_time_that_is_left(made: Made) -> None:
    assert any("left" in line for line in made.said)
    assert any("representation student is ready" in line for line in made.said)


def test_what_is_in_the_cache_is_not_made_again(made: Made) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.start.folder.rglob("*")}
    said: list[str] = []
    assert prepare(made.settings, made.cache, say=said.append) == made.start
    assert said == ["first students: in the cache"]
    assert {path: path.stat().st_mtime_ns for path in made.start.folder.rglob("*")} == before


def test_a_start_that_was_cut_short_is_gone_on_with(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.cache, tmp_path / "cache")
    folder = tmp_path / "cache" / made.start.folder.name
    (folder / cold_start.DONE).unlink()
    (folder / "versions" / "1" / "version.json").write_text("{")
    again = prepare(made.settings, tmp_path / "cache", say=lambda _: None, limits=LOOSE)
    assert [verify(again.versions / number).version for number in ("1", "2")] == [1, 2]
    weights = "runs/interaction/student/model.safetensors"
    assert (folder / weights).read_bytes() == (made.start.folder / weights).read_bytes()


def test_the_name_follows_from_all_that_the_students_follow_from(made: Made) -> None:
    settings = made.settings
    found = labels.labels_of(settings)
    assert key_of(settings, found, ESCI) == made.start.folder.name

    def changed(**students: object) -> str:
        encoder = settings.students.encoder
        assert encoder is not None
        return key_of(settings_in(settings.run_dir, encoder, **students), found, ESCI)

    assert changed(log_every_s=1, save_every_s=1) == made.start.folder.name
    assert len({changed(), changed(seed=2), changed(epochs=2), changed(learning_rate=1e-5)}) == 4
    fewer = msgspec.structs.replace(found.learned[0], grade="I" if found.learned[0].grade == "E" else "E")
    found.learned[0] = fewer
    assert key_of(settings, found, ESCI) != made.start.folder.name


def test_a_run_directory_gets_the_versions_once_and_no_others(made: Made, tmp_path: Path) -> None:
    settings = made.settings.model_copy(update={"run_dir": tmp_path / "run"})
    with pytest.raises(ColdStartError, match="no first students"):
        of_run(settings.run_dir, made.cache)
    install(made.start, settings)
    install(made.start, settings)
    assert [verify(path).version for path in sorted(versions_of(settings).glob("[0-9]*"))] == [1, 2]
    assert of_run(settings.run_dir, made.cache) == made.start
    with pytest.raises(ColdStartError, match="--run-dir"):
        install(ColdStart(made.cache / "0123456789abcdef"), settings)


def test_a_run_directory_with_students_of_somebody_else_is_refused(made: Made, tmp_path: Path) -> None:
    settings = made.settings.model_copy(update={"run_dir": tmp_path / "run"})
    root_of(settings).mkdir(parents=True)
    (root_of(settings) / "steps.jsonl").write_text("{}\n")
    with pytest.raises(ColdStartError, match="began otherwise"):
        install(made.start, settings)
