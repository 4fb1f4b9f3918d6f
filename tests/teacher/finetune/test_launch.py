from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import msgspec
import pytest

from ops.servers.steps import ROOT
from teacher import policy
from teacher.finetune.launch import FSDP_CONFIG, LaunchError, Run, chosen_settings
from teacher.finetune.settings import SEVEN_B, FinetuneSettings
from teacher.policy import Policy


def run(
    out: Path, *, settings: FinetuneSettings | None = None, base: str = "hub/model", gpus: int = 1
) -> Run:
    return Run(
        python=Path("/venv/bin/python"),
        base=base,
        examples=Path("/data/examples.jsonl"),
        out=out,
        settings=settings or FinetuneSettings(),
        policy=policy.default(),
        gpus=gpus,
    )


def test_the_file_is_laid_over_the_preset_and_the_mode_over_both(tmp_path: Path) -> None:
    assert chosen_settings("small", file=None, mode=None) == FinetuneSettings()
    assert chosen_settings("7b", file=None, mode=None) == SEVEN_B
    file = tmp_path / "settings.json"
    file.write_text('{"seed": 5, "mode": "chain"}')
    expected = msgspec.structs.replace(SEVEN_B, seed=5, mode="score")
    assert chosen_settings("7b", file=file, mode="score") == expected


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "expected fine-tuning settings"),
        ("[1]", "expected fine-tuning settings"),
        ('{"sead": 1}', "unknown field `sead`"),
        ('{"seed": "one"}', r"\$.seed"),
        ('{"device": "tpu"}', "device"),
        ('{"epochs": 0}', "epochs: expected more than 0, got 0"),
        ('{"pairs_per_pack": -1}', "pairs_per_pack: expected more than 0"),
        ('{"gradient_checkpointing": true}', "set one of them"),
        ('{"lora_rank": -8}', "lora_rank: expected 0"),
    ],
)
def test_wrong_settings_are_refused_by_name(tmp_path: Path, content: str, named: str) -> None:
    file = tmp_path / "settings.json"
    file.write_text(content)
    with pytest.raises(LaunchError, match=named):
        chosen_settings("small", file=file, mode=None)


def test_missing_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"nowhere.json"):
        chosen_settings("small", file=tmp_path / "nowhere.json", mode=None)


def test_one_process_trains_and_ends_with_us(tmp_path: Path) -> None:
    command = run(tmp_path, base="/models/small").training()
    python = "/venv/bin/python"
    assert command[:6] == [python, "-m", "ops.servers.launch", python, "-m", "teacher.finetune.train"]
    options = dict(zip(command[6::2], command[7::2], strict=True))
    assert options == {
        "--base": "/models/small",
        "--examples": "/data/examples.jsonl",
        "--out": str(tmp_path),
        "--settings": str(tmp_path / "settings.json"),
        "--policy": str(tmp_path / "policy.json"),
    }


def test_inputs_are_written_as_the_processes_read_them(tmp_path: Path) -> None:
    run(tmp_path, settings=SEVEN_B).write_inputs()
    read = msgspec.json.decode((tmp_path / "settings.json").read_bytes(), type=FinetuneSettings)
    assert read == SEVEN_B
    assert msgspec.json.decode((tmp_path / "policy.json").read_bytes(), type=Policy) == policy.default()


def test_several_gpus_train_under_accelerate_with_fsdp(tmp_path: Path) -> None:
    command = run(tmp_path, settings=SEVEN_B, gpus=4).training()
    assert command[:8] == [
        "/venv/bin/python",
        "-m",
        "ops.servers.launch",
        "/venv/bin/python",
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(FSDP_CONFIG),
    ]
    assert command[8:12] == ["--num_processes", "4", "--module", "teacher.finetune.train"]
    assert command[12:14] == ["--base", "hub/model"]


def test_the_fsdp_configuration_shards_all_in_bf16_and_recomputes_activations() -> None:
    read = msgspec.yaml.decode(FSDP_CONFIG.read_bytes())
    assert (read["distributed_type"], read["mixed_precision"]) == ("FSDP", "bf16")
    sharding = read["fsdp_config"]
    assert sharding["fsdp_version"] == 2
    assert sharding["fsdp_reshard_after_forward"] is True
    assert sharding["fsdp_auto_wrap_policy"] == "TRANSFORMER_BASED_WRAP"
    assert sharding["fsdp_activation_checkpointing"] is True
    # The adapter is saved whole, by the first process.
    assert sharding["fsdp_state_dict_type"] == "FULL_STATE_DICT"


def test_a_folder_is_loaded_offline_and_a_hub_name_as_the_user_has_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert run(tmp_path, base=str(tmp_path)).environment()["HF_HUB_OFFLINE"] == "1"
    environment = run(tmp_path).environment()
    assert "HF_HUB_OFFLINE" not in environment
    assert environment["PYTHONPATH"] == str(ROOT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run(tmp_path).environment()["HF_HUB_OFFLINE"] == "1"


def test_on_a_cpu_the_faster_libraries_of_the_environment_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/lib/given.so")
    openmp = tmp_path / "lib" / "libiomp5.so"
    openmp.parent.mkdir()
    openmp.touch()
    made = dataclasses.replace(run(tmp_path), python=tmp_path / "bin" / "python")
    assert made.environment()["LD_PRELOAD"].split(":")[0] == "/lib/given.so"
    assert str(openmp) in made.environment()["LD_PRELOAD"].split(":")
    assert dataclasses.replace(made, settings=SEVEN_B).environment()["LD_PRELOAD"] == "/lib/given.so"


@pytest.mark.parametrize(("given", "seen"), [(None, "0"), ("2,3", "2")])
def test_one_gpu_is_one_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, seen: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert run(tmp_path, settings=SEVEN_B).environment()["CUDA_VISIBLE_DEVICES"] == seen
    assert run(tmp_path, settings=SEVEN_B, gpus=4).environment().get("CUDA_VISIBLE_DEVICES") == given


def test_the_other_steps_name_what_they_read_and_write(tmp_path: Path) -> None:
    made = run(tmp_path, settings=FinetuneSettings(mode="score"))
    heldout = made.heldout(Path("/data/held.jsonl"), Path("/o.json"))
    assert heldout[5:] == [
        "teacher.finetune.heldout",
        *("--base", "hub/model", "--tuned", str(tmp_path), "--examples", "/data/held.jsonl"),
        *(
            "--mode",
            "score",
            "--out",
            "/o.json",
            "--policy",
            str(tmp_path / "policy.json"),
            "--device",
            "cpu",
        ),
    ]
    merge = made.merge(adapter=tmp_path / "adapter", merged=tmp_path / "merged")
    assert merge[5:] == [
        "teacher.finetune.merge",
        *("--base", "hub/model", "--adapter", str(tmp_path / "adapter"), "--out", str(tmp_path / "merged")),
    ]
    assert sys.executable not in merge
