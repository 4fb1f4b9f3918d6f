"""One update's learning: from the champion's weights, on a lesson, then averaged with the champion.

Averaging keeps what the champion knows where the lesson says nothing of it (Wortsman et al. 2022, arXiv 2109.01903).
Equal arguments give equal weights on one machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch

from ops.settings import Students, Trainer
from students.examples import TrainingExample
from students.saved import LoadedStudent
from students.training.loop import Trained, train

_LARGE_PRIME = 1_000_003
#: So often is somebody listening asked whether to go on.
SAY_EVERY_S = 1.0


def update_settings(students: Students, trainer: Trainer, *, update: int) -> Students:
    """Return how an update is trained: as students are, with the trainer's own epochs, rates and seed."""
    return students.model_copy(
        update={
            "epochs": trainer.epochs,
            "learning_rate": trainer.learning_rate,
            "head_learning_rate": trainer.head_learning_rate,
            "seed": trainer.seed * _LARGE_PRIME + update,
            "log_every_s": SAY_EVERY_S,
        }
    )


def learn(
    student: LoadedStudent,
    lesson: Sequence[TrainingExample],
    *,
    settings: Students,
    averaging: float,
    say: Callable[[str], None],
) -> Trained:
    """Turn a champion, in place, into a challenger: averaging * trained + (1 - averaging) * champion.

    `say` is told of progress about once a second; what it raises ends the training. Raises TrainingError.
    """
    before = {name: weight.detach().clone() for name, weight in student.model.named_parameters()}
    trained = train(student, lesson, settings=settings, say=say)
    with torch.no_grad():
        for name, weight in student.model.named_parameters():
            weight.copy_(torch.lerp(before[name].to(weight.device), weight, averaging))
    student.model.eval()
    return trained


def weights_hash(student: LoadedStudent) -> str:
    """Return what names the weights, bit by bit: 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for name, weight in sorted(student.model.named_parameters()):
        digest.update(name.encode() + weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
