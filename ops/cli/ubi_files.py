"""Reading UBI files for replay: lines as they are, which topic each belongs to, and its key."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from ops.cli.context import CommandError
from streams.topics import MAX_RECORD_BYTES, UBI_EVENTS, UBI_QUERIES

#: Room for the key and the batch around a record: the topic's maximum counts them too.
OVERHEAD_BYTES = 1024
MAX_LINE_BYTES = MAX_RECORD_BYTES - OVERHEAD_BYTES
MAX_KEY_BYTES = 512


class Envelope(msgspec.Struct, frozen=True):
    """The fields of a record that replay looks at, whatever their type."""

    action_name: Any = msgspec.UNSET
    query_id: Any = None
    application: Any = None


class Line(msgspec.Struct, frozen=True):
    """A line without its line break. `value` is None if it is longer than the topic takes."""

    number: int
    size: int
    value: bytes | None


class Record(msgspec.Struct, frozen=True):
    """What to send. `readable` is false for a line that is not a JSON object."""

    topic: str
    key: bytes | None
    application: str | None
    readable: bool


_decoder = msgspec.json.Decoder(Envelope)


class UbiFile:
    """A file of UBI records, one a line, plain or gzip. Raises CommandError if it can't be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._raw = path.open("rb")
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror or error}") from error
        compressed = self._raw.read(2) == b"\x1f\x8b"
        self._raw.seek(0)
        # GzipFile reads like a file, which its type does not say.
        self._lines = cast(BinaryIO, gzip.GzipFile(fileobj=self._raw)) if compressed else self._raw
        if not compressed and path.suffix == ".gz":
            self._raw.close()
            raise CommandError(f"{path}: expected gzip, as its name says; got something else")

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    @property
    def position(self) -> int:
        """Return how many bytes of the file itself have been read."""
        return self._raw.tell()

    def __iter__(self) -> Iterator[Line]:
        number = 0
        try:
            while piece := self._lines.readline(MAX_LINE_BYTES + 2):
                number += 1
                size = len(piece)
                last = piece
                while not last.endswith(b"\n") and (last := self._lines.readline(io.DEFAULT_BUFFER_SIZE)):
                    size += len(last)
                value = piece.removesuffix(b"\n").removesuffix(b"\r")
                if size > len(piece) or len(value) > MAX_LINE_BYTES:
                    yield Line(number, size, None)
                elif value.strip():
                    yield Line(number, len(value), value)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise CommandError(f"{self.path}: damaged gzip after line {number}: {error}") from error
        except OSError as error:
            raise CommandError(f"{self.path}: can't be read after line {number}: {error}") from error


def topic_by_name(path: Path) -> str:
    """Return the topic that a file's name suggests, for lines that say nothing themselves.

    >>> topic_by_name(Path("ubi_queries.jsonl.gz"))
    'ubi.queries'
    """
    return UBI_QUERIES if "quer" in path.name.lower() else UBI_EVENTS


def classify(value: bytes, *, otherwise: str) -> Record:
    """Decide topic and key of a line: events have an `action_name`, queries have none.

    A line that is no JSON object goes to the topic `otherwise`, without a key.
    """
    try:
        envelope = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Record(otherwise, None, None, readable=False)
    topic = UBI_QUERIES if envelope.action_name is msgspec.UNSET else UBI_EVENTS
    key = envelope.query_id.encode()[:MAX_KEY_BYTES] if isinstance(envelope.query_id, str) else None
    application = envelope.application if isinstance(envelope.application, str) else None
    return Record(topic, key or None, application, readable=True)
