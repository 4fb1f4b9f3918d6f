"""Any BERT-like encoder of Hugging Face's library as a student's body, whole or some of its layers.

Scaled dot-product attention is several times faster than the plain one to train, and exports to ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as FastTokenizer
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.utils import logging as transformers_logging

from students.default_encoder import EncoderError, default_encoder

ATTENTION = "sdpa"


class Encoder(nn.Module):
    """Token ids to hidden states, with a segment embedding of its own where the model has none.

    `hidden_size` is H, `max_tokens` the longest input.
    """

    def __init__(self, body: Any) -> None:
        """Take a model of `transformers` whose output has `last_hidden_state`."""
        super().__init__()
        if getattr(body, "pooler", None) is not None:
            body.pooler = None
        self.body = body
        self.hidden_size: int = body.config.hidden_size
        self.max_tokens: int = body.config.max_position_embeddings
        if body.config.model_type in ("roberta", "xlm-roberta", "camembert"):
            # Their positions begin after the padding id.
            self.max_tokens -= body.config.pad_token_id + 1
        self.has_segments = getattr(body.config, "type_vocab_size", 0) >= 2
        if not self.has_segments:
            self.segment = nn.Embedding(2, self.hidden_size)
            nn.init.zeros_(self.segment.weight)

    @property
    def word_embeddings(self) -> nn.Module:
        """Return the table of token embeddings."""
        found: nn.Module = self.body.get_input_embeddings()
        return found

    @property
    def layers(self) -> nn.ModuleList:
        """Return the layers, lowest first."""
        return layers_of(self.body)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Return hidden states [B, L, H] of ids, mask and segments (0 or 1; None: all 0), each [B, L] int64."""
        if token_type_ids is None:
            output = self.body(input_ids=input_ids, attention_mask=attention_mask)
        elif self.has_segments:
            output = self.body(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            )
        else:
            embedded = self.word_embeddings(input_ids) + self.segment(token_type_ids)
            output = self.body(inputs_embeds=embedded, attention_mask=attention_mask)
        hidden: Tensor = output.last_hidden_state
        return hidden

    def freeze(self, *, embeddings: bool, layers: int) -> None:
        """Keep the token embeddings and the lowest `layers` as they are. Raises EncoderError for too many."""
        if layers > len(self.layers):
            raise EncoderError(f"expected at most {len(self.layers)} frozen layers, got {layers}")
        self.word_embeddings.requires_grad_(not embeddings)
        for layer in self.layers[:layers]:
            layer.requires_grad_(False)


def layers_of(body: Any) -> nn.ModuleList:
    """Return a model's list of layers. Raises EncoderError if it cannot be told."""
    wanted = body.config.num_hidden_layers
    found = [
        part
        for part in body.modules()
        if isinstance(part, nn.ModuleList) and len(part) == wanted and wanted > 0
    ]
    if not found:
        raise EncoderError(f"expected an encoder with a list of {wanted} layers, got a {type(body).__name__}")
    return found[0]


def load_encoder(
    folder: Path | None = None, *, layers: int | Sequence[int] | None = None, attention: str = ATTENTION
) -> Encoder:
    """Return the encoder of a Hugging Face folder (None: the default one) in float32.

    `layers` keeps the lowest n, or those of the given places in that order; None keeps all. `attention` is what
    `transformers` calls the implementation. Raises EncoderError for a folder without a model, layers it lacks.
    """
    folder = folder or default_encoder()
    if not (folder / "config.json").exists():
        raise EncoderError(f"{folder}: expected a Hugging Face encoder's folder with config.json, found none")
    # Its bar would mingle with a command's lines.
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    body: Any = AutoModel.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention, local_files_only=True
    )
    if layers is not None:
        keep_layers(body, list(range(layers)) if isinstance(layers, int) else list(layers))
    return Encoder(body)


def keep_layers(body: Any, places: Sequence[int]) -> None:
    """Keep only the layers at `places`. Raises EncoderError for none, or for one that is not there."""
    held = layers_of(body)
    if not places or min(places) < 0 or max(places) >= len(held):
        raise EncoderError(f"expected layers among 0 to {len(held) - 1}, got {list(places)}")
    kept = [held[place] for place in places]
    del held[:]
    held.extend(kept)
    body.config.num_hidden_layers = len(kept)
    # Some models say for each layer what kind it is.
    if getattr(body.config, "layer_types", None):
        body.config.layer_types = [body.config.layer_types[place] for place in places]


def blank_encoder(config_folder: Path, *, attention: str = ATTENTION) -> Encoder:
    """Return an encoder of the form that a folder's config.json gives, its weights still to be loaded."""
    config = AutoConfig.from_pretrained(config_folder, local_files_only=True)
    model_class: Any = AutoModel
    return Encoder(model_class.from_config(config, attn_implementation=attention))


def load_tokenizer(folder: Path | None = None) -> FastTokenizer:
    """Return the tokenizer of a Hugging Face folder (None: the default encoder's), neither cutting nor padding.

    Raises EncoderError for a folder without tokenizer.json.
    """
    path = (folder or default_encoder()) / "tokenizer.json"
    if not path.exists():
        raise EncoderError(f"{path}: expected the file of a fast tokenizer, found none")
    tokenizer: FastTokenizer = FastTokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
