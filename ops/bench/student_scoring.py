"""A trained student in torch and exported to ONNX: pairs a second, latency, size on disk, and what precision costs.

    python -m ops.bench.student_scoring --student FOLDER --answers DIR [--set shop] [--pairs 512]

FOLDER is what `relevance students train` wrote, DIR of --answers what `ops.bench.student_judgements` did. Every way
scores the same pairs, text in, score out: all of them at once, by length; then one at a time and as many as a page
has. The ways take turns; figures are medians over rounds, p99 over all calls. The table of metrics is over unseen
queries against the shop's truth or people's grades, its differences are from torch in fp32.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np

from ops.bench import student_answers
from ops.bench.machine import announce
from ops.bench.student_answers import SCALE, graded
from ops.cli.context import Context
from ops.cli.students.tables import render, report
from ops.evaluation.pairs import ScoredPairs
from students import saved
from students.batching import Floats
from students.evaluation.graded import scored_by
from students.evaluation.scoring import score_pairs
from students.export.export import export_version
from students.export.fidelity import FidelityError, FidelityLimits
from students.export.onnx_student import OnnxStudent
from students.version_folder import GRAPHS, PRECISIONS, Kind, Precision, graph_file, read_manifest

TORCH, TORCH_BF16 = "torch fp32", "torch bf16"
#: Pairs that the export's fidelity is measured on.
FIDELITY_PAIRS = 256
#: Everything is shown here, also what an export would refuse.
LOOSE = FidelityLimits(mean_error=1, largest_error=1, rank_correlation=-1)

Pairs = Sequence[tuple[str, str]]
Score = Callable[[Pairs], Floats]


@click.command(help=__doc__)
@click.option("--student", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--answers", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--set", "name", default="shop", show_default=True)
@click.option("--pairs", default=512, show_default=True, type=click.IntRange(1), help="Scored at once.")
@click.option("--page", default=32, show_default=True, type=click.IntRange(1), help="Pairs of a call.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--calls", default=40, show_default=True, type=click.IntRange(1), help="For a latency.")
def main(*, student: Path, answers: Path, name: str, pairs: int, page: int, rounds: int, calls: int) -> None:
    """Export, measure and print."""
    announce("ops.bench.student_scoring")
    _, held_out = student_answers.read(answers, name)
    known = graded(held_out)
    texts = [(each.query, each.item_text) for each in known]
    loaded = saved.load(student)
    with tempfile.TemporaryDirectory() as folder:
        try:
            version = export_version(
                loaded, Path(folder), pairs=texts[:FIDELITY_PAIRS], now_ms=1, limits=LOOSE
            )
        except FidelityError as error:
            raise click.ClickException(str(error)) from error
        manifest = read_manifest(version)
        opened = {each: OnnxStudent.open(version, precision=each) for each in PRECISIONS}
        ways: dict[str, Score] = {
            TORCH: lambda asked: score_pairs(loaded, asked).scores,
            TORCH_BF16: lambda asked: score_pairs(loaded, asked, bf16=True).scores,
        } | {f"ONNX {each}": _onnx(opened[each]) for each in PRECISIONS}
        sizes = {f"ONNX {each}": graph_bytes(version, manifest.kind, each) for each in PRECISIONS}
        sizes[TORCH] = sum(file.stat().st_size for file in student.iterdir())
        bulk = in_turn(ways, [texts[:pairs]] * rounds)
        single = in_turn(ways, [texts[place : place + 1] for place in range(min(calls, len(texts)))])
        pages = in_turn(ways, [texts[at : at + page] for at in range(calls)])
        Context().table(
            ["", "pairs/s", "times torch", "1 pair p50 ms", "p99", f"{page} pairs p50 ms", "p99", "MB"],
            [
                (
                    way,
                    f"{pairs_per_s(bulk[way], min(pairs, len(texts))):.0f}",
                    f"{np.median(bulk[TORCH]) / np.median(bulk[way]):.2f}",
                    *_milliseconds(single[way]),
                    *_milliseconds(pages[way]),
                    f"{sizes[way] / 1e6:.1f}" if way in sizes else "",
                )
                for way in ways
            ],
        )
        # Over the same pairs, so that a difference is the precision's.
        scorers: dict[str, Sequence[ScoredPairs]] = {
            way: [scored_by(loaded, known, bf16=way == TORCH_BF16)] for way in (TORCH, TORCH_BF16)
        }
        base = scorers[TORCH][0]
        for way in list(ways)[2:]:
            found = base.with_scores(ways[way](texts).astype(np.float64))
            # Of the graphs only scores are asked, so that there is no accuracy to tell.
            scorers[way] = [dataclasses.replace(found, predicted=None)]
        click.echo(f"\n{name}, {manifest.kind} student: {len(known)} pairs of {base.queries} unseen queries")
        compared = [(way, TORCH) for way in ways if way != TORCH]
        render(Context(), report({way: scorers[way] for way in ways}, compared, SCALE))


def in_turn(ways: dict[str, Score], calls: Sequence[Pairs]) -> dict[str, list[float]]:
    """Return each way's seconds of each call, after one that is not counted; the ways take turns."""
    took: dict[str, list[float]] = {way: [] for way in ways}
    for number, asked in enumerate([calls[0], *calls]):
        for way, score in ways.items():
            began_s = time.perf_counter()
            score(asked)
            if number:
                took[way].append(time.perf_counter() - began_s)
    return took


def pairs_per_s(seconds: Sequence[float], pairs: int) -> float:
    """Return pairs a second by the median."""
    return float(pairs / np.median(seconds))


def graph_bytes(version: Path, kind: Kind, precision: Precision) -> int:
    """Return the bytes of a version's graphs of one precision; two towers in one file count once."""
    stems = GRAPHS[kind].values()
    files = {(version / graph_file(stem, precision)).stat() for stem in stems}
    return sum({(stat.st_dev, stat.st_ino): stat.st_size for stat in files}.values())


def _onnx(opened: OnnxStudent) -> Score:
    return lambda asked: opened.scores([query for query, _ in asked], [item for _, item in asked])


def _milliseconds(seconds: Sequence[float]) -> tuple[str, str]:
    p50, p99 = np.percentile(np.array(seconds) * 1000, [50, 99])
    return f"{p50:.2f}", f"{p99:.2f}"


if __name__ == "__main__":
    main()
