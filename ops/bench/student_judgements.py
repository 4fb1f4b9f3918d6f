"""Have a teacher judge the pairs that the students' benches learn from and are evaluated on.

    python -m ops.bench.student_judgements --url http://127.0.0.1:18000/v1 --model NAME --out DIR [--pairs 8000]

Slow; stopped, it goes on where it was: judgements are kept in DIR as they come. Fewer --pairs take the first ones,
so a run that was cut short is still of use.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

import click

from ops.bench.machine import announce
from ops.bench.student_answers import EVAL, TRAIN, pairs_to_learn_from, sets_of, write
from ops.bench.teacher_quality import ask
from ops.settings import load
from ops.shop.judged_pairs import evaluation_set


@click.command(help=__doc__)
@click.option("--url", required=True, help="OpenAI-compatible endpoint, http://host:port/v1.")
@click.option("--model", required=True, help="The name it serves the model under.")
@click.option("--set", "names", default="shop,esci,chorus", show_default=True)
@click.option(
    "--pairs", default=8_000, show_default=True, type=click.IntRange(1), help="To learn from, of a set."
)
@click.option("--per-query", default=4, show_default=True, type=click.IntRange(1))
@click.option(
    "--eval-queries", default=120, show_default=True, help="Of the shop; real sets have what they have."
)
@click.option("--eval-per-query", default=12, show_default=True, type=click.IntRange(1))
@click.option("--concurrency", default=32, show_default=True, type=click.IntRange(1))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(
    *,
    url: str,
    model: str,
    names: str,
    pairs: int,
    per_query: int,
    eval_queries: int,
    eval_per_query: int,
    concurrency: int,
    out: Path,
) -> None:
    """Ask, evaluation first: without it nothing can be told."""
    announce("ops.bench.student_judgements")
    given = {
        "TEACHER_URL": url,
        "TEACHER__MODEL": model,
        "TEACHER__CONCURRENCY": str(concurrency),
        "RUN_DIR": str(out),
    }
    settings = load(os.environ | {f"RELEVANCE_{name}": value for name, value in given.items()})
    for name in sets_of(names):
        held_out = evaluation_set(name, settings.data, sampled_queries=eval_queries, per_query=eval_per_query)
        learned = pairs_to_learn_from(
            name,
            settings.data,
            count=pairs,
            per_query=per_query,
            unseen={pair.query for pair in held_out},
        )
        for file, wanted in ((EVAL, held_out), (TRAIN, learned)):
            click.echo(
                f"{name} {file}: {len(wanted)} pairs of {len({pair.query for pair in wanted})} queries"
            )
            answers = asyncio.run(ask(settings, wanted, say=click.echo))
            write(out / name / file, answers)
            refused = Counter(str(each.refusal.reason) for each in answers if each.refusal)
            click.echo(f"{name} {file}: refused {refused.total()}: {dict(refused)}")


if __name__ == "__main__":
    main()
