"""`relevance dead-letters`: list, show and send again what could not be processed."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime

import click
import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from ops import endpoints
from ops.cli.context import CommandError, Context, pass_context, printable
from ops.kafka import consumer, producer
from ops.settings import Settings
from ops.stack.broker_probe import failure
from streams.dead_letters import RESENT_HEADER, DeadLetter, from_message
from streams.topics import DEAD_LETTERS

#: A record that came back so often will not get through by being sent once more.
MAX_RESENDS = 3
#: Headers that say where a letter came from; the others belong to the original record.
OWN_HEADERS = frozenset(
    ("source-topic", "source-partition", "source-offset", "reason", "detail", "at-ms", RESENT_HEADER)
)
IDLE_TIMEOUT_S = 15.0
FLUSH_TIMEOUT_S = 60.0
PREVIEW_CHARS = 60


class Letter(msgspec.Struct, frozen=True):
    """A dead letter, its own offset on the topic of dead letters, and the original record's headers."""

    offset: int
    letter: DeadLetter
    headers: list[tuple[str, bytes]]


@click.group("dead-letters")
def dead_letters() -> None:
    """List, show and send again what could not be processed."""


@dead_letters.command(
    "list",
    epilog="\b\nExamples:\n  relevance dead-letters list\n  relevance dead-letters list --reason not_json",
)
@click.option("--reason", help="Only letters with this reason.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@pass_context
def list_letters(context: Context, reason: str | None, limit: int, as_json: bool) -> None:
    """List the newest dead letters, oldest first, and how many there are by reason."""
    settings = context.settings()
    counts: Counter[str] = Counter()
    newest: deque[Letter] = deque(maxlen=limit)
    for found in read_letters(settings, endpoints.kafka_address(settings)):
        counts[found.letter.reason] += 1
        if reason is None or found.letter.reason == reason:
            newest.append(found)
    if as_json:
        for found in newest:
            click.echo(json.dumps(as_dict(found)))
        return
    context.table(
        ("offset", "at (UTC)", "reason", "from", "bytes", "resent", "detail"),
        [_cells(found) for found in newest],
    )
    for name, count in counts.most_common():
        context.console.print(f"{count:>10,} {printable(name)}")
    context.console.print(f"{counts.total():>10,} in all")


def _cells(found: Letter) -> tuple[object, ...]:
    letter = found.letter
    at = datetime.fromtimestamp(letter.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    origin = f"{letter.topic}/{letter.partition}@{letter.offset}"
    size = len(letter.value or b"")
    return found.offset, at, letter.reason, origin, size, letter.resent, letter.detail[:PREVIEW_CHARS]


@dead_letters.command("show", epilog="\b\nExamples:\n  relevance dead-letters show 17")
@click.argument("offset", type=click.IntRange(0))
@click.option("--json", "as_json", is_flag=True, help="Print JSON; bytes as in the text, escaped.")
@pass_context
def show(context: Context, offset: int, as_json: bool) -> None:
    """Show one dead letter with every byte, those that could steer a terminal escaped."""
    settings = context.settings()
    found = _pick(read_letters(settings, endpoints.kafka_address(settings)), offset)
    shown = as_dict(found) | {"value": escaped(found.letter.value), "key": escaped(found.letter.key)}
    if as_json:
        click.echo(json.dumps(shown))
        return
    for name, value in shown.items():
        if name != "value":
            context.console.print(f"{name:<10} {printable(str(value))}")
    for header, content in found.headers:
        context.console.print(f"header     {printable(header)}: {escaped(content)}")
    context.console.print(shown["value"])


@dead_letters.command(
    "resend",
    epilog="\b\nExamples:\n  relevance dead-letters resend 17 18\n"
    "  relevance dead-letters resend --reason no_timestamp --dry-run",
)
@click.argument("offsets", nargs=-1, type=click.IntRange(0))
@click.option("--reason", help="All letters with this reason.")
@click.option("--all", "everything", is_flag=True, help="All letters.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@pass_context
def resend(
    context: Context, offsets: tuple[int, ...], reason: str | None, everything: bool, dry_run: bool
) -> None:
    """Send letters to the topic they came from, key and bytes unchanged; to be used once the cause is mended.

    Equal records are sent once. A record that came back three times is not sent again.
    """
    if sum((bool(offsets), reason is not None, everything)) != 1:
        raise click.UsageError("expected one of: OFFSETS, --reason REASON, --all")
    settings = context.settings()
    bootstrap = endpoints.kafka_address(settings)
    wanted = chooser(set(offsets), reason)
    chosen = [found for found in read_letters(settings, bootstrap) if wanted(found)]
    if missing := sorted(set(offsets) - {found.offset for found in chosen}):
        raise CommandError(f"no dead letter at offset {', '.join(map(str, missing))}")
    once, hopeless = to_send(chosen)
    if not dry_run and once:
        with closing(producer(settings, bootstrap)) as client:
            _send(client, once)
    verb = "would send" if dry_run else "sent"
    for topic, count in sorted(Counter(found.letter.topic for found in once).items()):
        context.console.print(f"{verb} {count:,} to {printable(topic)}")
    if repeated := len(chosen) - len(once) - len(hopeless):
        context.console.print(f"{repeated:,} equal records left out")
    if hopeless:
        context.console.print(f"{len(hopeless):,} not sent: they came back {MAX_RESENDS} times")
    if not chosen:
        context.console.print("no such dead letter")


def chooser(offsets: set[int], reason: str | None) -> Callable[[Letter], bool]:
    """Return which letters are meant: by offset, by reason, or all."""

    def wanted(found: Letter) -> bool:
        if offsets:
            return found.offset in offsets
        return reason is None or found.letter.reason == reason

    return wanted


def to_send(letters: Iterable[Letter]) -> tuple[list[Letter], list[Letter]]:
    """Keep one of each equal record, the one resent most; set apart those that always come back."""
    latest: dict[tuple[str, bytes | None, bytes | None], Letter] = {}
    for found in letters:
        identity = (found.letter.topic, found.letter.key, found.letter.value)
        known = latest.get(identity)
        if known is None or found.letter.resent >= known.letter.resent:
            latest[identity] = found
    hopeless = [found for found in latest.values() if found.letter.resent >= MAX_RESENDS]
    return [found for found in latest.values() if found.letter.resent < MAX_RESENDS], hopeless


def resend_headers(found: Letter) -> list[tuple[str, bytes]]:
    """Return the original record's headers and how often it has been sent again."""
    return [*found.headers, (RESENT_HEADER, str(found.letter.resent + 1).encode())]


def escaped(content: bytes | None) -> str:
    """Return bytes as text that is safe on a terminal.

    >>> escaped(b'caf\\xc3\\xa9 \\xff\\x1b[2J')
    'café \\\\xff\\\\x1b[2J'
    """
    return "" if content is None else printable(content.decode("utf-8", "backslashreplace"))


def as_dict(found: Letter) -> dict[str, object]:
    """Return what `list --json` prints of a letter; the bytes themselves are for `show`."""
    letter = found.letter
    return {
        "offset": found.offset,
        "at_ms": letter.at_ms,
        "reason": letter.reason,
        "detail": letter.detail,
        "source_topic": letter.topic,
        "source_partition": letter.partition,
        "source_offset": letter.offset,
        "bytes": len(letter.value or b""),
        "resent": letter.resent,
    }


def read_letters(settings: Settings, bootstrap: str) -> Iterator[Letter]:
    """Read the topic of dead letters from first to last as of now. Raises CommandError."""
    if reason := failure(settings, bootstrap):
        raise CommandError(
            f"no Kafka answers at {bootstrap}: {reason}; is the stack up (`relevance status`)?"
        )
    with closing(consumer(settings, bootstrap)) as client:
        if DEAD_LETTERS not in client.topics():
            return
        partitions = [
            TopicPartition(DEAD_LETTERS, n) for n in client.partitions_for_topic(DEAD_LETTERS) or ()
        ]
        client.assign(partitions)
        yield from _until(client, client.end_offsets(partitions))


def _until(client: KafkaConsumer, ends: dict[TopicPartition, int]) -> Iterator[Letter]:
    client.seek_to_beginning(*ends)
    while any(client.position(partition) < end for partition, end in ends.items()):
        polled = client.poll(timeout_ms=int(IDLE_TIMEOUT_S * 1000))
        if not polled:
            raise CommandError(f"the broker sent no dead letters for {IDLE_TIMEOUT_S:g} s; try again")
        for partition, records in polled.items():
            for record in records:
                if record.offset >= ends[partition]:
                    continue
                # Not every writer says when; the broker knows.
                headers = [("at-ms", str(record.timestamp).encode()), *record.headers]
                letter = from_message(headers, key=record.key, value=record.value)
                kept = [(name, content) for name, content in record.headers if name not in OWN_HEADERS]
                yield Letter(record.offset, letter, kept)


def _pick(letters: Iterable[Letter], offset: int) -> Letter:
    for found in letters:
        if found.offset == offset:
            return found
    raise CommandError(f"no dead letter at offset {offset}; `relevance dead-letters list` shows the newest")


def _send(client: KafkaProducer, letters: list[Letter]) -> None:
    sent = [
        client.send(
            found.letter.topic, value=found.letter.value, key=found.letter.key, headers=resend_headers(found)
        )
        for found in letters
    ]
    client.flush(timeout=FLUSH_TIMEOUT_S)
    for future in sent:
        future.get(timeout=FLUSH_TIMEOUT_S)
