"""A student's torch modules to ONNX in fp32, for any batch and length.

Traced, not captured: a third of the time of the newer exporter for the same graph, and no further packages. What
tracing could bake in, a batch or a length, the parity check of the export would see.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from students.interaction import InteractionStudent
from students.representation import RepresentationStudent, Tower
from students.saved import LoadedStudent
from students.version_folder import GRAPHS, graph_file

OPSET = 17
PAIR_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
TEXT_INPUTS = PAIR_INPUTS[:2]


class _VectorOnly(nn.Module):
    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        vector: Tensor = self.tower(input_ids, attention_mask)[0]
        return vector


def write_graphs(student: LoadedStudent, folder: Path) -> list[Path]:
    """Write the fp32 graphs of a student in evaluation mode and return their files.

    Towers of the same weights are written once and linked. Raises what torch raises for a model it cannot trace.
    """
    model = student.model
    stems = GRAPHS[student.description.paradigm]
    if isinstance(model, InteractionStudent):
        path = folder / graph_file(stems["interaction"], "fp32")
        _write(model, path, PAIR_INPUTS, ("grade_logits", "tag_logits"))
        return [path]
    assert isinstance(model, RepresentationStudent)
    query, item = (folder / graph_file(stems[name], "fp32") for name in ("query_encoder", "item_encoder"))
    _write(_VectorOnly(model.query_tower), query, TEXT_INPUTS, ("vector",))
    if model.shared:
        item.hardlink_to(query)
    else:
        _write(_VectorOnly(model.item_tower), item, TEXT_INPUTS, ("vector",))
    return [query, item]


def _write(module: nn.Module, path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    # Unlike the batches that serve, with padding in it, so that no branch is traced for full ones only.
    example = torch.ones(2, 12, dtype=torch.int64)
    mask = torch.tensor([[1] * 12, [1] * 9 + [0] * 3])
    segments = torch.tensor([[0] * 5 + [1] * 7] * 2)
    batch_and_length = {0: "batch", 1: "length"}
    axes = dict.fromkeys(inputs, batch_and_length)
    axes |= {name: batch_and_length if name == "tag_logits" else {0: "batch"} for name in outputs}
    with torch.no_grad(), warnings.catch_warnings():
        # It warns that it is the older exporter, and of shapes that it reads as constants.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            copy.deepcopy(module).cpu().float(),
            (example, mask, segments)[: len(inputs)],
            path,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
