"""A trained student as a folder: what it is, its weights, its tokenizer. Loading it needs no other folder.

student.json        what it is: paradigm, scale, limits, size
config.json         the encoder's form, as Hugging Face's library writes it
tokenizer.json      the fast tokenizer
model.safetensors   all weights, float32
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import safetensors
import safetensors.torch
from torch import Tensor

from ops.files import write_atomically
from students.default_encoder import EncoderError, default_encoder
from students.encoder import ATTENTION, Encoder, blank_encoder, load_encoder, load_tokenizer
from students.grades import GradeScale
from students.interaction import InteractionStudent
from students.representation import RepresentationStudent
from students.tokenisation import Limits, StudentTokeniser

DESCRIPTION = "student.json"
WEIGHTS = "model.safetensors"

Student = InteractionStudent | RepresentationStudent
Paradigm = Literal["interaction", "representation"]


class StudentFolderError(ValueError):
    """A folder holds no student that can be loaded. The message says what was expected."""


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a student is. `dimensions` and `shared_towers` are the representation student's."""

    paradigm: Paradigm
    scale: GradeScale
    limits: Limits
    dimensions: int = 0
    shared_towers: bool = True


@dataclass(frozen=True, slots=True)
class LoadedStudent:
    """A student with what its texts are read by."""

    description: Description
    model: Student
    tokeniser: StudentTokeniser


def new_student(
    description: Description,
    *,
    encoder: Path | None = None,
    layers: int | None = None,
    attention: str = ATTENTION,
) -> LoadedStudent:
    """Return an untrained student on the weights of a Hugging Face folder (None: the default encoder's).

    `layers` keeps the lowest n. The heads are drawn from torch's generator. Raises EncoderError.
    """
    folder = encoder or default_encoder()
    body = load_encoder(folder, layers=layers, attention=attention)
    return _built(description, body, StudentTokeniser(load_tokenizer(folder), description.limits))


def save(student: LoadedStudent, folder: Path) -> None:
    """Write a student; its description comes last, so a folder that has it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    body = encoder_of(student.model).body
    body.config.to_json_file(folder / "config.json", use_diff=False)
    write_atomically(folder / "tokenizer.json", student.tokeniser.tokenizer.to_str(pretty=True).encode())
    write_atomically(folder / WEIGHTS, safetensors.torch.save(_weights(student.model)))
    write_atomically(
        folder / DESCRIPTION, msgspec.json.format(msgspec.json.encode(student.description)) + b"\n"
    )


def load(folder: Path, *, attention: str = ATTENTION) -> LoadedStudent:
    """Read a student, ready to score (evaluation mode). Raises StudentFolderError for a folder without one."""
    try:
        description = msgspec.json.decode((folder / DESCRIPTION).read_bytes(), type=Description)
        tokeniser = StudentTokeniser(load_tokenizer(folder), description.limits)
        student = _built(description, blank_encoder(folder, attention=attention), tokeniser)
        weights = safetensors.torch.load_file(folder / WEIGHTS)
        if description.paradigm == "representation" and description.shared_towers:
            weights |= {
                name.replace("query_tower.", "item_tower.", 1): value
                for name, value in weights.items()
                if name.startswith("query_tower.")
            }
        student.model.load_state_dict(weights)
    except (OSError, msgspec.DecodeError, safetensors.SafetensorError, RuntimeError, ValueError) as error:
        raise StudentFolderError(
            f"{folder}: expected a student that `relevance students train` made: {error}"
        ) from error
    student.model.eval()
    return student


def encoder_of(model: Student) -> Encoder:
    """Return a student's encoder, the query tower's of two."""
    return model.encoder if isinstance(model, InteractionStudent) else model.query_tower.encoder


def encoders_of(model: Student) -> list[Encoder]:
    """Return the different encoders of a student."""
    if isinstance(model, InteractionStudent):
        return [model.encoder]
    towers = [model.query_tower] if model.shared else [model.query_tower, model.item_tower]
    return [tower.encoder for tower in towers]


def _built(description: Description, body: Encoder, tokeniser: StudentTokeniser) -> LoadedStudent:
    if description.limits.input > body.max_tokens:
        raise EncoderError(
            f"expected an input limit of at most {body.max_tokens} tokens, which the encoder reads, "
            f"got {description.limits.input}"
        )
    model: Student
    if description.paradigm == "interaction":
        model = InteractionStudent(body, scale=description.scale)
    else:
        model = RepresentationStudent(
            body,
            scale=description.scale,
            dimensions=description.dimensions,
            shared=description.shared_towers,
        )
    return LoadedStudent(description, model, tokeniser)


def _weights(model: Student) -> dict[str, Tensor]:
    """Return the weights by name, each once: shared towers are kept as the query's."""
    state: dict[str, Any] = model.state_dict()
    if isinstance(model, RepresentationStudent) and model.shared:
        state = {name: value for name, value in state.items() if not name.startswith("item_tower.")}
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}
