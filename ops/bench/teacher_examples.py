"""Write the examples that the project's own teacher was fine-tuned on.

    python -m ops.bench.teacher_examples OUT.jsonl [--shop 2200] [--esci 480] [--chorus 320] [--seed 1]

Shops are generated; ESCI and Chorus are read from the data folder. No query of the demo's shop is among them,
and none of the golden queries. The order is by source; fine-tuning shuffles with its own seed.
"""

from __future__ import annotations

from pathlib import Path

import click

from ops.settings import load
from ops.shop.judged_pairs import evaluation_queries, golden_queries_of
from ops.shop.training_examples import real_examples, shop_examples
from teacher.examples import save


@click.command(help=__doc__)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--shop", default=2_200, show_default=True, help="Examples of generated shops.")
@click.option("--esci", default=480, show_default=True)
@click.option("--chorus", default=320, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(out: Path, shop: int, esci: int, chorus: int, seed: int) -> None:
    """Write the file."""
    data = load().data
    real = [(name, count) for name, count in (("esci", esci), ("chorus", chorus)) if count]
    unseen = evaluation_queries()
    for name, _ in real:
        unseen |= golden_queries_of(data / name)
    examples = shop_examples(shop, seed=seed, unseen=unseen)
    for name, count in real:
        examples += real_examples(data / name, count, seed=seed, unseen=unseen)
    save(out, examples)
    click.echo(f"{len(examples)} examples in {out}")


if __name__ == "__main__":
    main()
