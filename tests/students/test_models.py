"""The two students: shapes, what padding may not change, saving, other encoders, texts at the edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import (
    DistilBertConfig,
    DistilBertModel,
    ModernBertConfig,
    ModernBertModel,
    RobertaConfig,
    RobertaModel,
)

from students.default_encoder import EncoderError, default_encoder
from students.encoder import load_encoder, load_tokenizer
from students.evaluation.scoring import score_pairs
from students.grades import ESCI, relevance_score
from students.interaction import InteractionStudent
from students.representation import RepresentationStudent
from students.saved import (
    DESCRIPTION,
    Description,
    LoadedStudent,
    Paradigm,
    StudentFolderError,
    encoders_of,
    load,
    new_student,
    save,
)
from students.tags import TAGS
from students.tokenisation import Limits, TextError
from tests.students.samples import VOCABULARY, small_tokenizer

QUERIES = ["red kettle", "blue mug for men", ""]
ITEMS = ["nova tea pot red\nbrand: nova", "mug", "steel " * 60]
LIMITS = Limits(query=8, input=32)
SIZES: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
}


def student(encoder: Path, paradigm: Paradigm, **changed: Any) -> LoadedStudent:
    torch.manual_seed(1)
    made = new_student(Description(paradigm=paradigm, scale=ESCI, limits=LIMITS, **changed), encoder=encoder)
    made.model.eval()
    return made


def tensors(made: LoadedStudent, queries: list[str], items: list[str]) -> tuple[torch.Tensor, ...]:
    padded = made.tokeniser.padded(made.tokeniser.pairs(queries, items))
    return tuple(map(torch.from_numpy, (padded.input_ids, padded.attention_mask, padded.token_type_ids)))


@torch.inference_mode()
def test_interaction_shapes_and_padding(small_encoder: Path) -> None:
    made = student(small_encoder, "interaction")
    assert isinstance(made.model, InteractionStudent)
    given = tensors(made, QUERIES, ITEMS)
    grades, tags = made.model(*given)
    assert grades.shape == (3, 4)
    assert tags.shape == (*given[0].shape, len(TAGS))
    assert grades.dtype == tags.dtype == torch.float32
    alone, alone_tags = made.model(*tensors(made, QUERIES[1:2], ITEMS[1:2]))
    torch.testing.assert_close(alone[0], grades[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone_tags[0], tags[1, : alone_tags.shape[1]], rtol=1e-4, atol=1e-5)
    score = made.model.score(grades)
    assert ((score >= 0) & (score <= 1)).all()


@torch.inference_mode()
@pytest.mark.parametrize(("dimensions", "length"), [(0, 32), (16, 16)])
def test_representation_shapes_and_padding(small_encoder: Path, dimensions: int, length: int) -> None:
    made = student(small_encoder, "representation", dimensions=dimensions)
    assert isinstance(made.model, RepresentationStudent)
    padded = made.tokeniser.padded(made.tokeniser.items(ITEMS))
    ids, mask = torch.from_numpy(padded.input_ids), torch.from_numpy(padded.attention_mask)
    vectors, attention = made.model.encode_item(ids, mask)
    assert vectors.shape == (3, length)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(attention.sum(dim=-1), torch.ones(3))
    assert not attention[mask == 0].any()
    one = made.tokeniser.padded(made.tokeniser.items(ITEMS[1:2]))
    alone, _ = made.model.encode_item(torch.from_numpy(one.input_ids), torch.from_numpy(one.attention_mask))
    torch.testing.assert_close(alone[0], vectors[1], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_the_similarity_head_is_slope_times_cosine_plus_offset(small_encoder: Path) -> None:
    model = student(small_encoder, "representation").model
    assert isinstance(model, RepresentationStudent)
    query, item = torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0, 0.0]])
    by_hand = 0.6 * model.head.slope + model.head.offset
    torch.testing.assert_close(model.grade_logits(query, item)[0], by_hand)
    alike, apart = (model.score(model.head(torch.tensor(cosine))) for cosine in (0.9, 0.1))
    assert alike > apart


def test_towers_are_one_or_two(small_encoder: Path) -> None:
    shared, apart = (
        student(small_encoder, "representation", shared_towers=each).model for each in (True, False)
    )
    assert len(encoders_of(shared)) == 1
    assert len(encoders_of(apart)) == 2
    assert sum(p.numel() for p in apart.parameters()) > 1.9 * sum(p.numel() for p in shared.parameters())


def test_the_score_is_the_expected_gain() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.1, 0.1]]))
    assert relevance_score(logits, torch.tensor(ESCI.gains)).item() == pytest.approx(0.5 + 0.03 + 0.001)


@pytest.mark.parametrize(
    ("paradigm", "changed"),
    [
        ("interaction", {}),
        ("representation", {"dimensions": 16}),
        ("representation", {"shared_towers": False}),
    ],
)
def test_a_saved_student_scores_the_same(
    small_encoder: Path, tmp_path: Path, paradigm: Paradigm, changed: dict[str, Any]
) -> None:
    made = student(small_encoder, paradigm, **changed)
    save(made, tmp_path)
    again = load(tmp_path)
    pairs = list(zip(QUERIES, ITEMS, strict=True))
    assert again.description == made.description
    assert (score_pairs(again, pairs).scores == score_pairs(made, pairs).scores).all()


def test_a_folder_without_a_whole_student_is_refused(small_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(StudentFolderError, match="expected a student"):
        load(tmp_path)
    save(student(small_encoder, "interaction"), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"half")
    with pytest.raises(StudentFolderError, match="expected a student"):
        load(tmp_path)
    (tmp_path / DESCRIPTION).write_bytes(b"{}")
    with pytest.raises(StudentFolderError, match="missing required field"):
        load(tmp_path)


@pytest.mark.parametrize("paradigm", ["interaction", "representation"])
@pytest.mark.parametrize(
    ("query", "item"),
    [
        ("", "mug"),
        ("mug", ""),
        ("", ""),
        ("mug", "word " * 10_000),
        ("word " * 10_000, "mug"),
        ("😀👩‍👩‍👧", "😀 kettle"),
        ("קומקום אדום", "غلاية حمراء"),
        ("a\x00b\x1b[31m", "c\u202ed\ufeff"),
        ("[SEP] [PAD]", "[CLS]"),
        ("\ud800", "lone surrogate"),
    ],
)
def test_any_text_has_a_score_or_a_clear_error(
    small_encoder: Path, paradigm: Paradigm, query: str, item: str
) -> None:
    made = student(small_encoder, paradigm)
    if "\ud800" in query:
        with pytest.raises(TextError, match="expected text made by"):
            score_pairs(made, [(query, item)])
        return
    found = score_pairs(made, [(query, item), ("red kettle", "nova tea pot")])
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    other = score_pairs(made, [("red kettle", "nova tea pot")])
    assert found.scores[1] == pytest.approx(other.scores[0], abs=1e-5)


@pytest.mark.parametrize("paradigm", ["interaction", "representation"])
def test_scores_come_back_in_order(small_encoder: Path, paradigm: Paradigm) -> None:
    made = student(small_encoder, paradigm)
    pairs = [(query, item) for query in QUERIES for item in ITEMS]
    together = score_pairs(made, pairs, batch_pairs=2)
    for place, pair in enumerate(pairs):
        assert score_pairs(made, [pair]).scores[0] == pytest.approx(together.scores[place], abs=1e-5)
    assert together.distributions.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert score_pairs(made, []).distributions.shape == (0, 4)


def test_layers_are_kept_by_number_or_place(small_encoder: Path) -> None:
    whole, lowest, upper = (load_encoder(small_encoder, layers=each) for each in (None, 1, [1]))
    assert [len(each.layers) for each in (whole, lowest, upper)] == [2, 1, 1]
    for kept, place in ((lowest, 0), (upper, 1)):
        for mine, theirs in zip(kept.layers[0].parameters(), whole.layers[place].parameters(), strict=True):
            assert torch.equal(mine, theirs)
    for layers in (0, 3, [2], [-1]):
        with pytest.raises(EncoderError, match="expected layers among 0 to 1"):
            load_encoder(small_encoder, layers=layers)


def test_a_limit_beyond_the_encoder_and_a_folder_without_model_are_refused(
    small_encoder: Path, tmp_path: Path
) -> None:
    long = Description(paradigm="interaction", scale=ESCI, limits=Limits(query=8, input=129))
    with pytest.raises(EncoderError, match="at most 128 tokens"):
        new_student(long, encoder=small_encoder)
    with pytest.raises(EncoderError, match=r"found none"):
        load_encoder(tmp_path)
    with pytest.raises(EncoderError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="8 tokens above"):
        Limits(query=20, input=24)


@pytest.mark.parametrize(
    "body",
    [
        lambda: RobertaModel(RobertaConfig(**SIZES, type_vocab_size=1, pad_token_id=0)),  # type: ignore[no-untyped-call]
        lambda: DistilBertModel(
            DistilBertConfig(vocab_size=len(VOCABULARY), dim=32, n_layers=2, n_heads=4, hidden_dim=64)
        ),
        lambda: ModernBertModel(
            ModernBertConfig(
                **SIZES, pad_token_id=0, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3
            )
        ),
    ],
    ids=["roberta", "distilbert", "modernbert"],
)
@pytest.mark.parametrize("paradigm", ["interaction", "representation"])
def test_encoders_without_segments_serve_too(tmp_path: Path, paradigm: Paradigm, body: Any) -> None:
    torch.manual_seed(3)
    folder = tmp_path / "encoder"
    body().save_pretrained(folder)
    small_tokenizer().save(str(folder / "tokenizer.json"))
    made = new_student(Description(paradigm=paradigm, scale=ESCI, limits=LIMITS), encoder=folder, layers=1)
    pairs = list(zip(QUERIES, ITEMS, strict=True))
    made.model.eval()
    save(made, tmp_path / "student")
    together = score_pairs(made, pairs).scores
    assert together == pytest.approx(score_pairs(load(tmp_path / "student"), pairs).scores)
    assert together[1] == pytest.approx(score_pairs(made, pairs[1:2]).scores[0], abs=1e-5)
    if isinstance(made.model, InteractionStudent):
        ids, mask, segments = tensors(made, QUERIES[:1], ITEMS[:1])
        torch.nn.init.ones_(made.model.encoder.segment.weight[1].detach())
        first, other = (made.model(ids, mask, given)[0] for given in (segments, torch.zeros_like(segments)))
        assert not torch.equal(first, other)


def test_the_default_encoder_is_unpacked_once_and_whole(tmp_path: Path) -> None:
    folder = default_encoder(tmp_path)
    assert sorted(each.name for each in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    before = (folder / "config.json").stat().st_mtime_ns
    assert default_encoder(tmp_path) == folder
    assert (folder / "config.json").stat().st_mtime_ns == before
    assert [each.name for each in tmp_path.iterdir()] == [folder.name]


def test_a_tokenizer_without_padding_is_refused() -> None:
    from tokenizers.models import WordLevel

    from students.tokenisation import StudentTokeniser

    with pytest.raises(ValueError, match="padding token"):
        StudentTokeniser(Tokenizer(WordLevel({"a": 0}, unk_token="a")), Limits())
