"""Attacks: every family, held-out tricks that training does not have, and fences that hold."""

from __future__ import annotations

import random

from streams.item_text import item_text
from teacher.attacks import attacks
from teacher.prompt import user_message


def test_every_family_changes_the_title() -> None:
    """Each family gives a title other than the clean one, the same for the same seed."""
    made = attacks(random.Random(1), "red mug", "Nova cup, crimson, 300 ml, ceramic", pool="held_out")
    assert [attack.family for attack in made] == [
        "instruction",
        "fake_verdict",
        "label_tokens",
        "fence_breaker",
        "invisible",
        "homoglyphs",
        "keyword_stuffing",
    ]
    assert all(attack.title != "Nova cup, crimson, 300 ml, ceramic" for attack in made)
    assert made == attacks(random.Random(1), "red mug", "Nova cup, crimson, 300 ml, ceramic", pool="held_out")


def test_the_pools_share_no_wording() -> None:
    """What is tested was not trained on."""
    drawn: dict[str, set[str]] = {"training": set(), "held_out": set()}
    for pool, titles in drawn.items():
        for seed in range(300):
            for attack in attacks(random.Random(seed), "q", "T", pool=pool):  # type: ignore[arg-type]
                if attack.family in ("instruction", "fake_verdict", "label_tokens", "fence_breaker"):
                    titles.add(attack.title.replace("T", "", 1).strip(" -"))
    assert drawn["training"]
    assert not drawn["training"] & drawn["held_out"]


def test_no_attack_reaches_the_fence() -> None:
    """Whatever the title says, the prompt holds one item, one query and no special token of its own."""
    for seed in range(200):
        for attack in attacks(random.Random(seed), "red mug", "Nova cup", pool="held_out"):
            message = user_message("red mug", item_text(title=attack.title))
            assert message.count("<") == message.count(">") == 4
            assert "|" not in message


def test_invisible_marks_and_lookalikes_are_undone() -> None:
    """Cleaning gives the clean title back, so these cannot change a grade."""
    for seed in range(50):
        made = {
            attack.family: attack.title
            for attack in attacks(random.Random(seed), "q", "Nova black cup for office", pool="held_out")
        }
        for family in ("invisible", "homoglyphs"):
            assert item_text(title=made[family]) == "Nova black cup for office"
