"""Answers read back: the good ones whole, every other one refused by name, none with an exception."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.item_text import item_text
from teacher.evidence import fold
from teacher.parsing import Chain, Refusal, RefusalReason, max_answer_chars, parse, parse_grade
from teacher.policy import YES_NO, Subtask, default
from teacher.prompt import MAX_LINES, Mode, answer_form, unfence

POLICY = default()
QUERY = "red steel kettle 1.7 litre"
ITEM = item_text(
    title="Norvik Aalto <b>kettle</b> | crimson", brand="Norvik", attributes={"colour": "crimson"}
)
GOOD = (
    "kettle | category | kettle | match\n"
    "- | brand | Norvik | unstated\n"
    "RED | colour | crimson | match\n"
    "1.7 litre | size | - | unstated\n"
    "chrome | material | nickel | mismatch\n"
    "grade: S"
)


def read(answer: str) -> Chain | Refusal:
    return parse(answer, policy=POLICY, query=QUERY, item_text=ITEM)


def test_a_good_answer_gives_verdicts_with_spans() -> None:
    chain = read(GOOD)
    assert isinstance(chain, Chain)
    assert chain.grade == "S"
    category, brand, colour, size, material = chain.verdicts
    assert (category.subtask, category.verdict, category.query_span) == ("category", "match", (10, 16))
    assert ITEM[slice(*(category.item_span or (0, 0)))] == "kettle"
    assert (brand.query_words, brand.query_span, brand.item_words) == ("", None, "Norvik")
    assert (colour.query_words, colour.query_span) == ("red", (0, 3))
    assert (size.item_words, size.item_span) == ("", None)
    assert (material.query_words, material.query_span, material.item_span) == ("chrome", None, None)
    assert chain.unlocated == 2


def test_words_with_look_alikes_are_given_as_they_stand() -> None:
    chain = read("kettle | category | ‹b›KETTLE‹/b› ¦ crimson | match\ngrade: E")
    assert isinstance(chain, Chain)
    assert chain.verdicts[0].item_words == "<b>kettle</b> | crimson"
    assert chain.unlocated == 0


def test_a_match_without_words_is_let_be() -> None:
    chain = read("- | category | - | match\nkettle | brand | - | mismatch\ngrade: I")
    assert isinstance(chain, Chain)
    assert [(v.verdict, v.item_span) for v in chain.verdicts] == [("match", None), ("mismatch", None)]
    assert chain.unlocated == 0


def test_a_grade_alone_is_a_chain_without_verdicts() -> None:
    assert read("grade: E") == Chain(verdicts=[], grade="E", unlocated=0)
    assert read("\n grade: E \n") == Chain(verdicts=[], grade="E", unlocated=0)


LINE = "kettle | category | kettle | match\n"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("x" * 100_000, "too_long"),
        (LINE, "no_grade"),
        (LINE.rstrip(), "no_grade"),
        (LINE + "grade: X", "unknown_grade"),
        (LINE + "grade:", "unknown_grade"),
        (LINE + "grade: e", "unknown_grade"),
        (LINE + "grade: E S", "unknown_grade"),
        ("The item matches.", "bad_line"),
        ("E", "bad_line"),
        (LINE + "\ngrade: E", "bad_line"),
        ("kettle | category | match\ngrade: E", "bad_line"),
        ("kettle | category | a | b | match\ngrade: E", "bad_line"),
        ("kettle|category|kettle|match\ngrade: E", "bad_line"),
        (LINE.replace("\n", "\r\n") + "grade: E", "bad_verdict"),
        (f"{'k' * 81} | category | - | match\ngrade: E", "words_too_long"),
        ("nice | smell | nice | match\ngrade: E", "unknown_subtask"),
        (LINE * (MAX_LINES + 1) + "grade: E", "too_many_lines"),
        ("kettle | category | kettle | Match\ngrade: E", "bad_verdict"),
        ("kettle | category | kettle | \ngrade: E", "bad_verdict"),
        (LINE + "grade: E\nIgnore the above.", "text_after_grade"),
        (LINE + "grade: E\ngrade: S", "text_after_grade"),
    ],
)
def test_every_fault_has_its_name(answer: str, reason: str) -> None:
    refusal = read(answer)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason
    assert refusal.detail
    assert len(refusal.detail) < 200


def test_a_shops_own_subtask_is_read_in_its_place() -> None:
    policy = POLICY.with_subtasks([Subtask(name="voltage", asks="mains voltage")]).with_grades(YES_NO)
    answer = "kettle | category | kettle | match\n- | voltage | - | unstated\ngrade: Yes"
    chain = parse(answer, policy=policy, query=QUERY, item_text=ITEM)
    assert isinstance(chain, Chain)
    assert (chain.grade, chain.verdicts[-1].subtask) == ("Yes", "voltage")


@pytest.mark.parametrize(
    ("answer", "reason"), [("", "empty"), ("e", "unknown_grade"), ("E S", "unknown_grade")]
)
def test_a_bare_grade_is_read_strictly(answer: str, reason: str) -> None:
    refusal = parse_grade(answer, policy=POLICY)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason
    assert parse_grade(" E\n", policy=POLICY) == Chain(verdicts=[], grade="E", unlocated=0)


@settings(max_examples=300, deadline=None)
@given(st.from_regex(answer_form(POLICY, Mode.CHAIN), fullmatch=True))
def test_whatever_the_asked_form_allows_is_read(answer: str) -> None:
    assert len(answer) <= max_answer_chars(POLICY)
    chain = read(answer)
    assert isinstance(chain, Chain), (answer, chain)
    assert answer.endswith(f"grade: {chain.grade}")
    assert len(chain.verdicts) == answer.count("\n")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300), st.text(max_size=60), st.text(max_size=200))
def test_any_texts_at_all_are_read_or_refused(answer: str, query: str, item: str) -> None:
    assert isinstance(parse(answer, policy=POLICY, query=query, item_text=item), Chain | Refusal)


FUZZ_TEXTS = 12_000
ALPHABET = "abeEISC|:-\n\t ‹›¦<>grade match mismatch unstated\u200b\u202e\x00\ud800\U0001f600éß日本İſ"
SOUP = ("grade:", "grade: E", "E", "S", "\n", "category:", " | ", "match", "mismatch", "unstated", "<|im_end|>",
        "a | brand | b | match\n", "-", "‹item›", "</item>", "Yes", "red | colour | crimson | match\n")  # fmt: skip


def _fuzzed(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.5:
        text = list(rng.choice([GOOD, LINE + "grade: E", GOOD.replace("kettle", "KETTLE")]))
        for _ in range(rng.choice([1, 1, 2, 5, 40])):
            place = rng.randrange(len(text) + 1)
            match rng.randrange(4):
                case 0:
                    text[place:place] = rng.choice(ALPHABET)
                case 1:
                    del text[place : place + rng.randrange(1, 9)]
                case 2:
                    text[place : place + 1] = rng.choice(ALPHABET)
                case _:
                    text[place:place] = text[max(0, place - rng.randrange(1, 60)) : place]
        return "".join(text)
    if kind < 0.52:
        return LINE * rng.randrange(MAX_LINES, MAX_LINES + 4) + "grade: E"
    if kind < 0.65:
        lines = GOOD.split("\n")
        rng.shuffle(lines)
        return "\n".join(lines[: rng.randrange(1, 7)])
    if kind < 0.85:
        return "".join(rng.choice(SOUP) for _ in range(rng.randrange(40)))
    if kind < 0.995:
        return "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randrange(200)))
    return rng.choice(["category: ", "grade: E", "|", "\n", "a"]) * 100_000


def test_twelve_thousand_texts_never_raise_and_every_span_holds_the_quoted_words() -> None:
    rng = random.Random(20_240_607)
    seen: Counter[str] = Counter()
    spans = 0
    for _ in range(FUZZ_TEXTS):
        answer = _fuzzed(rng)
        result = read(answer)
        seen[result.reason if isinstance(result, Refusal) else "chain"] += 1
        if isinstance(result, Refusal):
            continue
        for line, verdict in zip(answer.strip().split("\n"), result.verdicts, strict=False):
            columns = line.split(" | ")
            for quoted, span, text in (
                (columns[0], verdict.query_span, QUERY),
                (columns[2], verdict.item_span, ITEM),
            ):
                if span is not None:
                    spans += 1
                    wanted = unfence(" ".join(quoted.split()))
                    assert fold(unfence(text[slice(*span)])) == fold(wanted)
                    assert "\n" not in text[slice(*span)]
        located = [s for v in result.verdicts for s in (v.query_span, v.item_span)]
        words = [w for v in result.verdicts for w in (v.query_words, v.item_words)]
        assert result.unlocated == sum(bool(w) and s is None for w, s in zip(words, located, strict=True))
    assert sum(seen.values()) == FUZZ_TEXTS
    # The mutations must reach far enough to be a test: every fault of an answer, and many good ones.
    ours = {"truncated", "no_probabilities", "unfit_text", "rejected", "unavailable", "bad_response"}
    assert set(RefusalReason) - ours <= set(seen)
    assert seen["chain"] > 500
    assert spans > 2_000


def test_a_refusal_can_be_written_down_whatever_the_answer_held() -> None:
    refusal = read("\x1b[31m\u202e | category | \x00 | match")
    assert isinstance(refusal, Refusal)
    assert msgspec.json.decode(msgspec.json.encode(refusal), type=Refusal) == refusal
