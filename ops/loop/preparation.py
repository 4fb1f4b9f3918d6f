"""The first students made in a process of their own, `python -m ops.loop.preparation`: Ctrl-C ends it at once, the
next one goes on from there, and its torch is gone when the stack starts."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping

from ops.loop import cold_start
from ops.loop.cold_start import ColdStart, ColdStartError, cache_folder
from ops.servers.steps import locked, run_step
from ops.settings import Settings, SettingsError, load
from ops.shop.real_catalogue import CatalogueError
from students.default_encoder import EncoderError
from teacher.policy import PolicyError

Say = Callable[[str], None]


def prepare(
    settings: Settings, environment: Mapping[str, str], *, say: Say, stop: threading.Event
) -> ColdStart:
    """Make the first students if they are missing, lay them into the run directory, and return them.

    `environment` holds what the settings were loaded from. Raises PreparationError, StoppedError if `stop` is set
    meanwhile, ColdStartError.
    """
    cache = cache_folder(environment)
    with locked(cache / "lock", say=say, what="the first students", stop=stop) as lock:
        run_step(
            [sys.executable, "-m", "ops.loop.preparation"],
            environment=environment,
            what="the first students",
            mend="mend what it says and run the same command again, it goes on from there",
            stop=stop,
            lock=lock,
        )
    return cold_start.of_run(settings.run_dir, cache)


def main() -> None:
    """Make the first students of the settings in the environment. Exits with a message if they cannot be made."""
    # torch takes seconds to import, which the caller of `prepare` need not wait for.
    from students.export.fidelity import FidelityError
    from students.training.checkpoint import CheckpointError
    from students.training.loop import TrainingError
    from students.training.run_folder import RunFolderError

    expected = (
        *(CatalogueError, CheckpointError, ColdStartError, EncoderError, FidelityError, OSError, PolicyError),
        *(RunFolderError, SettingsError, TrainingError),
    )
    try:
        settings = load()
        made = cold_start.prepare(settings, cache_folder(), say=lambda text: print(text, flush=True))
        cold_start.install(made, settings)
    except expected as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
