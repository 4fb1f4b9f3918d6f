"""Connections to the broker with kafka-python: configuration from settings, topics made where missing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError

from ops.settings import Settings
from streams.topics import MAX_DEAD_LETTER_BYTES, TopicSpec

#: The embedded broker answers a fetch with its whole backlog whatever was asked for.
MAX_FETCH_BYTES = 1_000_000_000
MOST_REPLICAS = 3
#: The local broker keeps all records in memory: none for longer than this, but for dead letters.
LOCAL_RETENTION_S = 30 * 60


def connection(settings: Settings, bootstrap: str) -> dict[str, Any]:
    """Return the keyword arguments that every kafka-python client shares."""
    security = settings.kafka_security
    config: dict[str, Any] = {
        "bootstrap_servers": bootstrap.split(","),
        "security_protocol": security.protocol,
    }
    if security.protocol.startswith("SASL"):
        config |= {
            "sasl_mechanism": security.mechanism,
            "sasl_plain_username": security.username,
            "sasl_plain_password": security.password.get_secret_value(),
        }
    if security.ca_file:
        config["ssl_cafile"] = str(security.ca_file)
    return config


def producer(settings: Settings, bootstrap: str, **options: Any) -> KafkaProducer:
    """Return a producer that waits for all replicas and never duplicates on its own retries."""
    defaults = {
        "acks": "all",
        "enable_idempotence": True,
        "compression_type": "gzip",
        "linger_ms": 20,
        "max_request_size": MAX_DEAD_LETTER_BYTES,
    }
    return KafkaProducer(**connection(settings, bootstrap), **(defaults | options))


def consumer(settings: Settings, bootstrap: str, *topics: str, **options: Any) -> KafkaConsumer:
    """Return a consumer of raw bytes that commits only when told to."""
    defaults = {
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "receive_message_max_bytes": MAX_FETCH_BYTES,
    }
    return KafkaConsumer(*topics, **connection(settings, bootstrap), **(defaults | options))


def replication_factor(admin: KafkaAdminClient) -> int:
    """Return how many brokers shall hold a new topic: three, or as many as there are."""
    admin.list_topics()
    # The public describe_cluster fails (KeyError) on brokers that answer it in its first version.
    return min(MOST_REPLICAS, len(admin._manager.cluster.brokers()))


def ensure_topics(settings: Settings, bootstrap: str, specs: Iterable[TopicSpec]) -> list[str]:
    """Create the topics that do not exist yet and return their names."""
    admin = KafkaAdminClient(**connection(settings, bootstrap))
    created = []
    try:
        existing = set(admin.list_topics())
        replicas = replication_factor(admin)
        for spec in specs:
            if spec.name in existing:
                continue
            topic = NewTopic(
                spec.name,
                num_partitions=spec.partitions or settings.streams.partitions,
                replication_factor=replicas,
                topic_configs=spec.config(longest_s=None if settings.kafka else LOCAL_RETENTION_S),
            )
            try:
                admin.create_topics([topic])
                created.append(spec.name)
            except TopicAlreadyExistsError:
                continue
    finally:
        admin.close()
    return created


def json_bytes(value: object) -> bytes:
    """Encode a plain value as UTF-8 JSON, as UBI clients send it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
