"""`relevance score`: what the served student says of a pair, with the words that speak for and against."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import click
from rich.text import Text

from ops.cli.context import CommandError, Context, pass_context, printable
from ops.settings import load
from streams.item_text import ATTRIBUTES, item_text, query_text

#: Colour alone would leave some readers out.
STYLES = {"match": "bold green", "mismatch": "bold red underline"}


@click.command(
    epilog='\b\nExamples:\n  relevance score "red kettle" "Norvik tea pot, crimson"\n'
    '  relevance score "red kettle" "Kettle 1 l" --brand Norvik --attribute colour=red --version 12\n'
    '  relevance score "red kettle" "Kettle 1 l" --json'
)
@click.argument("query")
@click.argument("title")
@click.option("--brand", default="", help="The item's brand.")
@click.option("--category", default="", help="The item's category path, from the top: A/B/C.")
@click.option("--attribute", "attributes", multiple=True, help=f"name=value; names: {', '.join(ATTRIBUTES)}.")
@click.option("--version", type=click.IntRange(1), help="Of the interaction student [the champion].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_context
def score(
    context: Context,
    *,
    query: str,
    title: str,
    brand: str,
    category: str,
    attributes: tuple[str, ...],
    version: int | None,
    as_json: bool,
) -> None:
    """Score one pair with the served interaction student: score, grades, and the words that matched or clashed."""
    from ops.scoring.explained import ExplainError, explain

    settings = load(context.environment())
    named = dict(each.partition("=")[::2] for each in attributes)
    if wrong := [name for name in named if name not in ATTRIBUTES]:
        raise click.UsageError(f"expected attributes among {', '.join(ATTRIBUTES)}, got {', '.join(wrong)}")
    asked = query_text(query)
    item = item_text(
        title=title, brand=brand, category=tuple(filter(None, category.split("/"))), attributes=named
    )
    try:
        found = explain(settings, asked, item, version=version)
    except ExplainError as error:
        raise CommandError(str(error)) from error
    if as_json:
        click.echo(
            json.dumps({"query": asked, "item_text": item, **found}, ensure_ascii=False, sort_keys=True)
        )
        return
    console = context.console
    grades = "  ".join(f"{label} {share:.3f}" for label, share in found["grades"].items())
    console.print(f"score {found['score']:.3f}   {grades}   {found['student_version']}")
    console.print(_coloured(asked, [each for each in found["spans"] if each["side"] == "query"]))
    console.print(_coloured(item, [each for each in found["spans"] if each["side"] == "item"]))
    if not console.is_terminal:
        with contextlib.suppress(OSError):
            for span in found["spans"]:
                text = (asked if span["side"] == "query" else item)[span["start"] : span["end"]]
                console.print(
                    f"{span['verdict']:<9} {span['side']:<6} {span['probability']:.2f}  {printable(text)}"
                )


def _coloured(text: str, spans: list[dict[str, Any]]) -> Text:
    """Return a text with its spans in their colours; control characters become visible, one for one."""
    shown = Text("".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text))
    for span in spans:
        shown.stylize(STYLES[span["verdict"]], span["start"], span["end"])
    return shown
