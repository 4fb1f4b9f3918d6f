from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from teacher.examples import Example, save
from teacher.finetune import run_folder
from teacher.finetune.card import AdapterFacts, CardFigure
from teacher.finetune.export import ExportError, export, main
from teacher.finetune.outcomes import Compared, Figures
from teacher.finetune.run_folder import RunFolderError, Training
from teacher.finetune.settings import FinetuneSettings
from tests.teacher.finetune import samples

EXAMPLES = [
    *samples.examples(3),
    msgspec.structs.replace(samples.examples(1, seed=4)[0], source="esci", writer="ask|er"),
]


def finished_run(folder: Path, *, settings: FinetuneSettings | None = None, weight: float = 0.3) -> Path:
    settings = settings or FinetuneSettings(seed=7)
    checkpoint = folder / "checkpoints" / "checkpoint-9"
    checkpoint.mkdir(parents=True)
    (checkpoint / "optimizer.pt").write_bytes(b"large")
    history = [{"step": 5, "loss": 2.25}, {"step": 9, "loss": 0.5}]
    (checkpoint / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    record = run_folder.RunRecord(
        base="abcd",
        data=run_folder.data_fingerprint(EXAMPLES),
        prompt="1234",
        processes=1,
        settings=settings,
    )
    (folder / "run.json").write_bytes(msgspec.json.encode(record))
    training = Training(
        settings=settings,
        base="/home/someone/base",
        examples=len(EXAMPLES),
        examples_too_long=1,
        data_fingerprint=run_folder.data_fingerprint(EXAMPLES),
        shared_prefix_tokens=400,
        tokens=4000,
        final_loss=0.5,
        seconds=60,
        resumed=False,
    )
    (folder / "training.json").write_bytes(msgspec.json.encode(training))
    save_file(
        {"a": torch.full((3, 2), weight), "b": torch.tensor([1.0])}, folder / "adapter_model.safetensors"
    )
    config = {"base_model_name_or_path": "/home/someone/base", "r": 8, "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def exported(run: Path, out: Path, examples: list[Example] | None = None) -> AdapterFacts:
    figures = Figures(answer_loss=0.5, grade_accuracy=0.75, score_auc=0.875, verdict_accuracy=None)
    return export(
        run=run,
        examples=EXAMPLES if examples is None else examples,
        out=out,
        base_name="maker/small",
        base_licence="Apache-2.0",
        made_by=["relevance teacher finetune --examples e.jsonl"],
        figures=[CardFigure(data="shop", model="tuned", metric="auc", value=0.91, lower=0.89, upper=0.93)],
        heldout=Compared(pairs=9, read="read so", before=figures, after=figures),
    )


def test_an_exported_adapter_is_small_and_knows_no_path(tmp_path: Path) -> None:
    run, out = finished_run(tmp_path / "run"), tmp_path / "adapters" / "default"
    exported(run, out)
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "training.json",
    ]
    weights = load_file(out / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    torch.testing.assert_close(weights["a"].float(), torch.full((3, 2), 0.3), rtol=2**-8, atol=0)
    config = json.loads((out / "adapter_config.json").read_text())
    assert config == {"base_model_name_or_path": "maker/small", "r": 8, "peft_type": "LORA"}
    for path in out.iterdir():
        assert b"/home/someone" not in path.read_bytes()


def test_training_json_holds_what_made_the_adapter(tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = exported(finished_run(tmp_path / "run"), out)
    assert msgspec.json.decode((out / "training.json").read_bytes(), type=AdapterFacts) == told
    assert told.parameters == 7
    assert told.settings.seed == 7
    assert told.data_fingerprint == run_folder.data_fingerprint(EXAMPLES)
    assert told.sources == {"esci": 1, "shop": 3}
    assert told.losses == [(5, 2.25), (9, 0.5)]


def test_the_card_says_data_licences_seed_figures_and_limits(tmp_path: Path) -> None:
    out = tmp_path / "out"
    exported(finished_run(tmp_path / "run"), out)
    card = (out / "README.md").read_text()
    for said in (
        "maker/small, Apache-2.0. Fingerprint abcd.",
        f"4 examples, fingerprint {run_folder.data_fingerprint(EXAMPLES)}",
        "- 3 shop: generated shops",
        "- 1 esci: Amazon Shopping Queries",
        "Apache-2.0",
        "Chains of 3 are written by a program from the items' attributes and the known grade",
        "Chains of 1 are written by ask/er",
        "1 were left out as too long",
        "Seed 7",
        "Loss 2.250 at step 5, 0.500 at step 9",
        "| learning_rate | 0.001 |",
        "| shop | tuned | auc | 0.910 | 0.890 to 0.930 |",
        "9 held-out pairs, read so:",
        "| score_auc | 0.8750 | 0.8750 |",
        "| verdict_accuracy | - | - |",
        "## Limits",
        "    relevance teacher finetune --examples e.jsonl",
    ):
        assert said in card, said


def test_a_black_box_card_speaks_of_no_chains(tmp_path: Path) -> None:
    out = tmp_path / "out"
    exported(finished_run(tmp_path / "run", settings=FinetuneSettings(mode="score")), out)
    card = (out / "README.md").read_text()
    assert "a grade without a chain (black box)" in card
    assert "Chains" not in card


def test_other_examples_than_those_of_the_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="was not trained on these examples"):
        exported(finished_run(tmp_path / "run"), tmp_path / "out", samples.examples(4))


def test_an_unfinished_or_full_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="not a finished run"):
        exported(tmp_path, tmp_path / "out")
    full = finished_run(tmp_path / "run", settings=FinetuneSettings(lora_rank=0))
    with pytest.raises(ExportError, match="there is no adapter"):
        exported(full, tmp_path / "out")


def test_a_run_without_record_is_refused(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    (run / "run.json").unlink()
    with pytest.raises(RunFolderError, match="does not say"):
        exported(run, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"not weights", b"\xff" * 100])
def test_damaged_weights_are_refused(tmp_path: Path, content: bytes) -> None:
    run = finished_run(tmp_path / "run")
    (run / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(ExportError, match="expected an adapter"):
        exported(run, tmp_path / "out")


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="not numbers"):
        exported(finished_run(tmp_path / "run", weight=float("nan")), tmp_path / "out")


def test_a_folder_that_is_no_adapter_is_not_replaced(tmp_path: Path) -> None:
    run, out = finished_run(tmp_path / "run"), tmp_path / "precious"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    with pytest.raises(ExportError, match="is no adapter"):
        exported(run, out)
    assert (out / "letter.txt").read_text() == "dear"
    exported(run, tmp_path / "out")
    exported(run, tmp_path / "out")


def test_the_command_exports_from_files(tmp_path: Path) -> None:
    run, file = finished_run(tmp_path / "run"), tmp_path / "examples.jsonl"
    save(file, EXAMPLES)
    figures = tmp_path / "figures.json"
    figures.write_text('[{"data": "esci", "model": "tuned", "metric": "auc", "value": 0.7}]')
    options = ["--run", str(run), "--out", str(tmp_path / "out"), "--examples", str(file)]
    options += ["--base-name", "maker/small", "--base-licence", "MIT", "--figures", str(figures)]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    assert f"card in {tmp_path / 'out'}" in result.output
    assert "| esci | tuned | auc | 0.700 |  |" in (tmp_path / "out" / "README.md").read_text()
    figures.write_text('[{"data": "esci"}]')
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 1
    assert "figures.json" in result.output
