"""config.pbtxt as git has it, and with a version's sizes and a profile's settings laid over it."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from students.publishing.configs import TEMPLATES, config_of, models_of, shape_of
from students.version_folder import GRAPHS, Kind
from tests.students.test_version_folder import manifest

KINDS: tuple[Kind, ...] = ("interaction", "representation")
ALL = [(kind, model) for kind in KINDS for model in models_of(kind)]
TOWERS = {"kind": "representation", "tags": (), "dimensions": 16, "slope": (1.0, -1.0), "offset": (0.0, 0.0)}


@pytest.mark.parametrize("model", [model for _, model in ALL])
def test_git_holds_whole_configurations(model: str) -> None:
    config = text_format.Parse((TEMPLATES / model / "config.pbtxt").read_text(), ModelConfig())
    assert config.name == model
    assert config.backend in ("python", "onnxruntime")
    assert config.input
    assert config.output
    assert config.max_batch_size > 0
    assert config.version_policy.HasField("all")
    assert config.instance_group[0].count == (2 if model in ("relevance", "relevance_towers") else 1)
    # What strangers ask waits within limits and is put together; a graph is asked by the models in front of it.
    text = config.backend == "python"
    assert config.HasField("dynamic_batching") is text
    assert config.dynamic_batching.default_queue_policy.allow_timeout_override is text
    assert (config.dynamic_batching.default_queue_policy.max_queue_size > 0) is text
    assert config.response_cache.enable == (model == "query_tower")
    assert (config.backend == "python") == (TEMPLATES / model / "model.py").exists()
    # A Python model's warm-up would ask a graph that may not be loaded yet; the publisher's probes warm it.
    assert bool(config.model_warmup) == (config.backend == "onnxruntime")


def test_all_models_in_git_belong_to_a_kind() -> None:
    in_git = {path.parent.name for path in Path(TEMPLATES).glob("*/config.pbtxt")}
    assert in_git == {model for _, model in ALL}


def test_sizes_are_the_versions() -> None:
    text = config_of("interaction", manifest(), profile="cpu", threads=2)
    assert dict(shape_of(text))["grade_logits"] == (2,)
    assert dict(shape_of(text))["tag_logits"] == (-1, 2)
    config = text_format.Parse(text, ModelConfig())
    assert config.parameters["intra_op_thread_count"].string_value == "2"
    explained = config_of("relevance_explained", manifest(), profile="cpu", threads=2)
    assert dict(shape_of(explained))["GRADES"] == (-1, 2)
    for model, tensor, dims in (
        ("query_encoder", "vector", (16,)),
        ("query_tower", "VECTOR", (16,)),
        ("item_tower", "VECTORS", (-1, 16)),
        ("relevance_towers", "ITEM_VECTORS", (-1, 16)),
    ):
        made = config_of(model, manifest(**TOWERS), profile="cpu", threads=0)
        assert dict(shape_of(made))[tensor] == dims


@pytest.mark.parametrize("profile", ["cuda", "tensorrt"])
@pytest.mark.parametrize(("kind", "model"), ALL)
def test_profiles_move_the_graphs_alone_to_gpus(kind: Kind, model: str, profile: str) -> None:
    made = manifest() if kind == "interaction" else manifest(**TOWERS)
    config = text_format.Parse(config_of(model, made, profile=profile, threads=4), ModelConfig())
    graph = model in GRAPHS[kind]
    kinds = [group.kind for group in config.instance_group]
    assert kinds == [ModelInstanceGroup.KIND_GPU if graph else ModelInstanceGroup.KIND_CPU]
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert [each.name for each in accelerators] == ([profile] if graph else [])
    assert "intra_op_thread_count" not in config.parameters
    if graph and profile == "tensorrt":
        assert accelerators[0].parameters["precision_mode"] == "FP16"
    assert config.dynamic_batching.default_queue_policy.allow_timeout_override is not graph
