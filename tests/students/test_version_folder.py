"""Numbers of versions, and what a manifest must hold."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from students import version_folder
from students.tokenisation import Limits
from students.version_folder import Manifest, Probe, VersionError


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "format": 1,
        "version": 3,
        "kind": "interaction",
        "parent": 0,
        "labels": ("E", "I"),
        "gains": (1.0, 0.0),
        "tags": ("O", "B-match"),
        "limits": Limits(),
        "dimensions": 0,
        "slope": (),
        "offset": (),
        "offsets": {},
        "gate": {},
        "fidelity": {},
        "probes": (Probe(query="q", item_text="i", scores={"fp32": 0.5}),),
        "created_ms": 1,
        "files": {},
    }
    return Manifest(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "expected format 1, got 2"),
        ({"version": 0}, "a version from 1"),
        ({"gains": (1.0,)}, "a gain for each"),
        ({"tags": ()}, "tags of an interaction student"),
        ({"dimensions": 8}, "of two towers only"),
        (
            {"kind": "representation", "tags": (), "dimensions": 8, "slope": (1.0,), "offset": (0.0,)},
            "each grade",
        ),
        ({"probes": ()}, "pairs with known scores"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        manifest(**changes)
    encoded = msgspec.json.encode(msgspec.to_builtins(manifest()) | changes)
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.json.decode(encoded, type=Manifest)


def test_a_number_is_given_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        given = list(threads.map(lambda _: version_folder.reserve_number(tmp_path), range(40)))
    assert sorted(given) == list(range(1, 41))
    (tmp_path / "90").mkdir()
    assert version_folder.reserve_number(tmp_path) == 91
    (tmp_path / "90").rmdir()
    assert version_folder.reserve_number(tmp_path) == 92
    (tmp_path / ".last").write_text("many")
    with pytest.raises(VersionError, match="expected the last version number, got b'many'"):
        version_folder.reserve_number(tmp_path)


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    with version_folder.unfinished(tmp_path) as made:
        (made / "tokenizer.json").write_text("{}")
        with pytest.raises(VersionError, match=r"expected model\.fp16\.onnx"):
            version_folder.finish(made, tmp_path, lambda hashes: manifest(files=hashes))
    assert list(tmp_path.iterdir()) == []
    for attempt in range(2):
        with version_folder.unfinished(tmp_path) as made:
            for name in version_folder.expected_files("interaction"):
                (made / name).write_text(name)
            if attempt:
                with pytest.raises(VersionError, match="version 3 exists"):
                    version_folder.finish(made, tmp_path, lambda hashes: manifest(files=hashes))
            else:
                assert (
                    version_folder.finish(made, tmp_path, lambda hashes: manifest(files=hashes))
                    == tmp_path / "3"
                )
    assert version_folder.verify(tmp_path / "3").version == 3
    assert [path.name for path in tmp_path.iterdir()] == ["3"]
