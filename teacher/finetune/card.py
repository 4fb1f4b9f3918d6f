"""The model card of an adapter: what it is, what it was made of, how good it is, what it cannot do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from teacher.finetune.outcomes import Compared, rows
from teacher.finetune.settings import FinetuneSettings

#: Where examples come from, by the first word of their `source`.
SOURCES: Mapping[str, str] = {
    "shop": "generated shops: catalogue, queries and grades are written by this project's program; no licence needed",
    "esci": "Amazon Shopping Queries (ESCI; Reddy et al. 2022, arXiv 2206.06588), people's grades; Apache-2.0",
    "chorus": "Chorus electronics: judgements Apache-2.0; product texts by Icecat under the Open Content License",
}
WRITERS: Mapping[str, str] = {
    "program": "written by a program from the items' attributes and the known grade, not by a person or an LLM",
    "person": "written by people",
}


class CardFigure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A measured figure: `metric` of `model` on `data`, with its 95 % interval where there is one."""

    data: str
    model: str
    metric: str
    value: float
    lower: float | None = None
    upper: float | None = None


class AdapterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an exported adapter's `training.json` says. `losses` are (step, nats an answer token); `sources`,
    `grades` and `writers` count examples; `parameters` are the adapter's."""

    base: str
    base_licence: str
    base_fingerprint: str
    parameters: int
    settings: FinetuneSettings
    prompt: str
    data_fingerprint: str
    examples: int
    examples_too_long: int
    sources: dict[str, int]
    grades: dict[str, int]
    writers: dict[str, int]
    losses: list[tuple[int, float]]
    made_by: list[str]
    heldout: Compared | None = None


def render(facts: AdapterFacts, figures: Sequence[CardFigure] = ()) -> str:
    """Return the card as Markdown."""
    chain = facts.settings.mode == "chain"
    what = "a chain of thought over subtasks and a grade" if chain else "a grade without a chain (black box)"
    sections = [
        "# Relevance teacher: LoRA adapter",
        f"Makes {facts.base} answer a query and an item with {what}. It is an adapter of "
        f"{facts.parameters / 1e6:.2f} M weights in bfloat16; merge it into the base before serving:\n\n"
        "    python -m teacher.finetune.merge --base BASE --adapter THIS_FOLDER --out MERGED",
        "## Base\n" + f"{facts.base}, {facts.base_licence}. Fingerprint {facts.base_fingerprint}.",
        _data(facts),
        _training(facts),
        _figures(facts, figures),
        _limits(facts),
        "## Make it again\n"
        + "".join(f"    {command}\n" for command in facts.made_by)
        + "\nEqual settings, examples and base give the same adapter on the same kind of machine and versions; "
        "another CPU may round otherwise.",
    ]
    return "\n\n".join(section.rstrip() for section in sections) + "\n"


def _data(facts: AdapterFacts) -> str:
    lines = [f"{facts.examples:,} examples, fingerprint {facts.data_fingerprint}:", ""]
    for source, count in sorted(facts.sources.items(), key=lambda entry: -entry[1]):
        lines.append(f"- {count:,} {source}: {SOURCES.get(source, 'licence as its owner says')}")
    lines += ["", f"Grades: {_counts(facts.grades)}."]
    if facts.settings.mode == "chain":
        for writer, count in facts.writers.items():
            lines.append(f"Chains of {count:,} are {WRITERS.get(writer, f'written by {_plain(writer)}')}.")
    if facts.examples_too_long:
        lines.append(f"{facts.examples_too_long:,} were left out as too long.")
    return "## Data\n" + "\n".join(lines)


def _training(facts: AdapterFacts) -> str:
    settings = "\n".join(
        f"| {name} | {value} |" for name, value in msgspec.to_builtins(facts.settings).items()
    )
    losses = ""
    if facts.losses:
        (first_step, first), (last_step, last) = facts.losses[0], facts.losses[-1]
        losses = (
            f" Loss {first:.3f} at step {first_step}, {last:.3f} at step {last_step} (nats an answer token)."
        )
    return (
        "## Training\nSupervised, loss on the answer only, LoRA on all linear layers; many pairs share one copy of "
        f"the prompt's beginning. Seed {facts.settings.seed}, prompt {facts.prompt}.{losses}\n\n"
        f"| setting | value |\n|---|---|\n{settings}"
    )


def _figures(facts: AdapterFacts, figures: Sequence[CardFigure]) -> str:
    parts = ["## Figures"]
    if figures:
        parts.append(
            "On queries that training did not see, by the served model; 95 % intervals by resampling queries.\n\n"
            "| data | model | metric | value | interval |\n|---|---|---|---|---|\n"
            + "\n".join(_row(figure) for figure in figures)
        )
    if facts.heldout:
        table = "\n".join(f"| {name} | {before} | {after} |" for name, before, after in rows(facts.heldout))
        parts.append(
            f"{facts.heldout.pairs:,} held-out pairs, {facts.heldout.read}:\n\n"
            f"| figure | base | fine-tuned |\n|---|---|---|\n{table}"
        )
    if len(parts) == 1:
        parts.append("None were measured when this card was written.")
    return "\n\n".join(parts)


def _limits(facts: AdapterFacts) -> str:
    lines = [
        "- It knows the prompt of its training alone: other subtasks, grades or wording need a new fine-tuning.",
        "- English queries and item texts.",
        "- Grades are a small model's: calibrate them on people's grades before they decide anything.",
    ]
    if "program" in facts.writers and facts.settings.mode == "chain":
        lines.append(
            "- Its chains reason as the program did that wrote its examples, and share that one's blind spots."
        )
    if "shop" in facts.sources:
        lines.append(
            "- Generated shops are tidier than real ones; what it reaches there it does not reach elsewhere."
        )
    return "## Limits\n" + "\n".join(lines)


def _row(figure: CardFigure) -> str:
    interval = (
        "" if figure.lower is None or figure.upper is None else f"{figure.lower:.3f} to {figure.upper:.3f}"
    )
    cells = (figure.data, figure.model, figure.metric, f"{figure.value:.3f}", interval)
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{_plain(name)} {count:,}" for name, count in counts.items())


def _plain(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
