"""The first students: trained from people's few labels, exported, with item vectors; made once and kept in a cache.

FOLDER/KEY/learned.jsonl, golden.jsonl, unseen.jsonl   graded pairs (`ops.loop.labels`)
FOLDER/KEY/runs/KIND                    training runs; stopped, the next call goes on with them
FOLDER/KEY/versions/1, 2                interaction and representation student as versions, item vectors beside 2
FOLDER/KEY/done.json                    written last

KEY is a hash of all that they follow from, so whatever is changed is made anew. On two free cores it took 83 s.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ops.files import write_atomically
from ops.loop.labels import Labels, labels_of
from ops.settings import Settings
from students.examples import LabelledPair, from_label
from students.export.fidelity import FidelityLimits
from students.grades import GradeScale
from students.publishing.repository import root_of, versions_of
from students.version_folder import Kind, path_of
from teacher import policy as policies

#: Raise it when the same labels and settings make other students.
FORM = 2
KINDS: tuple[Kind, ...] = ("interaction", "representation")
DONE, MARK = "done.json", "began-with"
LEARNED, GOLDEN, UNSEEN = "learned.jsonl", "golden.jsonl", "unseen.jsonl"
#: Pairs that the exports' parity and fidelity are measured on.
EXPORT_PAIRS = 128
#: int8 may cost a score twice the usual on average: what a few hundred pairs have taught is held by less than int8
#: rounds away. The order must hold as it must of any other student.
LIMITS = FidelityLimits(mean_error=0.04)

Say = Callable[[str], None]


class ColdStartError(RuntimeError):
    """The run directory holds a loop that was begun otherwise. The message says what to do."""


class Done(msgspec.Struct, frozen=True):
    """How long each step took, in seconds."""

    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class ColdStart:
    """What was prepared: a whole folder of the cache."""

    folder: Path

    @property
    def student(self) -> Path:
        """Return the trained interaction student, which the trainer goes on from."""
        return self.folder / "runs" / "interaction" / "student"

    @property
    def versions(self) -> Path:
        """Return the folder of the exported versions."""
        return self.folder / "versions"

    @property
    def learned(self) -> Path:
        """Return the graded pairs that the first students learned."""
        return self.folder / LEARNED

    @property
    def golden(self) -> Path:
        """Return the gate's golden set."""
        return self.folder / GOLDEN

    @property
    def unseen(self) -> Path:
        """Return the graded pairs of queries that nothing of the loop sees."""
        return self.folder / UNSEEN


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of cold starts in the user's cache."""
    base = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", "~")).expanduser() / ".cache"
    return Path(base) / "relevance-loop" / "cold-starts"


def prepare(settings: Settings, cache: Path, *, say: Say, limits: FidelityLimits = LIMITS) -> ColdStart:
    """Return the first students of the settings' shop, made first if the cache lacks them.

    `say` hears of progress. Raises CatalogueError, PolicyError, EncoderError, TrainingError, FidelityError (beyond
    `limits`), OSError.
    """
    began_s = time.monotonic()
    scale = GradeScale.of(policies.configured(settings.teacher).gains)
    labels = labels_of(settings)
    made = ColdStart(cache / key_of(settings, labels, scale))
    if (made.folder / DONE).exists():
        say("first students: in the cache")
        return made
    seconds = {"labels": time.monotonic() - began_s}
    learned, queries = len(labels.learned), len({pair.query for pair in labels.learned})
    say(f"first students: {learned} pairs of {queries} queries that people graded; about two minutes, once")
    made.folder.mkdir(parents=True, exist_ok=True)
    _write(made.learned, labels.learned)
    _write(made.golden, labels.golden)
    _write(made.unseen, labels.unseen)
    # A start that was cut short may have left some.
    shutil.rmtree(made.versions, ignore_errors=True)
    for kind in KINDS:
        began_s = time.monotonic()
        _make(made, kind, settings, labels, scale, say=say, limits=limits)
        seconds[kind] = time.monotonic() - began_s
        say(f"first students: the {kind} student is ready, {seconds[kind]:.0f} s")
    rounded = {name: round(took_s, 1) for name, took_s in seconds.items()}
    write_atomically(made.folder / DONE, msgspec.json.format(msgspec.json.encode(Done(rounded))) + b"\n")
    return made


def key_of(settings: Settings, labels: Labels, scale: GradeScale) -> str:
    """Return what names a cold start: 16 hexadecimal digits over all that it is made of."""
    from students.training.run_folder import INCIDENTAL, start_of, weights_fingerprint

    digest = hashlib.blake2b(digest_size=8)
    parts = (
        [FORM, settings.serving.precision, weights_fingerprint(start_of(settings.students))],
        settings.students.model_dump(mode="json", exclude=set(INCIDENTAL)),
        [labels.learned, labels.golden, labels.unseen, labels.items],
        scale,
    )
    for part in parts:
        digest.update(msgspec.json.encode(part, order="sorted") + b"\n")
    return digest.hexdigest()


def install(made: ColdStart, settings: Settings) -> None:
    """Put the first versions among those of the run directory, where a loop begins or goes on.

    Raises ColdStartError if a loop of other first students lives there.
    """
    mark = settings.run_dir / "loop" / MARK
    began_with = mark.read_text(encoding="utf-8").strip() if mark.exists() else ""
    if began_with not in ("", made.folder.name) or (
        not began_with and (root_of(settings) / "steps.jsonl").exists()
    ):
        raise ColdStartError(
            f"{settings.run_dir} holds students that began otherwise (another shop, labels or settings):"
            f" name another run directory with --run-dir, or delete {settings.run_dir} to begin anew"
        )
    for version in sorted(made.versions.glob("[0-9]*")):
        target = path_of(versions_of(settings), int(version.name))
        if not target.exists():
            # Versions never change, so the files may be shared.
            unfinished = target.with_name(f".installing-{version.name}")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(version, unfinished, copy_function=_link)
            unfinished.rename(target)
    mark.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(mark, made.folder.name.encode() + b"\n")


def of_run(run_dir: Path, cache: Path) -> ColdStart:
    """Return what a run directory's loop began with. Raises ColdStartError if the cache lost it."""
    mark = run_dir / "loop" / MARK
    if not mark.exists() or not (cache / mark.read_text(encoding="utf-8").strip() / DONE).exists():
        raise ColdStartError(f"{run_dir} has no first students, or {cache} lost them: start the demo again")
    return ColdStart(cache / mark.read_text(encoding="utf-8").strip())


def _make(
    made: ColdStart,
    kind: Kind,
    settings: Settings,
    labels: Labels,
    scale: GradeScale,
    *,
    say: Say,
    limits: FidelityLimits,
) -> None:
    # Only where something is made: torch takes seconds.
    from ops.scoring import item_vectors
    from students import saved
    from students.export.export import export_version
    from students.training.run import described, run

    folder = made.folder / "runs" / kind
    say(f"first students: training the {kind} student")
    run(
        folder,
        [from_label(pair, scale) for pair in labels.learned],
        description=described(kind, scale, settings.students),
        settings=settings.students,
        say=lambda text: say(f"  {text}"),
    )
    say(f"first students: exporting the {kind} student")
    version = export_version(
        saved.load(folder / "student"),
        made.versions,
        pairs=[(pair.query, pair.item_text) for pair in labels.golden[:EXPORT_PAIRS]],
        now_ms=time.time_ns() // 1_000_000,
        limits=limits,
    )
    if kind == "representation":
        say(f"first students: vectors of {len(labels.items):,} items")
        precision = settings.serving.served_precision
        item_vectors.save(item_vectors.compute(version, labels.items, precision=precision), version)


def _write(path: Path, pairs: Sequence[LabelledPair]) -> None:
    write_atomically(path, b"".join(msgspec.json.encode(pair) + b"\n" for pair in pairs))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
