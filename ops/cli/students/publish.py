"""`relevance students publish`: a version, or a trained student that becomes one, into serving."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from ops.cli.context import CommandError, Context, pass_context
from ops.cli.students.publishing import EXPECTED, publisher_of, told
from ops.settings import Settings, load
from streams.item_text import item_text
from students.publishing.repository import versions_of
from students.version_folder import read_manifest

Line = TypeVar("Line", bound=msgspec.Struct)

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
#: Enough to measure a precision's fidelity on; more only takes time.
MOST_PAIRS = 500


class PairLine(msgspec.Struct, frozen=True):
    """What is read of a line of pairs, such as a record of relevance.pairs or relevance.judgements."""

    query: str
    item_text: str


class ItemLine(msgspec.Struct, frozen=True):
    """What is read of a line of items, such as a record of catalogue.items; an `item_text` goes before the rest."""

    item_id: str
    item_text: str = ""
    title: str = ""
    brand: str = ""
    category: tuple[str, ...] = ()
    attributes: dict[str, str] = {}


@click.command(
    epilog="\b\nExamples:\n  relevance students publish .relevance/students/versions/12\n"
    "  relevance students publish runs/first/student --pairs judgements.jsonl --promote\n"
    "  relevance students publish runs/towers/student --pairs judgements.jsonl --items items.jsonl"
)
@click.argument("folder", type=FOLDER)
@click.option(
    "--pairs", type=FILE, help="For a trained student: JSON lines with query and item_text to export on."
)
@click.option(
    "--items", type=FILE, help="JSON lines of items whose vectors are stored with a representation student."
)
@click.option("--parent", type=click.IntRange(0), default=0, help="The version it was trained from.")
@click.option("--promote", is_flag=True, help="Make it the champion at once.")
@click.option("--decision", default="", help="Why, for the record.")
@pass_context
def publish(
    context: Context,
    *,
    folder: Path,
    pairs: Path | None,
    items: Path | None,
    parent: int,
    promote: bool,
    decision: str,
) -> None:
    """Serve a version of a student beside the others: as its kind's challenger, as champion where there is none.

    It counts as served once it is loaded and scores its probes as its export did; otherwise it is taken out again.
    """
    settings = load(context.environment())
    try:
        version = _exported(context, settings, folder, pairs=pairs, parent=parent)
        if items is not None:
            _store_vectors(context, settings, version, items)
    except EXPECTED as error:
        raise CommandError(str(error)) from error
    with publisher_of(settings) as publisher:
        step = publisher.publish(version, decision=decision)
        told(context, settings, publisher, step)
        if promote and step.champion != step.version:
            told(context, settings, publisher, publisher.promote(step.version, decision=decision))


def _exported(context: Context, settings: Settings, folder: Path, *, pairs: Path | None, parent: int) -> Path:
    from students import saved

    if not (folder / saved.DESCRIPTION).exists():
        return folder
    if pairs is None:
        raise click.UsageError("a trained student is exported first: name --pairs to measure the export on")
    from students.export.export import export_version

    read = [(each.query, each.item_text) for each in _lines(pairs, PairLine)[:MOST_PAIRS]]
    try:
        student = saved.load(folder)
    except saved.StudentFolderError as error:
        raise CommandError(str(error)) from error
    made = export_version(
        student, versions_of(settings), pairs=read, parent=parent, now_ms=time.time_ns() // 1_000_000
    )
    context.console.print(f"exported {read_manifest(made).name} to {made}")
    return made


def _store_vectors(context: Context, settings: Settings, version: Path, items: Path) -> None:
    from ops.scoring import item_vectors

    listed = [(each.item_id, each.item_text or _text(each)) for each in _lines(items, ItemLine)]
    began_s = time.monotonic()
    vectors = item_vectors.compute(
        version,
        listed,
        precision=settings.serving.served_precision,
        threads=settings.triton_server.threads,
    )
    item_vectors.save(vectors, version)
    context.console.print(
        f"{len(listed):,} item vectors in {time.monotonic() - began_s:.1f} s beside {version}"
    )


def _text(line: ItemLine) -> str:
    return item_text(title=line.title, brand=line.brand, category=line.category, attributes=line.attributes)


def _lines(path: Path, of: type[Line]) -> list[Line]:
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            found.append(msgspec.json.decode(line, type=of))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CommandError(
                f"{path} line {number}: expected JSON with {', '.join(of.__struct_fields__)}: {error}"
            ) from error
    return found
