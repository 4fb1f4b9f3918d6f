"""Judgements on disk: by identity, whole after a kill, and a damaged file named."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.records import Judgement, SubtaskVerdict
from teacher.cache import CacheError, Identity, JudgementCache, identity


def judgement(**values: object) -> Judgement:
    verdict = SubtaskVerdict(
        subtask="colour", verdict="match", query_words="red", item_words="", query_span=(0, 3), item_span=None
    )
    held: dict[str, object] = {
        "query": "red mug", "item_id": "i1", "item_text": "Nova mug\ncolour: red", "content_hash": "c",
        "teacher_id": "t", "prompt_hash": "p", "grades": {"E": 0.75, "S": 0.25}, "grade": "E",
        "relevance_score": 0.775, "verdicts": [verdict], "unlocated": 0, "chain_of_thought": "grade: E",
        "latency_ms": 1.5, "prompt_tokens": 3, "cached_tokens": 1, "completion_tokens": 2, "judged_ms": 4,
    }  # fmt: skip
    return Judgement(**(held | values))  # type: ignore[arg-type]


def test_what_is_kept_is_found_again_by_another_process_too(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "judgements.sqlite3"
    with JudgementCache(path) as cache:
        assert cache.get(identity(judgement())) is None
        cache.put(judgement())
        with JudgementCache(path, read_only=True) as reader:
            assert reader.get(identity(judgement())) == judgement()
    with JudgementCache(path) as cache:
        assert cache.get(identity(judgement())) == judgement()
        assert list(cache) == [judgement()]


@pytest.mark.parametrize("part", ["query", "item_id", "content_hash", "teacher_id", "prompt_hash"])
def test_every_part_of_the_identity_counts(tmp_path: Path, part: str) -> None:
    with JudgementCache(tmp_path / "j") as cache:
        cache.put(judgement())
        other = identity(judgement(**{part: "another"}))
        assert cache.get(other) is None
        cache.put(judgement(**{part: "another"}))
        assert len(cache) == 2


def test_the_first_judgement_of_an_identity_stays(tmp_path: Path) -> None:
    with JudgementCache(tmp_path / "j") as cache:
        cache.put(judgement(judged_ms=1))
        cache.put(judgement(judged_ms=2))
        kept = cache.get(identity(judgement()))
        assert kept is not None
        assert kept.judged_ms == 1
        assert len(cache) == 1


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(words, words, words)
def test_any_text_is_kept_as_it_is(query: str, item_id: str, text: str) -> None:
    held = judgement(query=query, item_id=item_id, item_text=text, chain_of_thought=text)
    with JudgementCache(Path(":memory:")) as cache:
        cache.put(held)
        assert cache.get(identity(held)) == held
        assert cache.get(msgspec.structs.replace(identity(held), query=query + "x")) is None


def test_what_was_put_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "judgements.sqlite3"
    program = textwrap.dedent(
        f"""
        import itertools
        from pathlib import Path
        from teacher.cache import JudgementCache
        from tests.teacher.test_cache import judgement
        cache = JudgementCache(Path({str(path)!r}))
        for number in itertools.count():
            cache.put(judgement(item_id=str(number)))
            print(number, flush=True)
        """
    )
    writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    told = -1
    for line in writer.stdout:
        told = int(line)
        if told == 200:
            os.kill(writer.pid, signal.SIGKILL)
            break
    told = max([told, *(int(line) for line in writer.stdout)])
    writer.wait()
    with JudgementCache(path) as cache:
        for number in range(told + 1):
            assert cache.get(identity(judgement(item_id=str(number)))) is not None
        assert len(cache) in (told + 1, told + 2)


def test_a_missing_file_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="none"):
        JudgementCache(tmp_path / "none", read_only=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_file_is_named_with_a_way_out(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "judgements.sqlite3"
    path.write_bytes(content)
    with pytest.raises(CacheError, match=r"judgements\.sqlite3: .*move it"):
        JudgementCache(path)
    assert path.read_bytes() == content


def test_damage_inside_is_named_when_it_is_met(tmp_path: Path) -> None:
    path = tmp_path / "judgements.sqlite3"
    with JudgementCache(path) as cache:
        for number in range(500):
            cache.put(judgement(item_id=str(number)))
    content = bytearray(path.read_bytes())
    content[8192:] = os.urandom(len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(CacheError, match=r"judgements\.sqlite3: .*move it"), JudgementCache(path) as cache:
        assert list(cache)


def test_another_programs_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite3"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE notes (text)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(CacheError, match=r"other\.sqlite3: expected judgements"):
        JudgementCache(path)
    assert path.read_bytes() == before


def test_a_judgement_of_another_form_is_named(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with JudgementCache(path) as cache:
        cache.put(judgement())
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE judgements SET judgement = '{}'")
    raw.close()
    with JudgementCache(path) as cache, pytest.raises(CacheError, match="expected a judgement"):
        cache.get(identity(judgement()))


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=str(tmp_path)):
        JudgementCache(tmp_path)


def test_identities_are_equal_by_value() -> None:
    name = Identity(query="q", item_id="i", content_hash="c", teacher_id="t", prompt_hash="p")
    assert len({name, msgspec.structs.replace(name)}) == 1
