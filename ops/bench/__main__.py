"""`python -m ops.bench`: every benchmark with its defaults, one after the other."""

from __future__ import annotations

import subprocess
import sys

MODULES = (
    "ops.bench.throughput",
    "ops.bench.state_memory",
    "ops.bench.sampling_speed",
    "ops.bench.clickhouse_sink",
    "ops.bench.shop_truth",
    "ops.bench.aa_tests",
    "ops.bench.teacher_throughput",
    "ops.bench.feature_store",
    "ops.bench.serving_latency",
    "ops.bench.serving_switches",
    "ops.bench.serving_memory",
    "ops.bench.shop_features",
    "ops.bench.engagement_correction",
    "ops.bench.student_speed",
    "ops.bench.forgetting",
)


def main() -> int:
    """Run each in a process of its own and return 1 if any failed."""
    failed = []
    for module in MODULES:
        print(f"== python -m {module}", flush=True)
        if subprocess.run([sys.executable, "-m", module], check=False).returncode:
            failed.append(module)
    if failed:
        print("failed:", ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
