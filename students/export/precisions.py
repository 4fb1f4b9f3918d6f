"""An fp32 graph in fp16 (for GPUs) and in int8 with dynamic quantisation (for CPUs)."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16

from students.version_folder import Precision, graph_file

#: What loses too much in half precision: sums over a row, and the length that a vector is divided by.
FP32_OPERATORS = ["Softmax", "ReduceL2", "LayerNormalization"]


def write_precisions(fp32: Path) -> dict[Precision, Path]:
    """Write the other precisions of a graph beside it and return all three files.

    Inputs and outputs stay int64 and fp32 in each, so that whoever serves them need not care.
    """
    stem = fp32.name.removesuffix(".fp32.onnx")
    paths: dict[Precision, Path] = {
        "fp32": fp32,
        "fp16": fp32.with_name(graph_file(stem, "fp16")),
        "int8": fp32.with_name(graph_file(stem, "int8")),
    }
    half = convert_float_to_float16(
        onnx.load(fp32), keep_io_types=True, disable_shape_infer=False, op_block_list=FP32_OPERATORS
    )
    onnx.save(half, paths["fp16"])
    root = logging.getLogger()
    level = root.level
    # It advises a pre-processing that changes nothing for these graphs, on the root logger.
    root.setLevel(logging.ERROR)
    try:
        quantize_dynamic(fp32, paths["int8"], weight_type=QuantType.QInt8, per_channel=True)
    finally:
        root.setLevel(level)
    return paths
