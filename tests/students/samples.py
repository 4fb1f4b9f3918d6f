"""A small encoder with random weights, its tokenizer, and examples: what the students' tests share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from streams.item_text import content_hash
from streams.records import Judgement, SubtaskVerdict
from students.examples import Evidence, TrainingExample

WORDS = [
    "red",
    "blue",
    "kettle",
    "tea",
    "pot",
    "nova",
    "brand",
    "steel",
    "litre",
    "mug",
    "case",
    "phone",
    "cover",
    "size",
]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789:./-"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *LETTERS, *("##" + letter for letter in LETTERS)]


def small_tokenizer() -> Tokenizer:
    """Return a WordPiece tokenizer like BERT's: known words whole, others letter by letter."""
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(VOCABULARY))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    return tokenizer


def write_small_encoder(folder: Path, *, layers: int = 2, hidden: int = 32, seed: int = 5) -> Path:
    """Write a random BERT with its tokenizer as Hugging Face's library would, and return the folder."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden,
        max_position_embeddings=128,
    )
    model_class: Any = BertModel
    model_class(config).save_pretrained(folder)
    small_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def small_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small encoder."""
    return write_small_encoder(tmp_path_factory.mktemp("encoder"))


def judgement(
    query: str = "red kettle",
    item_text: str = "nova tea pot\nbrand: nova",
    *,
    grades: dict[str, float] | None = None,
    verdicts: Sequence[SubtaskVerdict] | None = None,
    item_id: str = "i1",
) -> Judgement:
    """Return a judgement whose chain found the kettle a tea pot."""
    grades = grades or {"E": 0.1, "S": 0.6, "C": 0.2, "I": 0.1}
    if verdicts is None:
        verdicts = [verdict("mismatch", (4, 10), (5, 12))]
    return Judgement(
        query=query,
        item_id=item_id,
        item_text=item_text,
        content_hash=content_hash(item_text),
        teacher_id="teacher",
        prompt_hash="prompt",
        grades=grades,
        grade=max(grades, key=grades.__getitem__),
        relevance_score=0.2,
        verdicts=list(verdicts),
        unlocated=0,
        chain_of_thought="kettle | category | tea pot | mismatch\ngrade: S",
        latency_ms=1.0,
        prompt_tokens=1,
        cached_tokens=0,
        completion_tokens=1,
        judged_ms=1,
    )


def verdict(
    found: str, query_span: tuple[int, int] | None, item_span: tuple[int, int] | None
) -> SubtaskVerdict:
    """Return a verdict on the category; the words do not matter to students."""
    return SubtaskVerdict(
        subtask="category",
        verdict=found,
        query_words="-",
        item_words="-",
        query_span=query_span,
        item_span=item_span,
    )


def examples(queries: int = 8, per_query: int = 3) -> list[TrainingExample]:
    """Return examples of a rule that can be learned: an item is exact if it names the colour that is asked."""
    found = []
    for number in range(queries):
        asked = ("red", "blue")[number % 2]
        thing = ("kettle", "mug", "phone", "case")[number // 2 % 4]
        for place in range(per_query):
            colour = ("red", "blue")[(number + place) % 2]
            exact = colour == asked
            query, item = (
                f"{asked} {thing} {'x' * (number // 8)}".strip(),
                f"{colour} {thing} nova " + "steel " * place,
            )
            found.append(
                TrainingExample(
                    query=query,
                    item_id=f"{number}-{place}",
                    item_text=item.strip(),
                    grade="E" if exact else "I",
                    distribution=(0.9, 0.05, 0.03, 0.02) if exact else (0.05, 0.1, 0.05, 0.8),
                    evidence=(
                        Evidence(
                            side="query", begin=0, end=len(asked), verdict="match" if exact else "mismatch"
                        ),
                        Evidence(
                            side="item", begin=0, end=len(colour), verdict="match" if exact else "mismatch"
                        ),
                    ),
                )
            )
    return found


@dataclass(frozen=True, slots=True)
class Graded:
    """A pair with its known grade."""

    query: str
    item_text: str
    grade: str
    traffic_class: str
