from __future__ import annotations

import time

from ops.dashboard.lag import LagWatch
from ops.settings import Settings


def test_without_a_broker_the_lag_is_unknown_and_says_why() -> None:
    watch = LagWatch(Settings.model_validate({}), "127.0.0.1:1", every_s=0.05)
    watch.start()
    deadline = time.monotonic() + 10
    while "127.0.0.1:1" not in watch.latest()[0].error and time.monotonic() < deadline:
        time.sleep(0.02)
    watch.stop()
    assert [group.records for group in watch.latest()] == [None] * 3
    assert "gave no answer" in watch.latest()[0].error
