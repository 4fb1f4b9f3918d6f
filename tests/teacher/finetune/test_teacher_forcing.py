from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from teacher import policy
from teacher.finetune.packing import PackingError
from teacher.finetune.teacher_forcing import Choices, ChoicesError, Places, outcomes
from teacher.finetune.tokens import tokenise, told
from teacher.policy import Verdict
from teacher.prompt import Mode
from tests.teacher.finetune import samples

WORDS = samples.tokenizer()


@pytest.mark.parametrize("mode", list(Mode))
def test_places_are_those_of_the_verdicts_and_the_grade(mode: Mode) -> None:
    for example in samples.examples(10):
        (pair,) = tokenise(WORDS, [example], mode)
        places = Places.of(WORDS, example, mode)
        assert WORDS.decode(pair.answer[places.grade]).strip() == example.grade
        said = [WORDS.decode(pair.answer[place]).strip() for place in places.verdicts]
        assert said == ([line.verdict for line in example.chain] if mode is Mode.CHAIN else [])


def test_words_of_an_item_that_look_like_verdict_or_grade_are_passed_over() -> None:
    example = samples.examples(1)[0]
    line = example.chain[0]
    odd = type(line)(
        subtask="category", query_words="match", item_words="grade: E match", verdict=Verdict.UNSTATED
    )
    example = type(example)(
        query="match", item_id="i", item_text="grade: E match", grade="I", source="shop 1", chain=(odd,)
    )
    places = Places.of(WORDS, example, Mode.CHAIN)
    (pair,) = tokenise(WORDS, [example], Mode.CHAIN)
    assert WORDS.decode(pair.answer[places.grade]) == " I"
    assert WORDS.decode(pair.answer[places.verdicts[0] :]).lstrip().startswith("unstated")


def test_choices_are_the_tokens_that_follow_in_an_answer() -> None:
    choices = Choices.of(WORDS, policy.default(), Mode.CHAIN)
    assert {label: WORDS.decode([token]) for label, token in choices.grades.items()} == {
        label: f" {label}" for label in "ESCI"
    }
    assert Choices.of(WORDS, policy.default(), Mode.SCORE).grades["E"] == WORDS.convert_tokens_to_ids("E")


def test_labels_that_begin_with_the_same_token_are_refused() -> None:
    bare = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    bare.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made: Any = PreTrainedTokenizerFast
    unknowing = made(tokenizer_object=bare, eos_token="[UNK]")
    with pytest.raises(ChoicesError, match="expected grades that begin with tokens of their own"):
        Choices.of(unknowing, policy.default(), Mode.CHAIN)


@pytest.mark.parametrize("mode", list(Mode))
def test_outcomes_are_what_the_model_says_of_each_pair_alone(mode: Mode) -> None:
    model, examples = samples.model(len(WORDS)), samples.examples(8)
    found = outcomes(model, WORDS, examples, mode=mode, asked=policy.default())
    choices = Choices.of(WORDS, policy.default(), mode)
    assert [each.query for each in found] == [example.query for example in examples]
    for example, pair, outcome in zip(examples, tokenise(WORDS, examples, mode), found, strict=True):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([pair.prompt + pair.answer])).logits[0]
        own = logits[len(pair.prompt) - 1 : -1]
        loss = torch.nn.functional.cross_entropy(own, torch.tensor(pair.answer), reduction="sum")
        assert outcome.tokens == len(pair.answer)
        assert outcome.loss == pytest.approx(float(loss), rel=1e-4)
        at_grade = own[Places.of(WORDS, example, mode).grade]
        weights = {label: math.exp(at_grade[token]) for label, token in choices.grades.items()}
        expected = {label: weight / sum(weights.values()) for label, weight in weights.items()}
        assert outcome.grades == pytest.approx(expected, rel=1e-4)
        assert outcome.verdicts == (len(example.chain) if mode is Mode.CHAIN else 0)
        right = 0
        for place, line in zip(Places.of(WORDS, example, mode).verdicts, example.chain, strict=False):
            scores = {verdict: float(own[place][token]) for verdict, token in choices.verdicts.items()}
            right += max(scores, key=scores.__getitem__) is line.verdict
        assert outcome.verdicts_right == right


def test_a_grade_of_another_scale_is_refused() -> None:
    model, examples = samples.model(len(WORDS)), samples.examples(2)
    asked = policy.default().with_grades(policy.YES_NO)
    with pytest.raises(ChoicesError, match="expected grades among Yes, No, got"):
        outcomes(model, WORDS, examples, mode=Mode.SCORE, asked=asked)


def test_no_examples_are_refused() -> None:
    with pytest.raises(PackingError, match="at least one pair"):
        outcomes(samples.model(len(WORDS)), WORDS, [], mode=Mode.SCORE, asked=policy.default())


def test_told_ends_in_the_grade() -> None:
    example = samples.examples(1)[0]
    assert told(example, Mode.CHAIN).splitlines()[-1] == f"grade: {example.grade}"
    assert told(example, Mode.SCORE) == example.grade
