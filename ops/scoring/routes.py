"""Which version scores which arm: from the steps of the topic `relevance.students`, or of a repository at hand."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from kafka import TopicPartition

from ops import kafka
from ops.settings import Settings
from streams.records import StudentStep
from streams.topics import STUDENTS
from students.publishing.ledger import KINDS, Ledger, Route, route_of
from students.publishing.repository import root_of

READ_WITHIN_S = 10.0
NO_ROUTE = Route()

logger = logging.getLogger(__name__)


class RoutesUnreadableError(RuntimeError):
    """The topic of students' steps could not be read to its end in time."""


@dataclass(frozen=True, slots=True)
class Routes:
    """What serves each arm, as of one moment. A query is scored under one of these from beginning to end."""

    interaction: Route = NO_ROUTE
    representation: Route = NO_ROUTE

    def versions(self, *, treatment: bool) -> tuple[int, int]:
        """Return the interaction and the representation student's version of an arm, 0 for none.

        The control arm has the champions, the treatment the challengers where there are some.

        >>> Routes(Route(champion=3, challenger=5), Route(champion=4)).versions(treatment=True)
        (5, 4)
        """
        interaction, representation = (
            (route.challenger if treatment else 0) or route.champion
            for route in (self.interaction, self.representation)
        )
        return interaction, representation


def routes_at_hand(settings: Settings) -> Routes:
    """Return the routes of the repository of the settings. Raises LedgerError."""
    steps = Ledger(root_of(settings)).steps()
    interaction, representation = (route_of(steps, kind) for kind in KINDS)
    return Routes(interaction, representation)


class RouteReader:
    """Follows the topic. For use by one thread at a time."""

    def __init__(self, settings: Settings, bootstrap: str) -> None:
        self._consumer = kafka.consumer(settings, bootstrap, group_id=None)
        self._last: dict[str, StudentStep] = {}

    def read(self, *, within_s: float = READ_WITHIN_S) -> Routes:
        """Read to what is the topic's end now and return the routes.

        Raises RoutesUnreadableError if that takes longer than `within_s`, or KafkaError. A record that is no step is
        logged and changes nothing.
        """
        until_s = time.monotonic() + within_s
        ends: Mapping[TopicPartition, int] = {}
        while not ends or any(self._consumer.position(each) < end for each, end in ends.items()):
            if time.monotonic() > until_s:
                raise RoutesUnreadableError(
                    f"expected to read topic {STUDENTS} within {within_s:g} s and could not;"
                    " see whether the broker runs with `relevance doctor`"
                )
            ends = ends or self._ends()
            for records in self._consumer.poll(timeout_ms=100).values() if ends else ():
                for record in records:
                    self._take(record.value, record.offset)
        return self.routes()

    def routes(self) -> Routes:
        """Return the routes as of the last read."""
        interaction, representation = (route_of(list(self._last.values()), kind) for kind in KINDS)
        return Routes(interaction, representation)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def _ends(self) -> Mapping[TopicPartition, int]:
        numbers = self._consumer.partitions_for_topic(STUDENTS)
        if not numbers:
            time.sleep(0.1)
            return {}
        partitions = [TopicPartition(STUDENTS, number) for number in sorted(numbers)]
        if self._consumer.assignment() != set(partitions):
            self._consumer.assign(partitions)
            self._consumer.seek_to_beginning(*partitions)
        ends: Mapping[TopicPartition, int] = self._consumer.end_offsets(partitions)
        return ends

    def _take(self, value: bytes | None, offset: int) -> None:
        if value is None:
            return
        try:
            step = msgspec.json.decode(value, type=StudentStep)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.error("%s offset %d is no step of a student's version: %s", STUDENTS, offset, error)
            return
        known = self._last.get(step.kind)
        # Steps may come twice, the earlier ones again after the later.
        if known is None or step.step_id >= known.step_id:
            self._last[step.kind] = step
