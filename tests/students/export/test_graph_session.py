from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from students.export.graph_session import GraphSession


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GraphSession]:
    """Two outputs, `twice` and `sum` of a row, which fails where a row holds what is no index."""
    rows, table = helper.make_tensor_value_info, np.arange(8, dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "numbers"], ["found"]),
            helper.make_node("Add", ["found", "found"], ["twice"]),
            helper.make_node("ReduceSum", ["found", "axis"], ["sum"], keepdims=0),
        ],
        "rows",
        [rows("numbers", TensorProto.INT64, ["batch", "length"])],
        [
            rows("twice", TensorProto.FLOAT, ["batch", "length"]),
            rows("sum", TensorProto.FLOAT, ["batch"]),
        ],
        [
            helper.make_tensor("table", TensorProto.FLOAT, [8], table),
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        ],
    )
    path = tmp_path_factory.mktemp("graph") / "rows.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    made = GraphSession(path, threads=3)
    yield made
    made.close()


@given(rows=st.integers(1, 40), length=st.integers(1, 5), seed=st.integers(0, 9))
def test_parts_give_what_the_whole_batch_gives(
    session: GraphSession, rows: int, length: int, seed: int
) -> None:
    numbers = np.random.default_rng(seed).integers(0, 8, (rows, length))
    twice, total = session.run({"numbers": numbers})
    np.testing.assert_array_equal(twice, 2 * numbers)
    np.testing.assert_array_equal(total, numbers.sum(axis=1))
    (alone,) = session.run({"numbers": numbers}, ["sum"])
    np.testing.assert_array_equal(alone, total)


@pytest.mark.parametrize("place", [0, 11])
def test_an_error_in_any_part_is_the_batchs(session: GraphSession, place: int) -> None:
    numbers = np.zeros((12, 2), dtype=np.int64)
    numbers[place, 1] = 99
    with pytest.raises(Exception, match="out of data bounds"):
        session.run({"numbers": numbers})
    assert session.run({"numbers": numbers % 8})[0].shape == (12, 2), "and the next is run"


def test_names_are_the_graphs_own(session: GraphSession) -> None:
    assert (session.inputs, session.outputs) == (["numbers"], ["twice", "sum"])
