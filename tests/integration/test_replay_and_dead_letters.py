"""`relevance replay` and `relevance dead-letters` against a real broker."""

from __future__ import annotations

import gzip
import json
import uuid
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kafka import TopicPartition

from ops.cli.main import cli
from ops.cli.ubi_files import MAX_LINE_BYTES
from ops.kafka import consumer, ensure_topics, producer
from ops.settings import Settings
from streams.dead_letters import DeadLetter
from streams.topics import DEAD_LETTERS, TOPICS, UBI_EVENTS, UBI_QUERIES

pytestmark = pytest.mark.integration


@pytest.fixture
def kafka(broker: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    ensure_topics(Settings(), broker, TOPICS)
    monkeypatch.setenv("RELEVANCE_KAFKA", broker)
    monkeypatch.setenv("RELEVANCE_RUN_DIR", str(tmp_path / "run"))
    return broker


def relevance(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), catch_exceptions=False)


def ends(bootstrap: str, topic: str) -> dict[TopicPartition, int]:
    with closing(consumer(Settings(), bootstrap)) as client:
        numbers = client.partitions_for_topic(topic) or set()
        found: dict[TopicPartition, int] = client.end_offsets([TopicPartition(topic, n) for n in numbers])
        return found


def sent_since(bootstrap: str, begin: dict[TopicPartition, int]) -> list[tuple[bytes | None, bytes]]:
    """Return key and value of what came after `begin`."""
    topic = next(iter(begin)).topic
    end = ends(bootstrap, topic)
    found = []
    with closing(consumer(Settings(), bootstrap)) as client:
        client.assign(list(begin))
        for partition, offset in begin.items():
            client.seek(partition, offset)
        while any(client.position(partition) < end[partition] for partition in begin):
            for records in client.poll(timeout_ms=5000).values():
                found += [(record.key, record.value) for record in records]
    return found


def test_lines_arrive_unchanged_on_their_topics(kafka: str, tmp_path: Path) -> None:
    queries, events = ends(kafka, UBI_QUERIES), ends(kafka, UBI_EVENTS)
    query_id = str(uuid.uuid4())
    query = f'{{"query_id" : "{query_id}",  "user_query": "sch\u00f6ne Schuhe", "application": "a"}}'.encode()
    event = json.dumps({"action_name": "click", "query_id": query_id, "application": "b"}).encode()
    garbage = b"\xff\xfe not json"
    longest = b'"' + b"x" * (MAX_LINE_BYTES - 2) + b'"'
    path = tmp_path / "mixed.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join([query, event, garbage, longest, longest + b"x"])))

    answer = relevance("replay", str(path))
    assert answer.exit_code == 0, answer.output
    assert sent_since(kafka, queries) == [(query_id.encode(), query)]
    assert sorted(sent_since(kafka, events), key=lambda sent: len(sent[1])) == [
        (None, garbage),
        (query_id.encode(), event),
        (None, longest),
    ]
    assert f"{path}:5: {MAX_LINE_BYTES + 1:,} bytes, more than the {MAX_LINE_BYTES:,}" in answer.output
    assert "sent 4 lines" in answer.output


def test_only_the_wanted_application_is_sent_and_a_topic_can_be_forced(kafka: str, tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text('{"query_id": "1", "application": "a"}\n{"query_id": "2", "application": "b"}\n{\n')
    queries, events = ends(kafka, UBI_QUERIES), ends(kafka, UBI_EVENTS)
    answer = relevance("replay", "--application", "b", str(path))
    assert answer.exit_code == 0, answer.output
    assert [key for key, _ in sent_since(kafka, queries)] == [b"2"]
    assert "2 not sent: of another application" in answer.output
    answer = relevance("replay", "--topic", UBI_EVENTS, str(path))
    assert answer.exit_code == 0, answer.output
    assert len(sent_since(kafka, events)) == 3


def test_a_rate_is_kept(kafka: str, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"action_name": "click"}\n' * 30)
    answer = relevance("replay", "--rate", "30", str(path))
    assert answer.exit_code == 0, answer.output
    speed = float(answer.output.rsplit("(", 1)[1].split()[0])
    assert speed <= 31


def test_dead_letters_are_listed_shown_and_sent_again(kafka: str) -> None:
    reason = f"test_{uuid.uuid4().hex[:8]}"
    value = b'\xff{"query_id": "\x1b[2J' + uuid.uuid4().bytes
    begin, dead = ends(kafka, UBI_EVENTS), ends(kafka, DEAD_LETTERS)
    with closing(producer(Settings(), kafka)) as client:
        for offset, resent in ((7, 0), (8, 1), (9, 0)):
            letter = DeadLetter(
                topic=UBI_EVENTS,
                partition=0,
                offset=offset,
                reason=reason,
                detail="line 1\nline 2",
                key=b"k",
                # Two are the same record, which has come back once already.
                value=value if offset < 9 else value + b"!",
                at_ms=1_700_000_000_000,
                resent=resent,
            )
            client.send(DEAD_LETTERS, value=letter.value, key=letter.key, headers=letter.headers())
        client.flush()
    first = next(iter(dead.values()))

    listed = relevance("dead-letters", "list", "--reason", reason, "--json")
    assert listed.exit_code == 0, listed.output
    rows = [json.loads(line) for line in listed.output.splitlines()]
    assert [(row["offset"], row["source_offset"], row["resent"]) for row in rows] == [
        (first, 7, 0),
        (first + 1, 8, 1),
        (first + 2, 9, 0),
    ]
    table = relevance("dead-letters", "list", "--reason", reason, "--limit", "1")
    assert f"{UBI_EVENTS}/0@9" in table.output
    assert f"{UBI_EVENTS}/0@8" not in table.output

    shown = relevance("dead-letters", "show", str(first))
    assert shown.exit_code == 0
    assert '\\xff{"query_id": "\\x1b[2J' in shown.output
    assert "\x1b" not in shown.output

    dry = relevance("dead-letters", "resend", "--reason", reason, "--dry-run")
    assert "would send 2 to ubi.events" in dry.output
    assert sent_since(kafka, begin) == []
    done = relevance("dead-letters", "resend", "--reason", reason)
    assert "sent 2 to ubi.events" in done.output
    assert "1 equal records left out" in done.output
    assert sorted(sent_since(kafka, begin)) == [(b"k", value), (b"k", value + b"!")]


def test_an_unknown_letter_is_told(kafka: str) -> None:
    answer = CliRunner().invoke(cli, ["dead-letters", "show", "999999999"])
    assert "no dead letter at offset 999999999" in str(answer.exception)
    assert relevance("dead-letters", "resend").exit_code == 2
