"""How many records a consumer group has not committed yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient, OffsetSpec


def records_behind(
    *,
    earliest: Mapping[tuple[str, int], int],
    latest: Mapping[tuple[str, int], int],
    committed: Mapping[tuple[str, int], int],
) -> int:
    """Sum end less committed offset over partitions.

    A partition without a commit, or with one that retention has passed, counts from its first record.

    >>> records_behind(earliest={("t", 0): 5}, latest={("t", 0): 9}, committed={("t", 0): 2})
    4
    """
    return sum(
        max(0, end - max(committed.get(partition, -1), earliest[partition]))
        for partition, end in latest.items()
    )


def group_lag(admin: KafkaAdminClient, group: str, topics: Sequence[str]) -> int | None:
    """Return how far a group is behind its topics, None if there is none of them. Raises KafkaError."""
    described = {topic["name"]: topic for topic in admin.describe_topics(list(topics))}
    partitions = [
        TopicPartition(topic, partition["partition_index"])
        for topic in topics
        for partition in described.get(topic, {}).get("partitions", ())
    ]
    if not partitions:
        return None
    latest = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
    earliest = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
    committed = admin.list_group_offsets({group: partitions}).get(group, {})
    return records_behind(
        earliest={tuple(partition): found.offset for partition, found in earliest.items()},
        latest={tuple(partition): found.offset for partition, found in latest.items()},
        committed={tuple(partition): found.offset for partition, found in committed.items()},
    )
