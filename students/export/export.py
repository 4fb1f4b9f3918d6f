"""The export of a trained student: graphs, precisions, parity with torch, fidelity, and the version folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from streams.item_text import query_text
from students import version_folder
from students.batching import Floats
from students.export import fidelity
from students.export.graphs import write_graphs
from students.export.onnx_student import OnnxStudent
from students.export.precisions import write_precisions
from students.interaction import InteractionStudent
from students.representation import RepresentationStudent
from students.saved import LoadedStudent
from students.tags import TAGS
from students.version_folder import PRECISIONS, Manifest, Precision, Probe

#: Pairs kept with the version, which a server must score alike before the version counts as served.
PROBES = 8
#: torch and onnxruntime add up in other orders; more than this is another graph.
PARITY = 1e-4


def export_version(
    student: LoadedStudent,
    versions: Path,
    *,
    pairs: Sequence[tuple[str, str]],
    parent: int = 0,
    offsets: Mapping[str, int] | None = None,
    gate: Mapping[str, float] | None = None,
    now_ms: int,
    limits: fidelity.FidelityLimits | None = None,
) -> Path:
    """Write a student as the next version below `versions` and return its folder.

    `pairs` are (query, item text), the more like traffic the better: parity and fidelity are measured on them, and
    the first few become the version's probes. Raises FidelityError, with nothing written, if a graph does not score
    as torch does, or int8 or fp16 not as fp32 within `limits`.
    """
    queries, items = [query_text(query) for query, _ in pairs], [item for _, item in pairs]
    student.model.eval()
    reference = torch_scores(student, queries, items)
    with version_folder.unfinished(versions) as folder:
        (folder / version_folder.TOKENIZER).write_text(student.tokeniser.tokenizer.to_str(), encoding="utf-8")
        written: dict[Path, dict[Precision, Path]] = {}
        for path in write_graphs(student, folder):
            same = next((each for each in written if path.samefile(each)), None)
            written[path] = write_precisions(path) if same is None else _linked(path, written[same])
        blank = _manifest(
            student, version=1, parent=parent, probes=(Probe(query="", item_text="", scores={}),)
        )
        scores: dict[Precision, Floats] = {
            each: OnnxStudent(folder, blank, precision=each).scores(queries, items) for each in PRECISIONS
        }
        worst = float(np.abs(scores["fp32"] - reference).max())
        if worst > PARITY:
            raise fidelity.FidelityError(
                f"the ONNX graph is {worst:.2g} from torch on a pair, at most {PARITY:g}"
            )
        measured = {"torch.largest_error": worst}
        for each in ("int8", "fp16"):
            found = fidelity.check(each, scores["fp32"], scores[each], limits or fidelity.FidelityLimits())
            measured |= {f"{each}.{name}": value for name, value in found.items()}
        probes = tuple(
            Probe(
                query=queries[place],
                item_text=items[place],
                scores={each: round(float(scores[each][place]), 6) for each in PRECISIONS},
            )
            for place in range(min(PROBES, len(pairs)))
        )
        number = version_folder.reserve_number(versions)
        return version_folder.finish(
            folder,
            versions,
            lambda hashes: _manifest(
                student,
                version=number,
                parent=parent,
                probes=probes,
                offsets=offsets,
                gate=gate,
                measured=measured,
                created_ms=now_ms,
                files=hashes,
            ),
        )


def torch_scores(student: LoadedStudent, queries: Sequence[str], items: Sequence[str]) -> Floats:
    """Return the scores [n] in [0, 1] of n pairs by torch, one at a time, so that padding has no part in them."""
    model, tokeniser = student.model, student.tokeniser
    found = []
    with torch.no_grad():
        for query, item in zip(queries, items, strict=True):
            if isinstance(model, InteractionStudent):
                pair = tokeniser.padded(tokeniser.pairs([query], [item]))
                logits, _ = model(
                    *map(torch.from_numpy, (pair.input_ids, pair.attention_mask, pair.token_type_ids))
                )
            else:
                sides = (
                    tokeniser.padded(tokeniser.queries([query])),
                    tokeniser.padded(tokeniser.items([item])),
                )
                (asked, _), (offered, _) = (
                    encode(torch.from_numpy(each.input_ids), torch.from_numpy(each.attention_mask))
                    for encode, each in zip((model.encode_query, model.encode_item), sides, strict=True)
                )
                logits = model.grade_logits(asked, offered)
            found.append(float(model.score(logits)[0]))
    return np.array(found, dtype=np.float32)


def _linked(path: Path, made: Mapping[Precision, Path]) -> dict[Precision, Path]:
    stem = path.name.removesuffix(".fp32.onnx")
    linked = {each: path.with_name(version_folder.graph_file(stem, each)) for each in made}
    for each, target in linked.items():
        if not target.exists():
            target.hardlink_to(made[each])
    return linked


def _manifest(
    student: LoadedStudent,
    *,
    version: int,
    parent: int,
    probes: tuple[Probe, ...],
    offsets: Mapping[str, int] | None = None,
    gate: Mapping[str, float] | None = None,
    measured: Mapping[str, float] | None = None,
    created_ms: int = 0,
    files: Mapping[str, str] | None = None,
) -> Manifest:
    scale = student.description.scale
    towers = student.model if isinstance(student.model, RepresentationStudent) else None
    return Manifest(
        format=version_folder.FORMAT,
        version=version,
        kind=student.description.paradigm,
        parent=parent,
        labels=scale.labels,
        gains=scale.gains,
        tags=() if towers else TAGS,
        limits=student.description.limits,
        dimensions=towers.dimensions if towers else 0,
        slope=tuple(towers.head.slope.tolist()) if towers else (),
        offset=tuple(towers.head.offset.tolist()) if towers else (),
        offsets=dict(offsets or {}),
        gate=dict(gate or {}),
        fidelity=dict(measured or {}),
        probes=probes,
        created_ms=created_ms,
        files=dict(files or {}),
    )
