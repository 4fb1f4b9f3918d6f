from __future__ import annotations

from pathlib import Path

import pytest

from ops.endpoints import NotRunningError
from ops.settings import Settings
from teacher.serving import address
from teacher.serving.address import TeacherAddress, teacher_urls


def test_the_setting_wins_over_the_local_server(tmp_path: Path) -> None:
    address.write(tmp_path, TeacherAddress("http://127.0.0.1:18000/v1", 7))
    settings = Settings(run_dir=tmp_path, teacher_url="http://gpu-1:8000/v1, http://gpu-2:8000/v1/")
    assert teacher_urls(settings) == ["http://gpu-1:8000/v1", "http://gpu-2:8000/v1"]
    assert teacher_urls(Settings(run_dir=tmp_path)) == ["http://127.0.0.1:18000/v1"]


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"url": 5, "pid": 1}', b"\xff"])
def test_without_a_server_it_says_how_to_get_one(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        address.path_in(tmp_path).parent.mkdir(parents=True)
        address.path_in(tmp_path).write_bytes(content)
    with pytest.raises(NotRunningError, match="relevance teacher serve"):
        teacher_urls(Settings(run_dir=tmp_path))


def test_a_removed_address_is_gone(tmp_path: Path) -> None:
    address.remove(tmp_path)
    address.write(tmp_path, TeacherAddress("http://127.0.0.1:1/v1", 7))
    assert address.read(tmp_path) == TeacherAddress("http://127.0.0.1:1/v1", 7)
    address.remove(tmp_path)
    assert address.read(tmp_path) is None
