"""What an annotation leaves in its folder: kept examples, the review file twice, the account, the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from ops.files import write_atomically
from teacher.annotation import review
from teacher.annotation.accounting import Account, Accountant, Prices
from teacher.annotation.ledger import Ledger
from teacher.annotation.pairs import Pairs
from teacher.annotation.review import Review, ReviewError
from teacher.annotation.rule import Outcome
from teacher.annotation.run import complete, open_pairs
from teacher.annotation.settlement import Plan, Settlement, settle
from teacher.examples import save

LEDGER: Final = "ledger.sqlite3"
KEPT: Final = "kept.jsonl"
ACCOUNT: Final = "account.json"
REVIEWS: Final = ("review.csv", "review.jsonl")


class Settled(msgspec.Struct, frozen=True):
    """The pairs that are kept, those that people shall look at, and the account of all."""

    kept: tuple[Settlement, ...]
    review: tuple[Settlement, ...]
    account: Account


def settle_all(pairs: Pairs, plan: Plan, ledger: Ledger, prices: Mapping[str, Prices]) -> Settled:
    """Settle every pair that is fully answered, in the order of the file."""
    accountant = Accountant(annotators=plan.annotators, labels=plan.labels, prices=prices)
    answered, reviews = ledger.keys(), ledger.reviews()
    to_arbiter = {pair.key for pair in open_pairs(pairs.pairs, plan, ledger)} if plan.arbiter else set()
    by_outcome: dict[Outcome, list[Settlement]] = {outcome: [] for outcome in Outcome}
    for pair in pairs.pairs:
        answers = ledger.answers(pair.key, annotators=plan.everyone, samples=plan.samples)
        accountant.answers(answers)
        needed = plan.everyone if pair.key in to_arbiter else plan.annotators
        if not complete(pair, needed, samples=plan.samples, answered=answered):
            accountant.unanswered()
            continue
        settled = settle(pair, answers, plan, review=reviews.get(pair.key))
        accountant.settled(settled)
        by_outcome[settled.decision.outcome].append(settled)
    return Settled(
        tuple(by_outcome[Outcome.KEPT]),
        tuple(by_outcome[Outcome.REVIEW]),
        accountant.account(duplicates=pairs.duplicates),
    )


def refuse_to_overwrite(folder: Path, known: Mapping[str, Review]) -> None:
    """Raise ReviewError if a review file in `folder` holds grades of people that were not read in."""
    for path in (folder / name for name in REVIEWS):
        if count := review.not_read_in(path, known):
            raise ReviewError(
                f"{path} holds {count} grades that were not read in and would be lost: give `--reviewed {path}`, or "
                "move it away"
            )


def write(folder: Path, settled: Settled, plan: Plan, *, about: Mapping[str, object]) -> None:
    """Write all outputs, each whole or not at all. `about` stands at the top of the account."""
    save(folder / KEPT, [each.example for each in settled.kept if each.example is not None])
    rows = [each.row() for each in settled.review]
    review.save_csv(folder / REVIEWS[0], rows, plan.everyone)
    review.save_jsonl(folder / REVIEWS[1], rows)
    account = {**about, **msgspec.to_builtins(settled.account)}
    write_atomically(folder / ACCOUNT, msgspec.json.format(msgspec.json.encode(account), indent=2) + b"\n")
