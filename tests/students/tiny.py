"""Settings of the smallest training, and a run of it as a process: `python -m tests.students.tiny OUT ENCODER`."""

from __future__ import annotations

import sys
from pathlib import Path

from ops.settings import StudentLosses
from ops.settings import Students as Settings
from students.grades import ESCI
from students.training.parallel import joined
from students.training.run import described, run
from tests.students.samples import examples


def tiny_settings(encoder: Path, **changed: object) -> Settings:
    """Return settings for a small encoder; `changed` by name."""
    given: dict[str, object] = {
        "encoder": encoder,
        "interaction_layers": 2,
        "representation_layers": 2,
        "precision": "fp32",
        "epochs": 4,
        "batch_pairs": 4,
        "learning_rate": 1e-3,
        "head_learning_rate": 3e-3,
        "frozen_embeddings": False,
        "save_every_s": 0,
        "log_every_s": 0,
    }
    return Settings.model_validate(given | changed)


def all_losses() -> StudentLosses:
    """Return every loss at work."""
    return StudentLosses(margin_mse=0.5)


if __name__ == "__main__":
    out, encoder, paradigm = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    settings = tiny_settings(encoder, losses=all_losses())
    with joined("cpu") as processes:
        run(
            out,
            examples(),
            description=described(
                "interaction" if paradigm == "interaction" else "representation", ESCI, settings
            ),
            settings=settings,
            processes=processes,
            say=lambda text: print(text, flush=True),
        )
