"""What a vLLM that nobody watches any more has left: processes and the address."""

from __future__ import annotations

from pathlib import Path

from ops.servers.server_process import STOPS_WITHIN_S, end_leftover
from teacher.serving import address

#: Stands in the command lines of all its processes too.
NAME = "vllm"


def end_leftovers(run_dir: Path, *, within_s: float = STOPS_WITHIN_S) -> list[int]:
    """End the vLLM of a run directory, forget its address, and return the pids that there were."""
    address.remove(run_dir)
    return end_leftover(address.folder_in(run_dir), NAME, word=NAME, within_s=within_s)
