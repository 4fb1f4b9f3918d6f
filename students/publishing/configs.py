"""config.pbtxt of a Triton model: git's, with the version's sizes and the profile's settings laid over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

import triton_models
from students.version_folder import GRAPHS, Kind, Manifest

TEMPLATES = Path(triton_models.__file__).parent
#: The Python models of each kind, by the graphs of which they need the same version first.
TEXT_MODELS: dict[Kind, tuple[str, ...]] = {
    "interaction": ("relevance", "relevance_explained"),
    "representation": ("query_tower", "item_tower", "relevance_towers"),
}
#: No GPU needs to be told how many threads to use.
THREADS = "intra_op_thread_count"


def models_of(kind: Kind) -> tuple[str, ...]:
    """Return the Triton models of a kind in the order of loading: graphs first."""
    return (*GRAPHS[kind], *TEXT_MODELS[kind])


def config_of(model: str, manifest: Manifest, *, profile: str, threads: int) -> str:
    """Return the text of a model's config.pbtxt.

    `profile` is cpu, cuda or tensorrt, `threads` of one execution on a CPU, 0 for one a core.
    """
    config = _parsed(TEMPLATES / model / "config.pbtxt")
    sizes = {
        ("grade_logits", 0): len(manifest.labels),
        ("tag_logits", 1): len(manifest.tags),
        ("GRADES", 1): len(manifest.labels),
        ("vector", 0): manifest.dimensions,
        ("VECTOR", 0): manifest.dimensions,
        ("VECTORS", 1): manifest.dimensions,
        ("ITEM_VECTORS", 1): manifest.dimensions,
    }
    for tensor in (*config.input, *config.output):
        for (name, place), size in sizes.items():
            if tensor.name == name:
                tensor.dims[place] = size
    graph = model in GRAPHS[manifest.kind]
    if graph:
        for warm_up in config.model_warmup:
            for tensor in warm_up.inputs.values():
                tensor.dims[0] = min(tensor.dims[0], manifest.limits.input)
        config.parameters[THREADS].string_value = str(threads)
    if graph and profile != "cpu":
        overlay = _parsed(TEMPLATES / "profiles" / f"{profile}.pbtxt")
        for field, value in overlay.ListFields():
            config.ClearField(field.name)
            if field.is_repeated:
                getattr(config, field.name).extend(value)
            else:
                getattr(config, field.name).CopyFrom(value)
        del config.parameters[THREADS]
    text: str = text_format.MessageToString(config)
    return text


def shape_of(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """Return names and dims of a config's inputs and outputs: what all versions of a model must share."""
    config = text_format.Parse(text, ModelConfig())
    return [(tensor.name, tuple(tensor.dims)) for tensor in (*config.input, *config.output)]


def _parsed(path: Path) -> Any:
    return text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
