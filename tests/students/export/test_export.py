"""A version folder made of a small student: parity, precisions, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from students import version_folder
from students.export.export import PARITY, PROBES, export_version, torch_scores
from students.export.fidelity import FidelityError, FidelityLimits, check, figures
from students.export.onnx_student import OnnxStudent
from students.grades import ESCI
from students.saved import Description, LoadedStudent, new_student
from students.tokenisation import Limits
from students.version_folder import Kind, VersionError
from tests.students.samples import examples

#: A random model's scores are close to each other, so their order under int8 says nothing.
LOOSE = FidelityLimits(rank_correlation=-1.0)
PAIRS = [(each.query, each.item_text) for each in examples()]


def student(encoder: Path, kind: Kind, *, shared: bool = True) -> LoadedStudent:
    torch.manual_seed(3)
    description = Description(
        paradigm=kind, scale=ESCI, limits=Limits(query=8, input=32), dimensions=0, shared_towers=shared
    )
    made = new_student(description, encoder=encoder)
    if kind == "representation" and not shared:
        for weight in made.model.item_tower.parameters():  # type: ignore[union-attr]
            weight.data += 0.01 * torch.randn_like(weight)
    return made


@pytest.mark.parametrize(
    ("kind", "shared"), [("interaction", True), ("representation", True), ("representation", False)]
)
def test_torch_and_onnxruntime_score_alike(
    small_encoder: Path, tmp_path: Path, kind: Kind, shared: bool
) -> None:
    made = student(small_encoder, kind, shared=shared)
    folder = export_version(made, tmp_path, pairs=PAIRS, parent=0, offsets={"t/0": 5}, now_ms=7, limits=LOOSE)
    manifest = version_folder.verify(folder)
    assert (manifest.version, manifest.kind, manifest.offsets, manifest.created_ms) == (
        1,
        kind,
        {"t/0": 5},
        7,
    )
    assert len(manifest.probes) == PROBES
    assert manifest.fidelity["torch.largest_error"] <= PARITY
    # Other batch sizes and lengths than those that were traced, an empty query, one cut item.
    queries = ["", "red kettle", "blue mug with a long question behind it " * 3]
    items = ["nova", "red kettle nova steel", "tea pot " * 60]
    expected = torch_scores(made, queries, items)
    opened = OnnxStudent.open(folder, precision="fp32", threads=1)
    np.testing.assert_allclose(opened.scores(queries, items), expected, atol=PARITY)
    np.testing.assert_allclose(opened.scores(queries[:1], items[:1]), expected[:1], atol=PARITY)
    assert list(tmp_path.glob(".making-*")) == []
    if kind == "representation":
        names = ("query_encoder.int8.onnx", "item_encoder.int8.onnx")
        assert (folder / names[0]).samefile(folder / names[1]) is shared
        vectors = opened.item_vectors(items)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_precisions_keep_their_inputs_and_outputs_and_shrink(small_encoder: Path, tmp_path: Path) -> None:
    folder = export_version(
        student(small_encoder, "interaction"), tmp_path, pairs=PAIRS, now_ms=1, limits=LOOSE
    )
    graphs = {name: onnx.load(folder / f"model.{name}.onnx") for name in ("fp32", "fp16", "int8")}
    for graph in graphs.values():
        assert [each.type.tensor_type.elem_type for each in graph.graph.input] == [onnx.TensorProto.INT64] * 3
        assert [each.type.tensor_type.elem_type for each in graph.graph.output] == [
            onnx.TensorProto.FLOAT
        ] * 2
        assert graph.graph.input[0].type.tensor_type.shape.dim[1].dim_param == "length"
    assert any(node.op_type == "MatMulInteger" for node in graphs["int8"].graph.node)
    weights = [each for each in graphs["fp16"].graph.initializer if len(each.dims) == 2]
    assert weights
    assert {each.data_type for each in weights} == {onnx.TensorProto.FLOAT16}
    probes = version_folder.read_manifest(folder).probes
    for precision in version_folder.PRECISIONS:
        found = OnnxStudent.open(folder, precision=precision, threads=1).scores(
            [each.query for each in probes], [each.item_text for each in probes]
        )
        # A batch of other sizes quantises its activations in another range.
        np.testing.assert_allclose(found, [each.scores[precision] for each in probes], atol=0.01)


def test_export_does_not_change_the_student_that_goes_on_training(
    small_encoder: Path, tmp_path: Path
) -> None:
    made = student(small_encoder, "interaction")
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    export_version(made, tmp_path, pairs=PAIRS, now_ms=1, limits=LOOSE)
    after = made.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_too_far_from_fp32_is_refused_and_leaves_nothing(small_encoder: Path, tmp_path: Path) -> None:
    made = student(small_encoder, "interaction")
    with pytest.raises(FidelityError, match=r"int8 does not score as fp32 does on 24 pairs: mean error"):
        export_version(made, tmp_path, pairs=PAIRS, now_ms=1, limits=FidelityLimits(mean_error=0.0))
    with pytest.raises(FidelityError, match="at least 8 pairs"):
        export_version(made, tmp_path, pairs=PAIRS[:3], now_ms=1)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_fidelity_figures_and_limits() -> None:
    reference = np.linspace(0, 1, 10, dtype=np.float32)
    assert figures(reference, reference[::-1])["rank_correlation"] == pytest.approx(-1)
    assert check("int8", reference, reference, FidelityLimits())["mean_error"] == 0
    with pytest.raises(FidelityError, match="rank correlation"):
        check("int8", reference, reference[::-1], FidelityLimits(mean_error=1, largest_error=1))
    with pytest.raises(FidelityError, match=r"scores in \[0, 1\]"):
        check("int8", reference, np.full(10, np.nan, dtype=np.float32), FidelityLimits())


def test_garbage_in_a_version_folder_is_named(small_encoder: Path, tmp_path: Path) -> None:
    whole = export_version(
        student(small_encoder, "interaction"), tmp_path, pairs=PAIRS, now_ms=1, limits=LOOSE
    )
    assert version_folder.verify(whole).name == "interaction-1"

    def copy(number: int) -> Path:
        folder = tmp_path / f"copy{number}" / "1"
        shutil.copytree(whole, folder)
        return folder

    folder = copy(1)
    (folder / "model.int8.onnx").write_bytes(b"\x00garbage")
    with pytest.raises(VersionError, match=r"model\.int8\.onnx: its content is not what was exported"):
        version_folder.verify(folder)
    folder = copy(2)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(VersionError, match=r"tokenizer\.json: No such file"):
        version_folder.verify(folder)
    for content in (b"", b"{}", b"\xff\xfe", b'{"format": 1}', b"[" * 10_000):
        folder = copy(3)
        (folder / "version.json").write_bytes(content)
        with pytest.raises(VersionError, match=r"version\.json: expected the description of a version"):
            version_folder.verify(folder)
        shutil.rmtree(folder)
    folder = copy(4)
    with pytest.raises(VersionError, match="folder of version 1 to be named so"):
        version_folder.verify(folder.rename(folder.with_name("2")))
    with pytest.raises(VersionError, match="expected a student's version with"):
        version_folder.verify(tmp_path / "nowhere")
