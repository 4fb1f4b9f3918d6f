"""The Faust application: its settings for an at-least-once worker, and login to the broker."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import faust

from ops.settings import KafkaSecurity, Settings
from streams.patient_fetching import PatientApp
from streams.topics import MAX_DEAD_LETTER_BYTES

FETCH_BYTES = 4 * 1024 * 1024


def create_app(settings: Settings, bootstrap: str, *, worker: int, replicas: int) -> faust.App:
    """Return the application of streams worker number `worker` (from 1, stable over restarts).

    Changelog topics are made with `replicas` replicas.

    The number makes the consumer a static member of its group: a restarted worker takes its place back without
    a rebalance, and a broker that never expires dead members does not wait for it.
    """
    datadir = settings.run_dir / "streams" / f"worker-{worker}"
    datadir.mkdir(parents=True, exist_ok=True)
    brokers = [f"kafka://{address.strip()}" for address in bootstrap.split(",")]
    return PatientApp(
        settings.streams.group,
        broker=brokers,
        broker_credentials=_credentials(settings.kafka_security),
        datadir=datadir,
        store="memory://",
        processing_guarantee="at_least_once",
        topic_partitions=settings.streams.partitions,
        topic_replication_factor=replicas,
        topic_disable_leader=True,
        web_enabled=False,
        stream_wait_empty=False,
        stream_buffer_maxsize=8192,
        broker_commit_interval=1.0,
        broker_max_poll_records=2000,
        consumer_group_instance_id=f"{settings.streams.group}-{worker}",
        consumer_max_fetch_size=FETCH_BYTES,
        consumer_auto_offset_reset="earliest",
        producer_max_request_size=MAX_DEAD_LETTER_BYTES,
        producer_linger=0.005,
        producer_acks=-1,
        producer_compression_type="gzip",
        worker_redirect_stdouts=False,
    )


def raw_topic(app: faust.App, *names: str) -> Any:
    """Return a topic (or several as one source) whose keys and values stay bytes."""
    return app.topic(*names, key_serializer="raw", value_serializer="raw")


def bytes_table(app: faust.App, name: str, settings: Settings) -> Any:
    """Return a table of bytes by bytes, backed by a changelog with as many partitions as the sources."""
    return app.Table(name, key_type=bytes, value_type=bytes, partitions=settings.streams.partitions)


def partitions_of(app: faust.App, topic: str) -> set[int]:
    """Return the partitions of a topic that this worker holds now."""
    return {tp.partition for tp in app.consumer.assignment() if tp.topic == topic}


def _credentials(security: KafkaSecurity) -> Any:
    context = _ssl_context(security.ca_file) if security.protocol.endswith("SSL") else None
    if security.protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=security.username,
            password=security.password.get_secret_value(),
            mechanism=security.mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None


def _ssl_context(ca_file: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
