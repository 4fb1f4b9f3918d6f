"""The settings of the demo that runs the whole loop, with the reason beside each: sized for two cores and no GPU.

They are defaults of the demo: what the environment or the settings file says goes before them.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from ops.loop.cold_start import ColdStart
from ops.settings import Settings
from teacher.serving.weights import ADAPTER_FILES, DEFAULT_ADAPTER

#: By name, as `RELEVANCE_` and the name stand in the environment.
ALWAYS: Mapping[str, object] = {
    # The parts of the loop, all on this machine.
    "STACK__TRITON": True,
    "STACK__TEACHER_SERVER": True,
    "STACK__TEACHER_WORKERS": True,
    "STACK__SAMPLER": True,
    "STACK__TRAINER": True,
    "STACK__LOOP": True,
    "SHOP__STUDENTS": True,
    # A name of its own: `--light` has other arms in the same run directory.
    "EXPERIMENT__NAME": "students",
    # A breach rolls the version back; the experiment goes on with the next one.
    "EXPERIMENT__GUARDRAILS_STOP": False,
    # Half the deadline below: what is slower keeps a shopper waiting, whatever the cores are busy with.
    "EXPERIMENT__GUARDRAIL_LATENCY_MS": 500,
    # Fewer and larger writes leave more of the cores to the rest; the page is seconds behind either way.
    "METRICS__FLUSH_WITHIN_S": 3,
    # 5 searches with 24 pairs each are 120 pairs/s, a fifth of what two cores score; the rest is the teacher's.
    "SHOP__SEARCHES_PER_S": 5,
    # Enough for every shopper's past and for query frequencies, and sent in seconds.
    "SHOP__HISTORY_SEARCHES": 2_000,
    # Two thirds of a page's candidates are sorted out by the towers, which cost next to nothing.
    "SCORING__INTERACTION_CANDIDATES": 24,
    # Scoring takes 50 ms alone; beside vLLM and a training it waits for its turn.
    "SCORING__DEADLINE_MS": 1_000,
    # One thread an execution: two would spin for a core that the other server holds.
    "TRITON_SERVER__THREADS": 1,
    # int8 scales activations by batch: a score alone and one among others were seen to differ by 0.1.
    "SERVING__PARITY": 0.15,
    # Of the six layers that the encoder has, half: vectors of all items take half a minute.
    "STUDENTS__REPRESENTATION_LAYERS": 3,
    # Progress of the first training, for whoever waits.
    "STUDENTS__LOG_EVERY_S": 5,
    # 4 judgements a second of 400 tokens, about what vLLM gives beside the rest.
    "SAMPLING__TOKENS_PER_HOUR": 6_000_000,
    # Half a minute of the teacher's work: what waits longer is worth less than what comes.
    "SAMPLING__MAX_WAITING_PAIRS": 32,
    # Far more is shown in a minute than can be judged: what is older only makes the loop slower to learn.
    "SAMPLING__CANDIDATE_AGE_S": 60,
    # A tail query is seen once or twice in a demo: what it shows is asked while it is there.
    "SAMPLING__PAIRS_PER_QUERY_HOUR": 8,
    # More at a time only wait for each other on two cores.
    "TEACHER__CONCURRENCY": 16,
    "TEACHER_WORKER__OPEN_PAIRS": 64,
    # A minute of judgements makes an update, so that versions come while one watches.
    "TRAINER__UPDATE_JUDGEMENTS": 200,
    "TRAINER__UPDATE_WITHIN_S": 60,
    "TRAINER__LEAST_JUDGEMENTS": 64,
    # Of challengers that are kept back, too: a lesson stays a minute's or two; older ones are replayed.
    "TRAINER__MOST_NEW": 400,
    # The gate needs queries soon; a quarter of few judgements is fewer still.
    "TRAINER__HELD_OUT_SHARE": 0.25,
    # The first students have seen 800 pairs: they have far to go, and few steps an update to go it.
    "TRAINER__LEARNING_RATE": 1e-4,
    "TRAINER__HEAD_LEARNING_RATE": 5e-4,
    "TRAINER__EPOCHS": 2,
    # What people and teacher said before: 100 judgements alone are few steps, and the head would be forgotten.
    "TRAINER__REPLAY_SHARE": 6,
    # Of a first student that has seen so little there is little to keep.
    "TRAINER__AVERAGING": 0.9,
    # Two would wait for each other, since the cores are never both free.
    "TRAINER__THREADS": 1,
    # The loop promotes, under guardrails.
    "TRAINER__TO_TREATMENT": False,
    # A golden set of 120 queries tells no 0.01 from nothing: with that margin hardly anything would pass.
    "GATE__MARGIN": 0.03,
    # The teacher's distributions are softer than people's bare grades, so its first lessons cost 0.05 to 0.1.
    "GATE__CALIBRATION_MARGIN": 0.12,
    # A real catalogue has some twenty golden queries, and its first update knows few others of the tail.
    "GATE__LEAST_QUERIES": 20,
    # Champion and challenger have the same graph; more is a busy machine.
    "GATE__SLOWER": 3,
}
#: `--fast`: three searches where there was one, and everything that shoppers do after it three times as soon.
FAST: Mapping[str, object] = {
    "SHOP__SPEED": 3,
    # Three times the searches with a third of the pairs, so that the cores still hold it.
    "SCORING__INTERACTION_CANDIDATES": 10,
}
#: With `--light` the cores have room for more searches as it is.
LIGHT_FAST: Mapping[str, object] = {"SHOP__SPEED": 3}
REAL: Mapping[str, object] = {
    # Of the judged queries, kept out of traffic: half of these are the golden set, half the unseen one.
    "SHOP__GOLDEN_SHARE": 0.4,
    # Twenty golden queries tell still less from nothing.
    "GATE__MARGIN": 0.05,
    # Few queries are searched for: all candidates of each may be asked for.
    "SAMPLING__PAIRS_PER_QUERY_HOUR": 48,
}
#: On people's grades the small teacher is better without its chains (AUC 0.886 for 0.753 on Chorus), and faster.
REAL_SMALL_TEACHER: Mapping[str, object] = {"TEACHER_SERVER__ADAPTER": "score", "TEACHER__MODE": "score"}


def demo_settings(
    settings: Settings, *, fast: bool = False, base: bool = False, real: bool = False
) -> dict[str, object]:
    """Return the demo's settings by name, without those that `settings` were loaded with.

    `base` serves the teacher's model as it comes, `real` is for a catalogue with judged queries.
    """
    wanted = dict(ALWAYS) | (dict(FAST) if fast else {}) | (dict(REAL) if real else {})
    if base:
        wanted["TEACHER_SERVER__BASE"] = True
    elif (
        real
        and not _is_elsewhere(settings)
        and not any(is_given(settings, name) for name in REAL_SMALL_TEACHER)
    ):
        wanted |= REAL_SMALL_TEACHER
    return {name: value for name, value in wanted.items() if not is_given(settings, name)}


def light_settings(settings: Settings, *, fast: bool = False) -> dict[str, object]:
    """Return the settings of `--light` by name: the shop's own, but for its clock."""
    return {name: value for name, value in LIGHT_FAST.items() if fast and not is_given(settings, name)}


def has_teacher(settings: Settings) -> bool:
    """Tell whether there is a teacher that was taught: another model or endpoint, or the project's fine-tuning."""
    return _is_elsewhere(settings) or all((DEFAULT_ADAPTER / name).exists() for name in ADAPTER_FILES)


def _is_elsewhere(settings: Settings) -> bool:
    return bool(settings.teacher_url or settings.teacher_server.model)


def settings_of(cold: ColdStart) -> dict[str, object]:
    """Return what the loop begins with, by name."""
    return {
        "LOOP__FIRST_VERSIONS": cold.versions,
        "TRAINER__START": cold.student,
        "TRAINER__START_VERSION": 1,
        "TRAINER__LABELS": cold.learned,
        "GATE__GOLDEN": cold.golden,
    }


def is_given(settings: Settings, name: str) -> bool:
    """Tell whether the environment or the file set a setting.

    >>> is_given(Settings.model_validate({"shop": {"items": 500}}), "SHOP__ITEMS")
    True
    """
    section: BaseModel = settings
    *path, last = name.lower().split("__")
    for part in path:
        section = getattr(section, part)
    return last in section.model_fields_set
