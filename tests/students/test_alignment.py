"""Evidence spans to tokens: exactly those that overlap, under sub-words, truncation and Unicode."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from streams.item_text import clean
from students.alignment import align, overlap
from students.encoder import load_tokenizer
from students.examples import Evidence
from students.tags import IGNORED, OUTSIDE, TAGS
from students.tokenisation import ITEM, QUERY, SPECIAL, Limits, StudentTokeniser
from tests.students.samples import small_tokenizer

VERDICTS = {"match": {1, 2}, "mismatch": {3, 4}}


def byte_level_tokenizer() -> Tokenizer:
    """Return a byte-level BPE like RoBERTa's: one character may be four tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["red kettle for the kitchen"] * 3, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(sep=("</s>", 2), cls_token=("<s>", 0))
    return tokenizer


TOKENISERS = {
    "minilm": load_tokenizer(),
    "word pieces": small_tokenizer(),
    "byte level": byte_level_tokenizer(),
}
LIMITS = Limits(query=6, input=20)
#: What shops write, and what they should not: sub-words, accents, emoji, joined emoji, other scripts, right-to-left.
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "red",
                "kettle",
                "1.7",
                "unbelievableness",
                "Größe",
                "İstanbul",
                "ﬁne",
                "😀",
                "👩‍👩‍👧",
                "שלום",
                "مرحبا",
                "電気ケトル",
                "é",
                "[SEP]",
                "x" * 40,
                "½",
                "ᾳ",
                "ß",
            ]
        ),
        st.text(max_size=8),
    ),
    max_size=14,
).map(" ".join)


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, str, list[Evidence]]:
    query, item = (clean(draw(TEXTS), max_chars=200) for _ in range(2))
    spans = []
    for _ in range(draw(st.integers(0, 5))):
        side = draw(st.sampled_from(["query", "item"]))
        begin = draw(st.integers(-2, len(query if side == "query" else item) + 2))
        spans.append(
            Evidence(
                side=side,
                begin=begin,
                end=begin + draw(st.integers(-1, 15)),
                verdict=draw(st.sampled_from(["match", "mismatch"])),
            )
        )
    return query, item, spans


@pytest.mark.parametrize("name", list(TOKENISERS))
@given(case=cases())
@settings(deadline=None, max_examples=150)
def test_a_token_is_tagged_iff_it_overlaps_evidence(name: str, case: tuple[str, str, list[Evidence]]) -> None:
    query, item, spans = case
    texts = {QUERY: query, ITEM: item}
    [tokens] = StudentTokeniser(TOKENISERS[name], LIMITS).pairs([query], [item])
    found = align(tokens, spans, query=query, item_text=item)
    inside = [
        each for each in spans if 0 <= each.begin < each.end <= len(query if each.side == "query" else item)
    ]
    assert found.lost.outside == len(spans) - len(inside)
    conflicts = 0
    for tag, used, side, interval in zip(found.tags, found.used, tokens.sides, tokens.offsets, strict=True):
        if side == SPECIAL:
            assert (tag, used) == (IGNORED, False)
            continue
        assert 0 <= interval[0] <= interval[1] <= len(texts[side])
        named = {
            each.verdict
            for each in inside
            if (each.side == "query") == (side == QUERY) and overlap(interval, (each.begin, each.end))
        }
        assert used == bool(named)
        if len(named) == 2:
            conflicts += 1
            assert tag == IGNORED
        elif named:
            assert tag in VERDICTS[named.pop()]
        else:
            assert tag == OUTSIDE
    assert found.lost.conflicts == conflicts


@pytest.mark.parametrize("name", list(TOKENISERS))
@given(case=cases())
@settings(deadline=None, max_examples=80)
def test_every_span_is_tagged_in_whole_or_counted(name: str, case: tuple[str, str, list[Evidence]]) -> None:
    query, item, spans = case
    [tokens] = StudentTokeniser(TOKENISERS[name], LIMITS).pairs([query], [item])
    for span in spans:
        found = align(tokens, [span], query=query, item_text=item)
        lost = found.lost
        tagged = [tag for tag in found.tags if tag not in (IGNORED, OUTSIDE)]
        whole = bool(tagged) and not (lost.outside or lost.cut or lost.without_tokens)
        assert whole or lost.outside + lost.cut + lost.without_tokens == 1
        # One span is one run: it begins once, and no tag continues what did not begin.
        assert [TAGS[tag][0] for tag in tagged] == ["B", "I", *"I" * len(tagged)][: len(tagged)]


@pytest.mark.parametrize("name", ["minilm", "word pieces"])
@given(text=TEXTS)
@settings(deadline=None, max_examples=100)
def test_offsets_point_at_the_letters_of_the_token(name: str, text: str) -> None:
    text = clean(text, max_chars=200)
    tokeniser = StudentTokeniser(TOKENISERS[name], Limits(query=100, input=200))
    [tokens] = tokeniser.queries([text])
    for value, side, (begin, end) in zip(tokens.ids, tokens.sides, tokens.offsets, strict=True):
        token = str(tokeniser.tokenizer.id_to_token(value)).removeprefix("##")
        if side == SPECIAL or token == "[UNK]":
            continue
        assert plain(token) == plain(text[begin:end])


def plain(text: str) -> str:
    """Return letters without case and marks, as the tokenizers' normaliser makes them."""
    apart = unicodedata.normalize("NFD", text.lower())
    return "".join(char for char in apart if unicodedata.category(char) != "Mn").lower()


def test_by_hand_with_sub_words_and_both_sides() -> None:
    query, item = "red kettle 1.7 litre", "nova tea pot, crimson\nbrand: nova"
    [tokens] = StudentTokeniser(small_tokenizer(), Limits()).pairs([query], [item])
    spans = [
        Evidence(side="query", begin=4, end=10, verdict="mismatch"),
        Evidence(side="item", begin=5, end=12, verdict="mismatch"),
        Evidence(side="query", begin=0, end=3, verdict="match"),
        Evidence(side="item", begin=14, end=21, verdict="match"),
    ]
    found = align(tokens, spans, query=query, item_text=item)
    shown = [TAGS[tag] if tag != IGNORED else "-" for tag in found.tags]
    crimson = ["B-match", *["I-match"] * 6]
    assert shown == [
        "-", "B-match", "B-mismatch", "O", "O", "O", "O", "-",
        "O", "B-mismatch", "I-mismatch", "O", *crimson, "O", "O", "O", "-",
    ]  # fmt: skip


def test_spans_that_share_a_token_are_one_run_and_neighbours_are_two() -> None:
    query = "xylophone"
    [tokens] = StudentTokeniser(TOKENISERS["minilm"], Limits()).pairs([query], ["mug"])
    word = [place for place, side in enumerate(tokens.sides) if side == QUERY]
    sharing = [
        Evidence(side="query", begin=begin, end=end, verdict="match") for begin, end in ((0, 5), (2, 9))
    ]
    tags = align(tokens, sharing, query=query, item_text="mug").tags
    assert [TAGS[tags[place]][0] for place in word] == ["B", *["I"] * (len(word) - 1)]
    query = "red mug"
    [tokens] = StudentTokeniser(TOKENISERS["minilm"], Limits()).pairs([query], ["mug"])
    apart = [Evidence(side="query", begin=begin, end=end, verdict="match") for begin, end in ((0, 3), (4, 7))]
    tags = align(tokens, apart, query=query, item_text="mug").tags
    assert [TAGS[tag] for tag in tags[1:3]] == ["B-match", "B-match"]


def test_a_run_that_begins_in_a_conflict_begins_after_it() -> None:
    query = "red tea pot"
    [tokens] = StudentTokeniser(small_tokenizer(), Limits()).pairs([query], ["mug"])
    spans = [
        Evidence(side="query", begin=0, end=3, verdict="mismatch"),
        Evidence(side="query", begin=0, end=11, verdict="match"),
    ]
    found = align(tokens, spans, query=query, item_text="mug")
    assert found.tags[1:4] == [IGNORED, TAGS.index("B-match"), TAGS.index("I-match")]
    assert found.used[1:4] == [True, True, True]
    assert found.lost.conflicts == 1


def test_evidence_beyond_the_limit_is_counted() -> None:
    item = "nova " * 30 + "steel"
    [tokens] = StudentTokeniser(small_tokenizer(), Limits(query=4, input=20)).pairs(["red"], [item])
    span = Evidence(side="item", begin=len(item) - 5, end=len(item), verdict="match")
    found = align(tokens, [span], query="red", item_text=item)
    assert found.lost.cut == 1
    assert set(found.tags) == {OUTSIDE, IGNORED}


def test_a_text_alone_takes_only_its_own_evidence() -> None:
    tokeniser = StudentTokeniser(small_tokenizer(), Limits())
    [tokens] = tokeniser.items(["nova tea pot"])
    spans = [
        Evidence(side="query", begin=0, end=3, verdict="match"),
        Evidence(side="item", begin=5, end=12, verdict="match"),
    ]
    found = align(tokens, spans, query=None, item_text="nova tea pot")
    assert found.used == [False, False, True, True, False]
    assert found.lost.outside == 0
