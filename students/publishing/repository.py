"""Triton's model repository on disk: versions come and go by renaming whole folders; no reader sees half of one.

ROOT/models/MODEL/VERSION is what Triton reads. Folders are made and emptied in ROOT/staging, outside of the models:
Triton takes a change beside a model's versions for a new configuration, and would load all of them again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

import streams
import students
import triton_models
from ops.files import write_atomically
from ops.settings import Settings
from students import version_folder
from students.publishing.configs import TEMPLATES, TEXT_MODELS, config_of, models_of, shape_of
from students.version_folder import GRAPHS, Manifest, Precision

#: What a Python model imports of the project goes with each version of it: a version answers alike for ever.
SHARED = (
    (Path(streams.__file__).parent, ("__init__.py", "item_text.py")),
    (
        Path(students.__file__).parent,
        ("__init__.py", "batching.py", "scores.py", "tokenisation.py", "version_folder.py"),
    ),
    (Path(triton_models.__file__).parent, ("__init__.py",)),
)


class RepositoryError(RuntimeError):
    """A version cannot be put into the repository. The message says why."""


def root_of(settings: Settings) -> Path:
    """Return the repository's folder, absolute."""
    return (settings.serving.repository or settings.run_dir / "triton").expanduser().absolute()


def versions_of(settings: Settings) -> Path:
    """Return the folder of exported versions, absolute."""
    return (settings.serving.versions or settings.run_dir / "students" / "versions").expanduser().absolute()


class Repository:
    """The folder `root`."""

    def __init__(self, root: Path) -> None:
        self.models = root / "models"
        self.staging = root / "staging"
        self.models.mkdir(parents=True, exist_ok=True)
        self.staging.mkdir(exist_ok=True)

    def served(self) -> dict[str, list[int]]:
        """Return the versions that lie in each model's folder, in the order in which models are to be loaded."""
        found = {}
        for model in (each for kind in GRAPHS for each in models_of(kind)):
            folder = self.models / model
            numbers = sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit())
            if numbers:
                found[model] = numbers
        return found

    def install(
        self, folder: Path, manifest: Manifest, *, precision: Precision, profile: str, threads: int
    ) -> None:
        """Put a verified version folder into the folders of its kind's models.

        Raises RepositoryError if the number is there, or versions of other sizes are.
        """
        configs = {
            model: config_of(model, manifest, profile=profile, threads=threads)
            for model in models_of(manifest.kind)
        }
        for model, text in configs.items():
            self._check(model, manifest.version, text)
        for model, text in configs.items():
            config = self.models / model / "config.pbtxt"
            # Writing it anew would load every version again.
            if not config.exists() or config.read_text(encoding="utf-8") != text:
                write_atomically(config, text.encode())
            staged = self.staging / f"{model}-{manifest.version}-{secrets.token_hex(4)}"
            staged.mkdir()
            if model in GRAPHS[manifest.kind]:
                stem = GRAPHS[manifest.kind][model]
                _link(folder / version_folder.graph_file(stem, precision), staged / "model.onnx")
            else:
                _write_text_model(model, folder, staged)
            staged.rename(self.models / model / str(manifest.version))

    def remove(self, version: int, models: Sequence[str]) -> None:
        """Take a version out of models' folders; where it is not there, nothing happens."""
        for model in models:
            gone = self.staging / f"{model}-{version}-{secrets.token_hex(4)}"
            with contextlib.suppress(FileNotFoundError):
                (self.models / model / str(version)).rename(gone)
        self.empty_staging()

    def empty_staging(self) -> None:
        """Delete what was taken out, and what an interrupted installation has left."""
        for left in self.staging.iterdir():
            shutil.rmtree(left, ignore_errors=True)

    def touch(self, model: str, version: int) -> None:
        """Mark a version as changed, so that the next load of its model loads this version anew and no other."""
        # A file of its own: the others are shared with further models.
        marker = self.models / model / str(version) / "reloaded"
        marker.touch()
        os.utime(marker)

    def _check(self, model: str, version: int, text: str) -> None:
        if (self.models / model / str(version)).exists():
            raise RepositoryError(f"{self.models / model}: version {version} is there; a number is used once")
        config = self.models / model / "config.pbtxt"
        others = [path.name for path in config.parent.glob("[0-9]*")]
        if others and config.exists():
            before, after = shape_of(config.read_text(encoding="utf-8")), shape_of(text)
            if before != after:
                raise RepositoryError(
                    f"{model} serves {', '.join(sorted(others))} with {before}, version {version} needs {after}:"
                    " versions of one repository have the same grades, tags and vector length; publish this one to"
                    " another repository, or retire the others first"
                )


def _write_text_model(model: str, folder: Path, target: Path) -> None:
    assert any(model in models for models in TEXT_MODELS.values())
    shutil.copy(TEMPLATES / model / "model.py", target / "model.py")
    for name in (version_folder.TOKENIZER, version_folder.MANIFEST):
        _link(folder / name, target / name)
    for package, names in SHARED:
        (target / package.name).mkdir()
        for name in names:
            shutil.copy(package / name, target / package.name / name)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(TEMPLATES / "shared", target / "triton_models" / "shared", ignore=ignored)
    # A file in its place keeps Python from writing bytecode here, which Triton would take for a change.
    for made in {path.parent for path in target.rglob("*.py")}:
        (made / "__pycache__").touch()


def _link(source: Path, target: Path) -> None:
    """Share the file where both lie in one file system; a version's files never change."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy(source, target)
