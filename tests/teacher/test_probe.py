"""What the probe finds missing, and says, against a real HTTP server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from teacher.client import TeacherClient
from teacher.policy import YES_NO, Policy, default
from teacher.probe import LabelError, ProbeError, ProbeReport, label_tokens, probe
from teacher.prompt import Mode
from tests.teacher.endpoint import MODEL, Endpoint, completion, says, serving, status


def probed(
    *endpoints: Endpoint, policy: Policy | None = None, mode: Mode = Mode.CHAIN, model: str = MODEL
) -> ProbeReport:
    async def run() -> ProbeReport:
        async with serving(endpoints[0]), serving(endpoints[-1]):
            urls = [endpoint.url for endpoint in endpoints]
            async with TeacherClient(urls, model=model, retries=0, timeout_s=5) as client:
                return await probe(client, policy=policy or default(), mode=mode, max_tokens=192)

    return asyncio.run(run())


def problems(*endpoints: Endpoint, **options: Any) -> str:
    with pytest.raises(ProbeError) as caught:
        probed(*endpoints, **options)
    return str(caught.value)


@pytest.mark.parametrize("mode", list(Mode))
def test_a_good_endpoint_passes(mode: Mode) -> None:
    endpoint = Endpoint(max_model_len=4096)
    report = probed(endpoint, mode=mode)
    assert report.teacher_id == MODEL
    (found,) = report.endpoints
    assert (found.url, found.max_model_len, found.prompt_tokens, found.notes) == (endpoint.url, 4096, 400, ())
    assert sorted(found.label_tokens) == ["C", "E", "I", "S"]
    assert len(set(found.label_tokens.values())) == 4


def test_the_binary_labels_pass_too() -> None:
    report = probed(Endpoint(), policy=default().with_grades(YES_NO), mode=Mode.SCORE)
    assert list(report.endpoints[0].label_tokens) == ["Yes", "No"]


def test_where_the_weights_lie_is_the_revision() -> None:
    report = probed(Endpoint(root="/srv/models/teacher-2f1c"))
    assert report.teacher_id == f"{MODEL}@teacher-2f1c"
    told = problems(Endpoint(root="/a/one"), Endpoint(root="/a/two"))
    assert "one model at all addresses" in told
    assert f"{MODEL}@one" in told
    assert f"{MODEL}@two" in told


def test_no_server_is_said_with_its_cure() -> None:
    async def run() -> None:
        async with TeacherClient(["http://127.0.0.1:1/v1"], model=MODEL, retries=0) as client:
            await probe(client, policy=default(), mode=Mode.CHAIN, max_tokens=192)

    with pytest.raises(ProbeError, match=r"127\.0\.0\.1:1.*relevance teacher serve"):
        asyncio.run(run())


def test_another_model_is_said_by_name() -> None:
    told = problems(Endpoint(), model="qwen")
    assert f"expected model 'qwen', the server has {MODEL}: set teacher.model" in told


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        (Endpoint(models=status(401)), "teacher.api_key"),
        (Endpoint(models=says(b"<html>")), "list of models cannot be read"),
        (Endpoint(models=says({"data": []})), "the server has none"),
        (Endpoint(ignores_structured_outputs=True), "structured output is ignored"),
        (Endpoint(max_model_len=500), "expected a context of at least 400 + 192 tokens, it has 500"),
        (Endpoint(always=status(400)), "HTTP 400"),
        (Endpoint(always=says(completion("zq123kx", logprobs=None))), "no log-probabilities come back"),
        (Endpoint(tokenize=says(b"{}")), "labels"),
    ],
    ids=["key", "html", "no models", "structured output", "context", "rejected", "logprobs", "tokenize"],
)
def test_each_thing_that_is_missing_is_said(endpoint: Endpoint, told: str) -> None:
    assert told in problems(endpoint)


def test_log_probabilities_without_the_labels_are_said() -> None:
    poor = completion("grade: S")
    for token in poor["choices"][0]["logprobs"]["content"]:
        token["top_logprobs"] = []
    zq = completion("zq123kx")
    told = problems(Endpoint(script=[says(zq), says(poor), says(poor)]))
    assert "log-probabilities cannot be read" in told
    assert "--max-logprobs 20" in told


def test_everything_missing_is_said_at_once_for_every_address() -> None:
    first = Endpoint(ignores_structured_outputs=True, max_model_len=500)
    told = problems(first, Endpoint(models=status(500)))
    assert told.count("\n  ") == 4
    for part in ("structured output", "context", "log-probabilities", "list of models"):
        assert part in told


def test_long_pairs_that_will_not_fit_are_noted() -> None:
    (note,) = probed(Endpoint(max_model_len=640)).notes
    assert "the longest pairs take" in note
    assert "max_model_len" in note


def test_without_tokenize_labels_are_checked_in_answers() -> None:
    report = probed(Endpoint(tokenize=status(404)))
    assert report.endpoints[0].label_tokens == {}
    assert any("has no /tokenize" in note for note in report.notes)
    assert any("does not count tokens" in note for note in report.notes)


def test_without_tokenize_a_label_of_several_tokens_is_refused() -> None:
    split = completion("grade: E")
    tokens = split["choices"][0]["logprobs"]["content"]
    tokens[2:3] = [tokens[2] | {"token": " "}, tokens[2] | {"token": "Ex"}, tokens[2] | {"token": "act"}]
    script = [says(completion("zq123kx")), says(split)]
    told = problems(Endpoint(tokenize=status(404), script=script))
    assert "expected label 'E' as one token" in told


class TestLabelTokens:
    BEFORE = (7, 8)

    def test_one_token_each_is_found(self) -> None:
        assert label_tokens(self.BEFORE, {"E": [7, 8, 1], "S": [7, 8, 2]}) == {"E": 1, "S": 2}
        assert label_tokens([], {"Yes": [4], "No": [5]}) == {"Yes": 4, "No": 5}

    def test_a_blank_of_its_own_is_passed_over(self) -> None:
        held = {"E": [7, 8, 3, 1], "S": [7, 8, 3, 2]}
        assert label_tokens(self.BEFORE, held, blank=[3]) == {"E": 1, "S": 2}

    def test_several_tokens_are_refused(self) -> None:
        with pytest.raises(LabelError, match=r"label 'Exact' is 2 tokens \(1, 9\).*one token of its own"):
            label_tokens(self.BEFORE, {"Exact": [7, 8, 1, 9], "S": [7, 8, 2]})

    def test_a_common_beginning_is_refused(self) -> None:
        with pytest.raises(LabelError, match="labels 'No1' and 'No2' begin with the same token"):
            label_tokens([], {"No1": [5, 1], "No2": [5, 2]}, blank=[3])

    def test_a_label_that_begins_another_is_refused(self) -> None:
        with pytest.raises(LabelError, match="labels 'No' and 'None' begin with the same token"):
            label_tokens([], {"No": [5], "None": [5, 6]})

    def test_labels_the_tokenizer_does_not_tell_apart_are_refused(self) -> None:
        with pytest.raises(LabelError, match="labels 'yes' and 'YES' begin with the same token"):
            label_tokens([], {"yes": [0], "YES": [0]})

    @pytest.mark.parametrize("tokens", [[7, 9], [7, 8], []])
    def test_a_label_that_melts_into_what_is_before_is_refused(self, tokens: list[int]) -> None:
        with pytest.raises(LabelError, match="melts into"):
            label_tokens(self.BEFORE, {"E": tokens, "S": [7, 8, 2]})
