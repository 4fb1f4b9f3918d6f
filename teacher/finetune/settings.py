"""What a fine-tuning run is made from. The defaults are those of the small local teacher on two CPU cores.

`SEVEN_B` is for a 7B model on GPUs, under `accelerate launch` (FSDP) or on one of them; it was not run here.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class FinetuneSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run: with equal settings, examples and base it gives the same adapter on the same kind of machine.

    `lora_rank` 0 trains all weights. A pack is `pairs_per_pack` pairs behind one copy of their shared prompt
    beginning, through which no gradient flows if `frozen_prefix`; a step takes `packs_per_step` packs on each device.
    `attention` is transformers' implementation: on a CPU the plain one takes a pack's mask at nearly twice the speed
    (`python -m ops.bench.teacher_packing`), on GPUs `sdpa` is the one to use.
    """

    mode: Literal["chain", "score"] = "chain"
    lora_rank: int = 16
    lora_alpha: int = 32
    learning_rate: float = 1e-3
    warmup_share: float = 0.04
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    epochs: float = 1.0
    pairs_per_pack: int = 4
    packs_per_step: int = 5
    max_pair_tokens: int = 320
    frozen_prefix: bool = True
    attention: Literal["eager", "sdpa"] = "eager"
    seed: int = 1
    device: Literal["cpu", "cuda"] = "cpu"
    gradient_checkpointing: bool = False
    save_steps: int = 50
    log_steps: int = 5


SEVEN_B = FinetuneSettings(
    lora_rank=32,
    lora_alpha=64,
    learning_rate=2e-4,
    pairs_per_pack=8,
    packs_per_step=8,
    device="cuda",
    frozen_prefix=False,
    attention="sdpa",
    gradient_checkpointing=True,
    save_steps=200,
    log_steps=10,
)
