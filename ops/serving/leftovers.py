"""What a Triton that nobody watches any more has left: processes, shared memory, the address."""

from __future__ import annotations

from pathlib import Path

from ops.servers.server_process import STOPS_WITHIN_S, end_leftover
from ops.serving import address, stubs

NAME = "tritonserver"
#: Stands in the command lines of the server and of its stubs.
WORD = "triton"


def end_leftovers(run_dir: Path, *, within_s: float = STOPS_WITHIN_S) -> list[int]:
    """End the Triton of a run directory, remove what it left, and return the pids that there were."""
    address.remove(run_dir)
    ended = end_leftover(address.folder_in(run_dir), NAME, word=WORD, within_s=within_s)
    stubs.remove_regions(stubs.region_prefix(run_dir))
    return ended
