"""Policies: the default, a shop's own, and what cannot be asked or read back."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ops.settings import ExtraSubtask, GradeSetting
from ops.settings import Teacher as TeacherSettings
from teacher.parsing import Chain, parse
from teacher.policy import YES_NO, Grade, Policy, PolicyError, Subtask, configured, default, load


def grade(label: str, gain: float) -> Grade:
    return Grade(label=label, name=label.lower(), gain=gain, means="so")


def policy(*, names: tuple[str, ...] = ("category",), grades: tuple[Grade, ...] = YES_NO) -> Policy:
    return Policy(task="t", subtasks=tuple(Subtask(name=name, asks="a") for name in names), grades=grades)


def test_the_default_has_the_scale_of_the_public_set_and_all_subtasks() -> None:
    assert default().gains == {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}
    assert [subtask.name for subtask in default().subtasks] == [
        "category", "brand", "model", "colour", "size", "material", "quantity", "audience", "compatibility",
    ]  # fmt: skip


def test_the_prompts_example_is_an_answer_that_is_read() -> None:
    example = default().example
    assert example is not None
    chain = parse(example.answer, policy=default(), query=example.query, item_text=example.item.strip())
    assert isinstance(chain, Chain)
    assert chain.unlocated == 0


@pytest.mark.parametrize(
    ("names", "grades", "told"),
    [
        (("category", "category"), YES_NO, "every subtask once"),
        (("Category",), YES_NO, "subtask of the form"),
        (("x" * 33,), YES_NO, "subtask of the form"),
        (("a | size | b | match\ngrade",), YES_NO, "subtask of the form"),
        (("grade",), YES_NO, "cannot be called 'grade'"),
        (("category",), YES_NO[:1], "at least two grades"),
        (("category",), (grade("E", 1), grade("E", 0)), "every grade once"),
        (("category",), (grade("E.", 1), grade("I", 0)), "grade of the form"),
        (("category",), (grade("", 1), grade("I", 0)), "grade of the form"),
        (("category",), (grade("E", 1.5), grade("I", 0)), "gain from 0 to 1"),
        (("category",), (grade("E", float("nan")), grade("I", 0)), "gain from 0 to 1"),
        (("category",), (grade("I", 0), grade("E", 1)), "best to worst"),
        (("category",), (grade("E", 1), grade("I", 1)), "best to worst"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    names: tuple[str, ...], grades: tuple[Grade, ...], told: str
) -> None:
    with pytest.raises(PolicyError, match=told):
        policy(names=names, grades=grades)


def test_settings_add_subtasks_and_replace_grades() -> None:
    settings = TeacherSettings(
        subtasks=[ExtraSubtask(name="voltage", asks="mains voltage")],
        grades=[
            GradeSetting(label="Yes", name="relevant", gain=1, means="asked for"),
            GradeSetting(label="No", name="irrelevant", gain=0, means="else"),
        ],
    )
    asked = configured(settings)
    assert asked.subtasks[-1].name == "voltage"
    assert asked.labels == ("Yes", "No")
    assert asked.example is None
    assert configured(TeacherSettings()) == default()
    with pytest.raises(PolicyError, match="every subtask once"):
        configured(TeacherSettings(subtasks=[ExtraSubtask(name="brand", asks="again")]))


def test_a_shops_file_is_read_and_a_wrong_one_named(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    with pytest.raises(PolicyError, match=r"policy\.toml"):
        load(file)
    file.write_text("task = 'judge'\nsubtasks = []\n")
    with pytest.raises(PolicyError, match="grades"):
        load(file)
    file.write_bytes(b"task = '\xff'")
    with pytest.raises(PolicyError, match=r"policy\.toml"):
        load(file)
    file.write_text(
        "task = 'judge'\nsubtasks = [{name = 'category', asks = 'kind'}]\n"
        "grades = [{label = '1', name = 'a', gain = 1.0, means = 'm'},"
        " {label = '0', name = 'b', gain = 0, means = 'm'}]"
    )
    assert load(file).labels == ("1", "0")
    file.write_text(file.read_text() + "\nsurprise = 1")
    with pytest.raises(PolicyError, match="surprise"):
        load(file)


def test_a_policy_read_from_json_is_checked_too() -> None:
    encoded = msgspec.json.encode(policy()).replace(b'"No"', b'"Yes"')
    with pytest.raises(msgspec.ValidationError, match="every grade once"):
        msgspec.json.decode(encoded, type=Policy)
