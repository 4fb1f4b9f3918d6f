"""A run's adapter as it is kept and shipped: bfloat16, without optimizer state or paths, with its model card.

    python -m teacher.finetune.export --run DIR --examples FILE --out DIR --base-name NAME --base-licence NAME
        [--figures FILE.json] [--heldout FILE.json] [--made-by COMMAND]...

Writes adapter_model.safetensors, adapter_config.json, training.json and README.md.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from teacher import examples as example_files
from teacher.examples import Example, ExampleError
from teacher.finetune import card, run_folder
from teacher.finetune.card import AdapterFacts, CardFigure
from teacher.finetune.outcomes import Compared
from teacher.finetune.run_folder import RunFolderError, RunRecord, Training

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


class ExportError(ValueError):
    """A run has no adapter to export, or it is not that of the examples. The message says which."""


def export(
    *,
    run: Path,
    examples: Sequence[Example],
    out: Path,
    base_name: str,
    base_licence: str,
    made_by: Sequence[str],
    figures: Sequence[CardFigure] = (),
    heldout: Compared | None = None,
) -> AdapterFacts:
    """Write the adapter of a finished run to `out`, replacing an adapter there, and return what its card says.

    Raises ExportError or RunFolderError.
    """
    if out.exists() and not (out / CONFIG).exists():
        raise ExportError(f"{out} exists and is no adapter: expected a new folder, or one to replace")
    training, record = _of_run(run)
    if run_folder.data_fingerprint(examples) != training.data_fingerprint:
        raise ExportError(
            f"{run} was not trained on these examples: expected fingerprint {training.data_fingerprint}, "
            f"got {run_folder.data_fingerprint(examples)}"
        )
    try:
        weights = load_file(run / WEIGHTS)
        config: dict[str, Any] = msgspec.json.decode((run / CONFIG).read_bytes())
    except (OSError, SafetensorError, msgspec.DecodeError) as error:
        raise ExportError(f"{run}: expected an adapter, {CONFIG} and {WEIGHTS}: {error}") from error
    if not all(tensor.isfinite().all() for tensor in weights.values()):
        raise ExportError(f"{run / WEIGHTS} holds weights that are not numbers: train again, more gently")
    newest = run_folder.last_checkpoint(run)
    facts = AdapterFacts(
        base=base_name,
        base_licence=base_licence,
        base_fingerprint=record.base,
        parameters=sum(tensor.numel() for tensor in weights.values()),
        settings=training.settings,
        prompt=record.prompt,
        data_fingerprint=training.data_fingerprint,
        examples=training.examples,
        examples_too_long=training.examples_too_long,
        sources=_counted(each.source.split(maxsplit=1)[0] if each.source else "unnamed" for each in examples),
        grades=_counted(each.grade for each in examples),
        writers=_counted(each.writer for each in examples),
        losses=run_folder.losses(newest) if newest else [],
        made_by=list(made_by),
        heldout=heldout,
    )
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save_file(
        {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()},
        unfinished / WEIGHTS,
        metadata={"format": "pt"},
    )
    if isinstance(config.get("target_modules"), list):
        # A set in peft: in another order each time.
        config["target_modules"] = sorted(config["target_modules"])
    _write(unfinished / CONFIG, config | {"base_model_name_or_path": base_name})
    _write(unfinished / run_folder.DONE, facts)
    (unfinished / "README.md").write_text(card.render(facts, figures), encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)
    return facts


def _of_run(run: Path) -> tuple[Training, RunRecord]:
    training = run_folder.finished(run)
    if training is None:
        raise ExportError(f"{run} is not a finished run: expected {run_folder.DONE}")
    if not training.settings.lora_rank:
        raise ExportError(f"{run} trained all weights: there is no adapter; serve the folder itself")
    return training, run_folder.read_record(run)


def _counted(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _write(path: Path, content: Any) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content)) + b"\n")


@click.command(help=__doc__)
@click.option("--run", required=True, type=click.Path(path_type=Path))
@click.option("--examples", "examples_file", required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--base-name", required=True, help="The base by the name that people know it under.")
@click.option("--base-licence", required=True)
@click.option("--figures", "figures_file", type=click.Path(path_type=Path), help="List of figures, as JSON.")
@click.option(
    "--heldout", "heldout_file", type=click.Path(path_type=Path), help="Comparison's figures, as JSON."
)
@click.option(
    "--made-by", multiple=True, help="A command that makes the adapter again; several in their order."
)
def main(
    *,
    run: Path,
    examples_file: Path,
    out: Path,
    base_name: str,
    base_licence: str,
    figures_file: Path | None,
    heldout_file: Path | None,
    made_by: tuple[str, ...],
) -> None:
    """Run from files."""
    try:
        facts = export(
            run=run,
            examples=list(example_files.read(examples_file)),
            out=out,
            base_name=base_name,
            base_licence=base_licence,
            made_by=made_by,
            figures=_read(figures_file, list[CardFigure]) if figures_file else (),
            heldout=_read(heldout_file, Compared) if heldout_file else None,
        )
    except (ExampleError, ExportError, RunFolderError) as error:
        raise click.ClickException(str(error)) from error
    size = (out / WEIGHTS).stat().st_size
    click.echo(
        f"adapter of {facts.parameters / 1e6:.2f} M weights, {size / 1e6:.1f} MB, with its card in {out}"
    )


def _read(path: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise ExportError(f"{path}: {error}") from error


if __name__ == "__main__":
    main()
