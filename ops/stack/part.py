"""One part of the local stack in its own process: `python -m ops.stack.part NAME`, started by supervisord."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType, ModuleType
from typing import cast
from urllib.parse import urlsplit

import setproctitle

from ops import endpoints
from ops.settings import Settings, load
from ops.stack import apache_kafka, broker_guard, plan
from ops.stack.embedded_broker import BrokerSetupError
from ops.stack.lifeline import die_with_parent


def main(name: str) -> None:
    """Run the part until it is told to stop. Raises ValueError for a part that does not exist."""
    # A broker saves its state when asked to end, a server's part ends its server; the others lose nothing.
    asked = name in ("broker", plan.TRITON, plan.TEACHER_SERVER)
    die_with_parent(signal.SIGTERM if asked else signal.SIGKILL)
    setproctitle.setproctitle(f"relevance: {name}")
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # One line per reconnect of every client would hide what the part itself has to say.
    for noisy in (
        "kafka",
        "aiokafka",
        "faust.transport.drivers.aiokafka",
        "mode",
        "urllib3",
        "clickhouse_connect",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It warns of every pause above 0.1 s, which a busy machine has all the time.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
    settings = load()
    os.nice(plan.niceness(settings, name))
    if name == "broker":
        _become_broker(settings)
    bootstrap = endpoints.kafka_address(settings)
    if name.startswith("streams-"):
        from streams import worker

        # Faust has signal handlers of its own.
        worker.run(settings, bootstrap, worker=int(name.removeprefix("streams-")))
    elif name == "metrics":
        from ops import metrics_process

        port = urlsplit(endpoints.dashboard_url(settings)).port
        metrics_process.run(settings, bootstrap, port=port or settings.metrics.port, stop=stop_event())
    elif name in (plan.TRITON, plan.TEACHER_SERVER):
        from ops.stack import server_part

        server_part.run(name, settings, stop=stop_event())
    elif name == "features":
        _without_torch()
        from ops import features_process

        features_process.run(settings, bootstrap, stop=stop_event())
    elif name == "sampler":
        from ops import sampling_process

        sampling_process.run(settings, bootstrap, stop=stop_event())
    elif name.startswith("teacher-worker-"):
        from ops import teacher_process

        number = int(name.removeprefix("teacher-worker-"))
        teacher_process.run(settings, bootstrap, number=number, stop=stop_event())
    elif name == "trainer":
        from ops import trainer_process

        trainer_process.run(settings, bootstrap, stop=stop_event())
    elif name == "loop":
        from ops.loop import process as loop_process

        loop_process.run(settings, bootstrap, stop=stop_event())
    elif name == "shop":
        _without_torch()
        from ops.shop import process

        process.run(settings, bootstrap, stop=stop_event())
    else:
        raise ValueError(
            "expected broker, streams-N, metrics, triton, teacher-server, features, sampler, teacher-worker-N,"
            f" trainer, loop or shop, got {name!r}"
        )


def _without_torch() -> None:
    """Spare a part that uses Feast 1.4 s and 180 MB: Feast imports torch where it is installed, and needs it for none
    of the types here."""
    # To the import system None means that there is no such module.
    sys.modules.setdefault("torch", cast(ModuleType, None))


def stop_event() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def handle(signum: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


def _become_broker(settings: Settings) -> None:
    address = endpoints.kafka_address(settings)
    port = int(address.rpartition(":")[2])
    data_dir = data_dir_of_broker(settings)
    data_dir.mkdir(parents=True, exist_ok=True)
    try:
        if settings.stack.broker == "embedded":
            sys.exit(broker_guard.serve(port=port, data_dir=data_dir, stop=stop_event()))
        command = apache_kafka.prepare(settings, port=port, data_dir=data_dir)
    except BrokerSetupError as error:
        raise SystemExit(str(error)) from error
    os.execv(command[0], command)


def data_dir_of_broker(settings: Settings) -> Path:
    """Return the folder of the broker's state; the two brokers do not read each other's."""
    return settings.run_dir.absolute() / ("apache-kafka" if settings.stack.broker == "apache" else "broker")


if __name__ == "__main__":
    main(sys.argv[1])
