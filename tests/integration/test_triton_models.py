"""The Triton models under a real server: parity, explanations, limits, and what bad requests do not disturb."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from ops.serving.connection import Control, TritonError, texts
from students.export.export import torch_scores
from students.export.onnx_student import OnnxStudent
from students.publishing.probes import served_scores
from students.publishing.repository import versions_of
from students.version_folder import read_manifest
from tests.integration.triton_server import PAIRS, Serving, environment_or_skip, serving, small_student
from tests.students.samples import write_small_encoder

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

#: fp32 scores differ from onnxruntime's by the batch they are computed in, from torch's by the order of sums.
PARITY = 2e-4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Yield a server of fp32 graphs with an interaction (1) and a representation student (2)."""
    environment_or_skip()
    encoder = write_small_encoder(tmp_path_factory.mktemp("encoder"))
    with serving(tmp_path_factory.mktemp("run"), encoder, SERVING__PRECISION="fp32") as running:
        assert running.publish("interaction", seed=1) == 1
        assert running.publish("representation", seed=2) == 2
        yield running


@pytest.fixture(scope="module")
def control(server: Serving) -> Iterator[Control]:
    with closing(server.control()) as opened:
        yield opened


def pair(query: Any = "red kettle", item: Any = "nova tea pot") -> dict[str, np.ndarray]:
    return {"QUERY": texts([[query]]), "ITEM_TEXT": texts([[item]])}


def raw(query: bytes, items: list[bytes]) -> dict[str, np.ndarray]:
    return {
        "QUERY": np.array([[query]], dtype=np.object_),
        "ITEM_TEXT": np.array([items], dtype=np.object_),
    }


@pytest.mark.parametrize(("kind", "version", "seed"), [("interaction", 1, 1), ("representation", 2, 2)])
def test_a_pair_scores_alike_by_torch_onnxruntime_and_triton(
    server: Serving, control: Control, kind: Any, version: int, seed: int
) -> None:
    pairs = [
        *PAIRS,
        ("", "nova"),
        ("red kettle", "tea pot " * 60),
        ("RED\u200b  kettle", "Nova\nbrand: nova"),
    ]
    folder = versions_of(server.settings) / str(version)
    served = served_scores(control, read_manifest(folder), pairs)
    queries = [query.replace("RED\u200b  kettle", "RED kettle") for query, _ in pairs]
    items = [item.strip() for _, item in pairs]
    bare = OnnxStudent.open(folder, precision="fp32", threads=1).scores(queries, items)
    by_torch = torch_scores(small_student(server.encoder, kind, seed=seed), queries, items)
    np.testing.assert_allclose(served, bare, atol=PARITY)
    np.testing.assert_allclose(served, by_torch, atol=PARITY)
    assert np.ptp(served) > 10 * PARITY


def test_many_items_in_one_request_score_as_each_alone(server: Serving, control: Control) -> None:
    items = [item for _, item in PAIRS]
    request = {"QUERY": texts([["blue mug"]]), "ITEM_TEXT": texts([items])}
    together = control.infer("relevance", 1, request)["SCORE"]
    assert together.shape == (1, len(items))
    alone = served_scores(
        control, read_manifest(versions_of(server.settings) / "1"), [("blue mug", item) for item in items]
    )
    np.testing.assert_allclose(together[0], alone, atol=PARITY)
    # Two queries in one request, each with items of its own.
    two = {"QUERY": texts([["blue mug"], ["red kettle"]]), "ITEM_TEXT": texts([items[:3], items[3:6]])}
    np.testing.assert_allclose(control.infer("relevance", 1, two)["SCORE"][0], together[0, :3], atol=PARITY)


def test_explanations_agree_with_the_score_and_quote_the_texts(control: Control) -> None:
    items = ["blue kettle nova", "tea pot"]
    request = {"QUERY": texts([["red kettle"]]), "ITEM_TEXT": texts([items])}
    found = control.infer("relevance_explained", 1, request)
    np.testing.assert_allclose(found["SCORE"], control.infer("relevance", 1, request)["SCORE"], atol=PARITY)
    assert found["GRADES"].shape == (1, 2, 4)
    np.testing.assert_allclose(found["GRADES"].sum(axis=-1), 1, atol=1e-5)
    for item, encoded in zip(items, found["SPANS"][0], strict=True):
        for span in json.loads(encoded):
            text = {"query": "red kettle", "item": item}[span["side"]]
            assert 0 <= span["start"] < span["end"] <= len(text)
            assert span["verdict"] in ("match", "mismatch")
            assert 0 < span["probability"] <= 1


def test_towers_give_unit_vectors_and_refuse_those_of_another_version(control: Control) -> None:
    query = control.infer("query_tower", 2, {"QUERY": texts([["red kettle"]])})["VECTOR"]
    vectors = control.infer("item_tower", 2, {"ITEM_TEXT": texts([["nova tea pot", "blue mug"]])})["VECTORS"]
    np.testing.assert_allclose(np.linalg.norm(query, axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-5)

    def ask(version: int, matrix: np.ndarray) -> np.ndarray:
        request = {
            "QUERY": texts([["red kettle"]]),
            "ITEM_VECTORS": matrix,
            "VECTOR_VERSION": np.array([[version]], dtype=np.int64),
        }
        return control.infer("relevance_towers", 2, request)["SCORE"]

    assert ask(2, vectors).shape == (1, 2)
    thousand = np.repeat(vectors[:, :1], 1000, axis=1)
    np.testing.assert_allclose(ask(2, thousand)[0], ask(2, vectors)[0, 0], atol=1e-6)
    for version, matrix, message in (
        (1, vectors, "expected item vectors of version 2, which answers, got"),
        (2, np.repeat(vectors[:, :1], 1001, axis=1), "expected 1 to 1000 items in a request, got 1001"),
        (2, np.full_like(vectors, np.nan), "expected finite item vectors"),
        (2, vectors[:, :, :5].copy(), "unexpected shape for input 'ITEM_VECTORS'"),
    ):
        with pytest.raises(TritonError, match=message) as caught:
            ask(version, matrix)
        assert caught.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("model", "request_", "message"),
    [
        ("relevance", raw(b"red", [b"nova"] * 257), "expected 1 to 256 items in a request, got 257"),
        ("relevance", raw(b"\xff\xfe", [b"nova"]), "expected query 0 in UTF-8"),
        ("relevance", raw(b"red", [b"nova", b"te\xc3"]), "expected item text 1 in UTF-8"),
        ("relevance", raw(b"red", [b"x" * 16385]), "at most 16384 bytes, got 16385"),
        ("relevance", pair() | {"QUERY": texts([["a", "b"]])}, "unexpected shape for input 'QUERY'"),
        ("relevance", {"QUERY": texts([["a"]])}, "expected 2 inputs but got 1"),
        ("relevance", pair() | {"QUERY": np.zeros((1, 1), np.float32)}, "data-type"),
        ("relevance_explained", raw(b"red", [b"nova"] * 65), "expected 1 to 64 items"),
        ("query_tower", {"QUERY": np.array([[b"\x80"]], dtype=np.object_)}, "in UTF-8"),
        ("item_tower", {"ITEM_TEXT": np.array([[b"\x80"]], dtype=np.object_)}, "in UTF-8"),
    ],
)
def test_bad_requests_are_refused_by_name(
    control: Control, model: str, request_: dict[str, np.ndarray], message: str
) -> None:
    version = 2 if "tower" in model else 1
    with pytest.raises(TritonError, match=message) as caught:
        control.infer(model, version, request_)
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_version_that_is_not_served_is_not_found(control: Control) -> None:
    with pytest.raises(TritonError) as caught:
        control.infer("relevance", 99, pair())
    assert caught.value.code == "NOT_FOUND"


def test_strangers_texts_have_defined_scores(control: Control) -> None:
    for query, item in (
        ("", ""),
        ("\x00\x01\x1b[31m", "\u202eshoes"),
        ("🛒🛒", "👩‍👩‍👧 set"),
        ("קומקום אדום", "إبريق شاي"),
        ("[CLS] [SEP] [PAD]", "a\n" * 5000),
        ("red", "word " * 3000),
    ):
        score = control.infer("relevance", 1, pair(query, item))["SCORE"]
        assert 0 <= score[0, 0] <= 1


def test_an_expired_request_is_let_go_and_others_are_not_disturbed(server: Serving) -> None:
    """Good requests in several threads keep their answers while bad and expired ones are sent beside them."""
    expected: dict[int, float] = {}
    wrong: list[object] = []

    def good(number: int) -> None:
        with closing(server.control()) as control:
            for turn in range(20):
                score = control.infer("relevance", 1, pair("red kettle", f"nova pot {number}"))["SCORE"][0, 0]
                if abs(expected.setdefault(number, float(score)) - score) > PARITY:
                    wrong.append((number, turn, score))

    def bad() -> None:
        with closing(server.control()) as control:
            for turn in range(20):
                try:
                    timeout_s = 0.0005 if turn % 2 else None
                    control.infer("relevance", 1, raw(b"\xff", [b"x"]), timeout_s=timeout_s)
                    wrong.append("bad bytes were scored")
                except TritonError as error:
                    if error.code not in ("INVALID_ARGUMENT", "DEADLINE_EXCEEDED"):
                        wrong.append(error)

    threads = [threading.Thread(target=good, args=(number,)) for number in range(3)]
    threads += [threading.Thread(target=bad) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(expected) == 3
    # In the queue for longer than it allows.
    with closing(server.control()) as control, pytest.raises(TritonError) as caught:
        control.infer("relevance", 1, pair(), timeout_s=1e-6)
    assert caught.value.code == "DEADLINE_EXCEEDED"
