from __future__ import annotations

from pathlib import Path

import pytest

from teacher.annotation.rule import WhenPersonDisagrees
from teacher.annotation.settings import AnnotationSettingsError, Annotator, load, parse_annotator

TWO = ("one=http://h:1/v1#m", "two=http://h:2/v1,http://h:3/v1#n")
PLAN = """
samples = 5
person_disagrees = "person"

[[annotators]]
name = "one"
url = "http://h:1/v1"
model = "m"
api_key_variable = "ONE_KEY"
usd_per_million_prompt_tokens = 0.4

[[annotators]]
name = "two"
url = "http://h:2/v1"
model = "n"

[arbiter]
name = "three"
url = "http://h:3/v1"
model = "o"
"""


def test_options_alone_are_enough() -> None:
    found = load(None, annotators=TWO, given={"samples": 5, "temperature": None})
    assert [(each.name, each.url, each.model) for each in found.annotators] == [
        ("one", "http://h:1/v1", "m"),
        ("two", "http://h:2/v1,http://h:3/v1", "n"),
    ]
    assert (found.samples, found.temperature, found.arbiter) == (5, 0.7, None)
    assert found.person_disagrees is WhenPersonDisagrees.REVIEW


def test_options_go_before_the_plan(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    found = load(plan)
    assert [each.name for each in found.everyone] == ["one", "two", "three"]
    assert (found.samples, found.person_disagrees) == (5, WhenPersonDisagrees.PERSON)
    moved = load(plan, annotators=("one=http://h:9/v1#m", "two=http://h:2/v1#n"), given={"samples": 3})
    assert (moved.samples, moved.annotators[0].url) == (3, "http://h:9/v1")
    assert moved.annotators[0].usd_per_million_prompt_tokens == 0.4


@pytest.mark.parametrize("text", ["", "one", "one=http://h/v1", "http://h/v1#m", "one=http://h/v1#"])
def test_malformed_annotators_are_told(text: str) -> None:
    with pytest.raises(AnnotationSettingsError, match="expected NAME=URL#MODEL"):
        parse_annotator(text)


@pytest.mark.parametrize(
    ("annotators", "given", "told"),
    [
        ((), {}, "annotators: Field required"),
        (TWO[:1], {}, "at least 2 items"),
        ((TWO[0], TWO[0]), {}, "expected every name once"),
        ((TWO[0], "two=http://h:1/v1#m"), {}, "same model at the same endpoint"),
        ((TWO[0], "two=ftp://h/v1#m"), {}, r"expected http\(s\)://host:port/v1"),
        ((TWO[0], "Two=http://h/v1#m"), {}, "should match pattern"),
        ((TWO[0], "person=http://h/v1#m"), {}, "choose another name"),
        (TWO, {"temperature": 0.0}, "temperature above 0"),
        (TWO, {"samples": 0}, "greater than or equal to 1"),
        (TWO, {"self_agreement": 1.5}, "less than or equal to 1"),
    ],
)
def test_wrong_settings_are_told(annotators: tuple[str, ...], given: dict[str, object], told: str) -> None:
    with pytest.raises(AnnotationSettingsError, match=told):
        load(None, annotators=annotators, given=given)


def test_one_sample_needs_no_temperature() -> None:
    assert load(None, annotators=TWO, given={"samples": 1, "temperature": 0.0}).temperature == 0


def test_a_wrong_plan_is_named(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN + "prize = 3\n")
    with pytest.raises(AnnotationSettingsError, match=r"arbiter\.prize \(in .*plan\.toml\): Extra inputs"):
        load(plan)
    plan.write_text("samples = ")
    with pytest.raises(AnnotationSettingsError, match="cannot be read"):
        load(plan)


def test_keys_come_from_the_environment() -> None:
    annotator = Annotator(name="one", url="http://h/v1", model="m", api_key_variable="ONE_KEY")
    assert annotator.api_key({"ONE_KEY": "secret"}) == "secret"
    with pytest.raises(AnnotationSettingsError, match="expected its key in ONE_KEY"):
        annotator.api_key({})
    assert Annotator(name="one", url="http://h/v1", model="m").api_key({"ONE_KEY": "secret"}) == ""
