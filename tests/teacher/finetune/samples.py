"""A causal LM small enough to train in seconds, with a tokenizer and chat template of its own, and examples."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from teacher import policy
from teacher.examples import ChainLine, Example
from teacher.finetune.tokens import told
from teacher.policy import Verdict
from teacher.prompt import Mode, system_message

TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
COLOURS = ("red", "blue", "black", "green")
KINDS = ("kettle", "mug", "lamp", "chair")


def examples(count: int, *, seed: int = 0) -> list[Example]:
    """Return examples whose grade follows from colour and kind."""
    rng = random.Random(f"examples {seed}")
    made = []
    for number in range(count):
        asked, given = [(rng.choice(COLOURS), rng.choice(KINDS)) for _ in range(2)]
        verdicts = [Verdict.MATCH if a == b else Verdict.MISMATCH for a, b in zip(asked, given, strict=True)]
        colour, kind = verdicts
        chain = (
            ChainLine(subtask="category", query_words=asked[1], item_words=given[1], verdict=kind),
            ChainLine(subtask="colour", query_words=asked[0], item_words=given[0], verdict=colour),
        )
        grade = "I" if kind is Verdict.MISMATCH else "E" if colour is Verdict.MATCH else "S"
        made.append(
            Example(
                query=f"{asked[0]} {asked[1]}",
                item_id=f"item-{number}",
                item_text=f"Nova {given[1]}\ncolour: {given[0]}",
                grade=grade,
                source="shop 1",
                chain=chain,
            )
        )
    return made


def tokenizer() -> Any:
    """Return a byte-level BPE tokenizer that was trained on the prompts and answers above."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    texts = [system_message(policy.default(), mode) for mode in Mode]
    texts += [f"{each.query}\n{each.item_text}\n{told(each, Mode.CHAIN)}" for each in examples(20)]
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        special_tokens=["<|start|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bare.train_from_iterator(texts, trainer)
    made: Any = PreTrainedTokenizerFast
    return made(tokenizer_object=bare, eos_token="<|end|>", pad_token="<|end|>", chat_template=TEMPLATE)


def model(vocabulary: int, *, seed: int = 0, tied: bool = True) -> Any:
    """Return a random model in float32, in evaluation mode."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=tied,
        initializer_range=0.1,
    )
    made: Any = LlamaForCausalLM
    return made(config).eval()


def save_base(folder: Path) -> Path:
    """Write model and tokenizer as a base for fine-tuning; return the folder."""
    words = tokenizer()
    model(len(words)).to(torch.bfloat16).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
