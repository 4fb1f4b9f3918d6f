"""Memory of the server and its models by the number of versions served, and how long one more takes to publish."""

from __future__ import annotations

import argparse
import time

from ops.bench.machine import announce
from ops.bench.serving_setup import arguments_of, running
from ops.servers.processes import resident_mb
from ops.serving import stubs
from students.publishing.ledger import KINDS


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments_of(parser)
    parser.add_argument("--versions", type=int, default=4, help="of each kind")
    arguments = parser.parse_args()
    announce("ops.bench.serving_memory")
    with running(arguments) as bench:
        pid = bench.ready().pid
        print(f"no version                    {resident_mb(pid):8.0f} MB")
        for number in range(arguments.versions):
            for kind in KINDS:
                folder = bench.export(kind, seed=number)
                size_mb = (
                    sum(path.stat().st_size for path in folder.glob(f"*.{arguments.precision}.onnx")) / 1e6
                )
                began_s = time.monotonic()
                version = bench.publish(folder)
                took_s = time.monotonic() - began_s
                processes = len(stubs.running(pid))
                print(
                    f"+ {kind}-{version:<12} {resident_mb(pid):8.0f} MB in {processes + 1} processes;"
                    f" published in {took_s:.1f} s, graphs {size_mb:.0f} MB"
                )


if __name__ == "__main__":
    main()
