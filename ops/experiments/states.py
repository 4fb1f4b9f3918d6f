"""Whether an experiment runs: read from and written to `experiments.states`, and the watch that stops it.

The topic is compacted and keyed by experiment, so its last record per key is the state, for every process.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import closing

import msgspec
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from kafka import TopicPartition
from kafka.errors import KafkaError

from ops import kafka
from ops.experiments.report import ExperimentReport, experiment_report
from ops.settings import Settings
from streams.records import ExperimentState
from streams.topics import EXPERIMENT_STATES

WATCH_EVERY_S = 10.0
READ_WITHIN_S = 10.0
SEND_WITHIN_S = 30.0
#: The watch needs the present only; the least that looks can be.
LOOKS = 2

log = logging.getLogger(__name__)


class StatesUnreadableError(RuntimeError):
    """The topic of experiment states could not be read to its end in time."""


class StateReader:
    """Follows the states of all experiments. For use by one thread at a time."""

    def __init__(self, settings: Settings, bootstrap: str) -> None:
        self._consumer = kafka.consumer(settings, bootstrap, group_id=None)
        self._states: dict[str, ExperimentState] = {}

    def read(self, *, within_s: float = READ_WITHIN_S) -> dict[str, ExperimentState]:
        """Read to what is the topic's end now and return the states by experiment.

        Raises StatesUnreadableError if that takes longer than `within_s`, or KafkaError. A record that is no
        state is logged and changes nothing.
        """
        until_s = time.monotonic() + within_s
        ends: dict[TopicPartition, int] = {}
        while not ends or any(self._consumer.position(each) < end for each, end in ends.items()):
            if time.monotonic() > until_s:
                raise StatesUnreadableError(
                    f"expected to read topic {EXPERIMENT_STATES} within {within_s:g} s and could not; "
                    "see whether the broker runs with `relevance doctor`"
                )
            if not ends:
                ends = self._ends()
            for records in self._consumer.poll(timeout_ms=100).values() if ends else ():
                for record in records:
                    self._take(record.value, record.offset)
        return dict(self._states)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def _ends(self) -> dict[TopicPartition, int]:
        numbers = self._consumer.partitions_for_topic(EXPERIMENT_STATES)
        if not numbers:
            time.sleep(0.1)
            return {}
        partitions = [TopicPartition(EXPERIMENT_STATES, number) for number in sorted(numbers)]
        if self._consumer.assignment() != set(partitions):
            self._consumer.assign(partitions)
            self._consumer.seek_to_beginning(*partitions)
        ends: dict[TopicPartition, int] = self._consumer.end_offsets(partitions)
        return ends

    def _take(self, value: bytes | None, offset: int) -> None:
        if value is None:
            return
        try:
            state = msgspec.json.decode(value, type=ExperimentState)
        except msgspec.DecodeError as error:
            log.error("%s offset %d is no experiment state: %s", EXPERIMENT_STATES, offset, error)
            return
        self._states[state.experiment] = state


def publish(settings: Settings, bootstrap: str, state: ExperimentState) -> None:
    """Write a state and wait until the broker has it. Raises KafkaError if it does not come to that."""
    producer = kafka.producer(settings, bootstrap, linger_ms=0)
    try:
        sent = producer.send(
            EXPERIMENT_STATES, key=state.experiment.encode(), value=msgspec.json.encode(state)
        )
        sent.get(timeout=SEND_WITHIN_S)
    finally:
        producer.close()


def stop_for(report: ExperimentReport) -> ExperimentState | None:
    """Return the state that stops the report's experiment for its breached guardrails, or None if it goes on
    or has been stopped already."""
    breached = [guardrail.why for guardrail in report.guardrails if guardrail.breached]
    if not breached or report.state == "stopped":
        return None
    return ExperimentState(
        experiment=report.experiment, state="stopped", reason="; ".join(breached), since_ms=report.at_ms
    )


def watch(
    settings: Settings,
    bootstrap: str,
    client: Client,
    *,
    stop: threading.Event,
    every_s: float = WATCH_EVERY_S,
) -> None:
    """Check the guardrails every `every_s` seconds until `stop` is set, and stop the experiment at a breach.

    `client` is used by this thread alone. A broker or store that does not answer is logged and asked again;
    any other error ends the watch. With `experiment.guardrails_stop` off it does nothing.
    """
    if not settings.experiment.guardrails_stop:
        stop.wait()
        return
    with closing(StateReader(settings, bootstrap)) as reader:
        while not stop.wait(every_s):
            try:
                _check(settings, bootstrap, client, reader)
            except (KafkaError, ClickHouseError, StatesUnreadableError):
                log.exception("the guardrails could not be checked; next try in %g s", every_s)


def _check(settings: Settings, bootstrap: str, client: Client, reader: StateReader) -> None:
    state = reader.read().get(settings.experiment.name)
    if state is not None and state.state == "stopped":
        return
    now_ms = time.time_ns() // 1_000_000
    report = experiment_report(client, settings, now_ms=now_ms, state=state, max_looks=LOOKS)
    stopped = stop_for(report)
    if stopped is not None:
        publish(settings, bootstrap, stopped)
        log.warning("experiment %s stopped: %s", stopped.experiment, stopped.reason)
