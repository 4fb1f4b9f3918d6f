"""The local stack: starts the parts in order, waits until each is healthy, mends, and stops them all.

Everything lies under the run directory: broker and store data, logs, heartbeats, addresses. A second start
goes on where the first stopped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Self

from ops import endpoints, heartbeat
from ops.kafka import ensure_topics
from ops.settings import Settings
from ops.stack import addresses, apache_kafka, embedded_broker, leftovers, logs, plan, servers, supervision
from ops.stack.broker_probe import BrokerProbe
from ops.stack.lifeline import PARENT_VARIABLE
from ops.stack.run_lock import RunLock
from ops.stack.stopping import stop_parts
from ops.stack.supervision import Process, Supervisor, SupervisorError
from ops.stack.watch import Finding, Watch, is_ready
from streams.topics import TOPICS

SUPERVISOR_STARTS_WITHIN_S = 20.0
POLL_S = 0.1
PROBE_TIMEOUT_S = 2.0
#: A part that ends so often before it was healthy once will not get better by itself.
STARTS_TO_GIVE_UP = 3
TAIL_LINES = 15
#: So many ticks in a row without an answer from the supervisor are the end.
UNANSWERED_LIMIT = 6


class StartError(RuntimeError):
    """A part did not get healthy; the message holds the end of its log and what to do."""


class StoppedError(RuntimeError):
    """The stack was told to stop while it was starting."""


class StopRequest(threading.Event):
    """Set by Ctrl-C; remembers when, since the ten seconds count from then."""

    def __init__(self) -> None:
        super().__init__()
        self.at_s: float | None = None

    def set(self) -> None:
        """Ask for the stop."""
        if self.at_s is None:
            self.at_s = time.monotonic()
        super().set()


class LocalStack:
    """The parts of one run directory, as a context manager: started on entry, none of them left after exit.

    `environment` is what the parts see, `say` takes a finished line for people, `waiting` one that the next
    replaces. `stop` ends a start that is under way. Raises AlreadyRunningError, StartError, StoppedError.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        environment: Mapping[str, str],
        stop: StopRequest,
        say: Callable[[str], None],
        waiting: Callable[[str], None],
        shop: bool = True,
    ) -> None:
        self.settings = settings
        self.run_dir = settings.run_dir.absolute()
        self.parts = plan.parts(settings, shop=shop)
        self._environment = environment
        self._stop, self._say, self._waiting = stop, say, waiting
        self._socket = supervision.socket_path(self.run_dir)
        self._supervisor = Supervisor(self._socket)
        self._process: subprocess.Popen[bytes] | None = None
        self._watches = {
            part.name: Watch(settings.stack.stale_after_s, own_heartbeat=part.name != "broker")
            for part in self.parts
        }
        self._began_s: dict[str, float] = {}
        self._died_s: dict[str, float] = {}
        self._unanswered = 0
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as exits:
            exits.enter_context(RunLock(self.run_dir))
            exits.callback(self._clean)
            self._start(exits)
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *details: object) -> None:
        self._exits.close()

    @property
    def kafka(self) -> str:
        """Return the bootstrap servers that the parts use."""
        return self.addresses.kafka

    def _start(self, exits: contextlib.ExitStack) -> None:
        self._check_program_of_broker()
        old = leftovers.end(self.run_dir, within_s=3.0)
        if old:
            self._say(f"ended {len(old)} process(es) that an earlier stack had left behind")
        self._refuse_second_servers()
        self._clean()
        self.addresses = addresses.choose(self.settings, self._say)
        endpoints.write(self.run_dir, self.addresses)
        self._probe = BrokerProbe(self.settings, self.kafka, timeout_s=PROBE_TIMEOUT_S)
        exits.callback(self._probe.close)
        exits.callback(self._end_supervisor)
        self._start_supervisor()
        if self.settings.kafka:
            self._wait_for_broker_elsewhere()
        for stage in plan.stages(self.parts):
            self._start_stage(stage)
            if stage[0].name == "broker":
                self._ensure_topics()

    def _check_program_of_broker(self) -> None:
        """Raise BrokerSetupError before anything is started if the broker can't be."""
        if self.settings.kafka:
            return
        if self.settings.stack.broker == "apache":
            apache_kafka.java(apache_kafka.find(apache_kafka.home(self.settings)).java_needed)
        else:
            embedded_broker.binary()

    def _refuse_second_servers(self) -> None:
        for name, pid in servers.holders(self.settings).items():
            raise StartError(
                f"another program keeps the {name} of {self.run_dir} running (pid {pid}): stop it with Ctrl-C there,"
                f" or run the stack without its own (RELEVANCE_STACK__{name.upper().replace('-', '_')}=false)"
            )

    def _start_supervisor(self) -> None:
        for folder in (self.run_dir / "supervisor", self._socket.parent):
            supervision.make_private_folder(folder)
        (self.run_dir / "logs").mkdir(exist_ok=True)
        configuration = self.run_dir / "supervisor" / "supervisord.conf"
        configuration.write_text(supervision.configuration(self.run_dir, self.parts), encoding="utf-8")
        environment = dict(self._environment) | addresses.variables(self.addresses)
        environment |= {
            "RELEVANCE_RUN_DIR": str(self.run_dir),
            PARENT_VARIABLE: str(os.getpid()),
            # Keeps /proc/PID/environ readable, by which leftovers are found.
            "SPT_NOENV": "1",
            "PYTHONUNBUFFERED": "1",
        }
        with (self.run_dir / "logs" / "supervisord.out").open("wb") as output:
            # In a session of its own, so that Ctrl-C reaches `relevance up` alone.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ops.stack.supervisor_process", str(configuration)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._supervisor.wait_until_up(SUPERVISOR_STARTS_WITHIN_S)
        except SupervisorError as error:
            said = "\n  ".join(logs.tail(self.run_dir / "logs" / "supervisord.out", TAIL_LINES))
            raise StartError(f"the supervisor did not start: {error}\n  {said}") from error

    def _wait_for_broker_elsewhere(self) -> None:
        began_s = time.monotonic()
        while reason := self._probe.failure():
            self._waiting(f"kafka: waits for {self.kafka} ({reason})")
            if time.monotonic() - began_s > 30:
                raise StartError(
                    f"no Kafka answers at {self.kafka}: {reason}\n"
                    "  check RELEVANCE_KAFKA and RELEVANCE_KAFKA_SECURITY__*, or unset them"
                )
            self._pause()
        self._say(_line("kafka", "ready", time.monotonic() - began_s, self.kafka))
        self._ensure_topics()

    def _ensure_topics(self) -> None:
        if created := ensure_topics(self.settings, self.kafka, TOPICS):
            self._say(f"{'topics':<11} made {len(created)}: {', '.join(created)}")

    def _start_stage(self, stage: list[plan.Part]) -> None:
        began_s = time.monotonic()
        for part in stage:
            self._supervisor.start(part.name)
            self._began_s[part.name] = began_s
            if part.start_within_s is None:
                self._say(f"{part.name:<11} starts on its own, the others do not wait for {part.waits_for}")
        pids: dict[str, set[int]] = {part.name: set() for part in stage}
        pending = [part for part in stage if part.start_within_s is not None]
        while pending:
            self._beat_for_broker()
            processes = self._supervisor.processes()
            now_s = time.monotonic()
            for part in list(pending):
                process, sign = processes[part.name], heartbeat.read(self.run_dir, part.name)
                watch = self._watches[part.name]
                if is_ready(process, sign, own_heartbeat=watch.own_heartbeat):
                    watch.look(process, sign, now_s)
                    pending.remove(part)
                    self._say(_line(part.name, "ready", now_s - began_s, sign.detail if sign else ""))
                    continue
                if process.pid:
                    pids[part.name].add(process.pid)
                self._check_start(part, process, len(pids[part.name]), now_s - began_s)
            if pending:
                first = pending[0]
                sign = heartbeat.read(self.run_dir, first.name)
                detail = f": {sign.detail}" if sign and sign.detail else ""
                self._waiting(f"{first.name} waits for {first.waits_for}{detail} ({now_s - began_s:.0f} s)")
                self._pause()

    def _check_start(self, part: plan.Part, process: Process, starts: int, waited_s: float) -> None:
        if process.statename == "FATAL" or starts >= STARTS_TO_GIVE_UP:
            why = f": {process.spawnerr}" if process.spawnerr else ""
            raise StartError(f"{part.name} ends again and again as it starts{why}\n{self._log_of(part.name)}")
        if part.start_within_s is not None and waited_s > part.start_within_s:
            raise StartError(
                f"{part.name} waits for {part.waits_for}, {waited_s:.0f} s so far\n{self._log_of(part.name)}"
            )

    def _log_of(self, name: str) -> str:
        path = logs.path_of(self.run_dir, name)
        lines = "".join(f"  | {line}\n" for line in logs.tail(path, TAIL_LINES)) or "  (it wrote no log)\n"
        return f"{lines}  the whole log: {path}\n  `relevance doctor` checks what it needs"

    def tick(self) -> None:
        """Look at every part once: say what died or came back, end what hangs. To be called once a second.

        Raises SupervisorError if the supervisor itself has ended or does not answer for long.
        """
        self._beat_for_broker()
        if self._process is None or self._process.poll() is not None:
            log = self.run_dir / "logs" / "supervisord.log"
            raise SupervisorError(f"the supervisor has ended, and the parts with it; its log: {log}")
        try:
            processes = self._supervisor.processes()
        except SupervisorError:
            # A machine that was suspended or swaps may be slow for a while.
            self._unanswered += 1
            if self._unanswered >= UNANSWERED_LIMIT:
                raise
            return
        self._unanswered = 0
        for part in self.parts:
            process, sign = processes[part.name], heartbeat.read(self.run_dir, part.name)
            now_s = time.monotonic()
            for finding in self._watches[part.name].look(process, sign, now_s):
                self._act(part.name, finding, now_s, sign.detail if sign else "")

    def _act(self, name: str, finding: Finding, now_s: float, detail: str) -> None:
        stale_s = self.settings.stack.stale_after_s
        if finding == Finding.DIED:
            self._died_s[name] = now_s
            self._say(f"{name:<11} died; it is started again")
        elif finding == Finding.BACK:
            died_s = self._died_s.pop(name, None)
            if died_s is None:
                self._say(_line(name, "ready", now_s - self._began_s[name], detail))
            else:
                self._say(_line(name, "ready", now_s - died_s, "again"))
        elif finding == Finding.FAILED:
            self._say(f"{name:<11} ended before it was ready; it is started again\n{self._log_of(name)}")
        elif finding == Finding.HANGS:
            self._died_s[name] = now_s
            self._say(
                f"{name:<11} gave no sign of life for over {stale_s:g} s; it is killed and started again"
            )
            self._supervisor.kill(name)
        elif finding == Finding.GIVEN_UP:
            self._say(f"{name:<11} keeps ending; it is tried again from time to time\n{self._log_of(name)}")
        elif finding == Finding.RETRY:
            self._supervisor.start(name)

    def _beat_for_broker(self) -> None:
        # The broker is a program of somebody else's, so its sign of life is that it answers.
        if self._probe.failure():
            heartbeat.path_of(self.run_dir, "broker").unlink(missing_ok=True)
            return
        kind = "elsewhere" if self.settings.kafka else self.settings.stack.broker
        pid = self._watches["broker"].pid if "broker" in self._watches else 0
        sign = heartbeat.Heartbeat("broker", pid, time.time(), "ready", f"{self.kafka} ({kind})", {})
        heartbeat.beat(self.run_dir, sign)

    def _pause(self) -> None:
        if self._stop.wait(POLL_S):
            raise StoppedError("stopped while starting")

    def _end_supervisor(self) -> None:
        """Stop the parts in reverse order, then the supervisor, all within ten seconds."""
        if self._process is None:
            return
        deadline_s = (self._stop.at_s or time.monotonic()) + plan.STOP_WITHIN_S
        with contextlib.suppress(SupervisorError):
            late = stop_parts(self._supervisor, self.parts, deadline_s=deadline_s)
            if "broker" in late:
                self._say(
                    f"{'broker':<11} has not saved everything in time and is killed: it may miss the last seconds"
                )
            self._supervisor.shutdown()
        try:
            self._process.wait(timeout=max(0.1, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            # Its parts die with it; see lifeline.
            self._process.kill()
            self._process.wait()
        self._process = None
        leftovers.end(self.run_dir, within_s=0.3)

    def _clean(self) -> None:
        endpoints.path_in(self.run_dir).unlink(missing_ok=True)
        shutil.rmtree(self.run_dir / "health", ignore_errors=True)
        self._socket.unlink(missing_ok=True)
        if self._socket.parent != self.run_dir / "supervisor" and self._socket.parent.exists():
            shutil.rmtree(self._socket.parent)


def _line(name: str, state: str, took_s: float, detail: str) -> str:
    return f"{name:<11} {state:<6} {took_s:5.1f} s   {detail}".rstrip()
