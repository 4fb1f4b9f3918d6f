"""What `relevance doctor` checks of Triton and of the teacher: those of the stack, and those that have an address."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ops.cli.checks import Check
from ops.endpoints import NotRunningError
from ops.settings import Settings
from ops.stack import plan

ANSWERS_WITHIN_S = 5.0


def server_checks(settings: Settings, *, running: bool) -> Iterator[Check]:
    """Yield what is found of each server that the settings ask for; `running` tells whether the stack is."""
    if settings.triton or plan.has_triton(settings):
        yield triton_check(settings) if running or settings.triton else triton_environment_check(settings)
    if settings.teacher_url or plan.has_teacher_server(settings):
        if running or settings.teacher_url:
            yield from teacher_checks(settings)
        else:
            yield teacher_environment_check(settings)


def triton_environment_check(settings: Settings) -> Check:
    """The environment that Triton serves from is there."""
    from ops.servers.steps import PreparationError
    from ops.serving.environment import made_environment

    try:
        return Check.ok("triton", f"its environment is there: {made_environment(settings.triton_server)}")
    except PreparationError as error:
        return Check.note("triton", str(error), "`relevance up` makes it as well")


def teacher_environment_check(settings: Settings) -> Check:
    """What the teacher's vLLM needs is there."""
    from ops.servers.steps import PreparationError
    from teacher.serving.server import prepared

    try:
        return Check.ok("teacher server", f"its model is there: {prepared(settings)[1]}")
    except PreparationError as error:
        return Check.note("teacher server", str(error), "`relevance up` makes it as well")


def triton_check(settings: Settings) -> Check:
    """Triton answers."""
    from ops.serving.connection import Control

    try:
        with contextlib.closing(Control(settings)) as control:
            if control.live(timeout_s=ANSWERS_WITHIN_S):
                return Check.ok("triton", "answers")
    except NotRunningError as error:
        return Check.broken("triton", str(error), "queries are answered by the fallback meanwhile")
    mend = "check RELEVANCE_TRITON and RELEVANCE_SCORING__*" if settings.triton else "see its log"
    return Check.broken("triton", "gives no answer; queries are answered by the fallback", mend)


def teacher_checks(settings: Settings) -> Iterator[Check]:
    """Each address of a teacher answers. One that still starts holds up nothing: pairs wait on their topic."""
    from teacher.serving.address import teacher_urls
    from teacher.serving.server import healthy

    try:
        urls = teacher_urls(settings)
    except NotRunningError:
        yield Check.note("teacher server", "is not ready", "pairs wait for it; a start takes minutes")
        return
    for url in urls:
        if healthy(url, timeout_s=ANSWERS_WITHIN_S):
            yield Check.ok("teacher server", f"{url} answers")
        else:
            yield Check.broken("teacher server", f"{url} gives no answer", "check RELEVANCE_TEACHER_URL")
