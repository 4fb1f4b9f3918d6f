"""Which parts the local stack has, in which order they start, and how long each may take."""

from __future__ import annotations

from dataclasses import dataclass

from ops.settings import Settings

#: All parts have stopped this long after Ctrl-C; killing what is left takes the rest of ten seconds.
STOP_WITHIN_S = 8.9
#: Of these the broker gets at least so much: it writes all it holds to disk; killed, the others lose nothing.
BROKER_STOPS_WITHIN_S = 4.9
#: A stage that takes longer to stop is joined by the next one.
STAGE_ALONE_S = 1.2

TRITON = "triton"
TEACHER_SERVER = "teacher-server"
#: How many seconds Triton takes to load what a run has published so far, beside its own start.
MODELS_LOAD_WITHIN_S = 240
#: Of those that give way (`stack.gives_way`): an update is short and the next version waits for it, while the teacher
#: would take every core for as long as there are pairs.
TRAINER_NICENESS = 5
TEACHER_NICENESS = 10


@dataclass(frozen=True, slots=True)
class Part:
    """A process of the stack. Parts of one `stage` start together; stages start in order, stop in reverse.

    The stack goes on without one whose `start_within_s` is None: that one knows by itself when its start has failed.
    `stop_within_s` is how long the supervisor waits by itself, when nobody is left to tell it.
    """

    name: str
    stage: int
    waits_for: str
    start_within_s: float | None
    stop_within_s: int


def parts(settings: Settings, *, shop: bool = True) -> list[Part]:
    """Return the parts to start. With an address of a Kafka cluster there is no broker among them."""
    chosen = []
    if not settings.kafka:
        # A JVM on a busy machine takes its time.
        chosen.append(Part("broker", 0, "an answer to a metadata request", 90, 10))
    for number in range(1, settings.stack.workers + 1):
        chosen.append(Part(f"streams-{number}", 1, "partitions assigned", 120, 4))
    chosen.append(Part("metrics", 2, "store and page open", 120, 4))
    if has_triton(settings):
        # Before whoever is scored by it or publishes to it.
        within_s = settings.triton_server.start_within_s + MODELS_LOAD_WITHIN_S
        chosen.append(Part(TRITON, 2, "the server and its models", within_s, 10))
    # Traffic waits for no teacher: a start takes minutes, and until then pairs wait on their topic.
    if has_teacher_server(settings):
        chosen.append(Part(TEACHER_SERVER, 3, "the model loaded and probed", None, 10))
    # The shop waits for neither: without features it serves pages all the same.
    if settings.stack.features:
        chosen.append(Part("features", 3, "definitions applied, first look at the topics", 120, 4))
    if settings.stack.sampler:
        chosen.append(Part("sampler", 3, "first look at the topics", 120, 4))
    if settings.stack.teacher_workers:
        for number in range(1, settings.teacher_worker.workers + 1):
            chosen.append(Part(f"teacher-worker-{number}", 3, "first look at the pairs", 120, 4))
    if settings.stack.trainer:
        # The supervisor may kill it at any moment: what is not in its checkpoint is read again.
        chosen.append(Part("trainer", 3, "student and checkpoint read", 180, 4))
    if settings.stack.loop:
        # The first students must be served before anyone is scored by them.
        chosen.append(Part("loop", 3, "the first students served", 240, 4))
    if shop:
        chosen.append(
            Part("shop", 4 if settings.stack.loop else 3, "catalogue made, first searches sent", 180, 4)
        )
    return chosen


def has_triton(settings: Settings) -> bool:
    """Tell whether the stack runs a Triton: one that has an address runs elsewhere."""
    return settings.stack.triton and not settings.triton


def has_teacher_server(settings: Settings) -> bool:
    """Tell whether the stack runs a vLLM: one that has an address runs elsewhere."""
    return settings.stack.teacher_server and not settings.teacher_url


def niceness(settings: Settings, name: str) -> int:
    """Return by how much a part, with all it starts, leaves the cores to the others."""
    if not settings.stack.gives_way:
        return 0
    if name == TEACHER_SERVER:
        return TEACHER_NICENESS
    return TRAINER_NICENESS if name == "trainer" or name.startswith("teacher-worker-") else 0


def stages(chosen: list[Part]) -> list[list[Part]]:
    """Group parts by stage, in the order of starting."""
    numbers = sorted({part.stage for part in chosen})
    return [[part for part in chosen if part.stage == number] for number in numbers]
