"""The online store made anew from the offline store, after it was lost or damaged."""

from __future__ import annotations

import time

from feature_store import offline
from feature_store.push_log import PushLog
from feature_store.store import apply, online_path
from feature_store.writing import FeatureWriter, now_us
from ops.settings import Settings


def rebuild_online(settings: Settings) -> dict[str, int]:
    """Make the online store anew and return the rows written, by view.

    A sqlite file is put aside (`online.db.damaged-TIME`); readers and pushers notice the new one and need not
    stop. Redis is filled up: a key that holds something newer keeps it. Raises OnlineStoreError, OSError.
    """
    log, begun_us = PushLog(settings), now_us()
    if log.path.parent.exists():
        log.begin_rebuild(begun_us)
    if not settings.features.redis.get_secret_value():
        path = online_path(settings)
        aside = f"damaged-{time.time_ns()}"
        for suffix in ("", "-wal", "-shm"):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(f"{part}.{aside}")
    apply(settings)
    writer = FeatureWriter(settings)
    try:
        written = {}
        for name, view in writer.definitions.views.items():
            written[name] = 0
            for rows in offline.latest(view):
                written[name] += writer.restore(name, rows)
        log.end_rebuild(begun_us, now_us())
        return written
    finally:
        writer.close()
