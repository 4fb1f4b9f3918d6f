"""`relevance serve` and publishing with a real Triton: deaths, broken versions, promotion, retirement, TLS, token."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec
import pytest

from ops import heartbeat
from ops.serving.connection import Control, TritonError, texts
from ops.settings import load
from students import version_folder
from students.publishing.ledger import Ledger, route_of
from students.publishing.publisher import Publisher, PublishError
from students.publishing.repository import Repository, root_of
from students.version_folder import MANIFEST, VersionError, read_manifest
from tests.integration.triton_server import Serving, environment_or_skip, serving
from tests.students.samples import write_small_encoder

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
RECOVERS_WITHIN_S = 120.0


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    environment_or_skip()
    return write_small_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def server(encoder: Path, tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path / "run", encoder) as running:
        yield running
    assert running.process.returncode == 0, running.log.read_text()
    assert running.regions() == []
    assert "stopped" in running.log.read_text()


def score(control: Control, version: int) -> float:
    request = {"QUERY": texts([["red kettle"]]), "ITEM_TEXT": texts([["nova tea pot"]])}
    return float(control.infer("relevance", version, request, timeout_s=60)["SCORE"][0, 0])


def recovered(control: Control, version: int) -> float:
    """Return a version's score once it answers."""
    until_s = time.monotonic() + RECOVERS_WITHIN_S
    while True:
        try:
            return score(control, version)
        except TritonError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.1)


def stubs_when(
    server: Serving, right: Callable[[dict[tuple[str, int], list[int]]], bool]
) -> dict[tuple[str, int], list[int]]:
    """Return the stubs once they are `right`; unloading goes on for a second after it was asked for."""
    until_s = time.monotonic() + RECOVERS_WITHIN_S
    while not right(found := server.stubs()):
        assert time.monotonic() < until_s, found
        time.sleep(0.1)
    return found


def _replaced(now: dict[tuple[str, int], list[int]], *, stub: tuple[str, int], pids: list[int]) -> bool:
    return len(now.get(stub, [])) == len(pids) and not set(now[stub]) & set(pids)


def test_a_dead_stub_is_loaded_again_and_no_other_version_notices(server: Serving) -> None:
    first, second = server.publish("interaction", seed=1), server.publish("interaction", seed=2)
    with closing(server.control()) as control:
        expected = {version: score(control, version) for version in (first, second)}
        for model in ("interaction", "relevance"):
            before = server.stubs()
            # One of them, where there are more.
            os.kill(before[model, second][0], signal.SIGKILL)
            assert score(control, first) == pytest.approx(expected[first], abs=1e-4)
            dead = before.pop((model, second))
            after = stubs_when(server, partial(_replaced, stub=(model, second), pids=dead))
            assert recovered(control, second) == pytest.approx(expected[second], abs=1e-4)
            del after[model, second]
            assert after == before
    reports = heartbeat.read(server.settings.run_dir, "triton")
    assert reports is not None
    assert reports.state == "ready"
    assert f"relevance {second} had died and is loaded again" in server.log.read_text()


def test_a_killed_server_comes_back_with_all_its_versions(server: Serving) -> None:
    version = server.publish("interaction", seed=1)
    with closing(server.control()) as control:
        expected = score(control, version)
    pid = server.ready().pid
    os.kill(pid, signal.SIGKILL)
    server.ready(other_than=pid)
    with closing(server.control()) as control:
        assert recovered(control, version) == pytest.approx(expected, abs=1e-4)


def test_versions_that_fail_are_taken_out_and_the_champion_serves_on(server: Serving) -> None:
    champion = server.publish("interaction", seed=1)
    with closing(server.control()) as control, server.publisher() as publisher:
        expected = score(control, champion)

        def refused(folder: Path, message: str) -> None:
            with pytest.raises((PublishError, VersionError), match=message):
                publisher.publish(folder)
            assert score(control, champion) == pytest.approx(expected, abs=1e-4)
            assert publisher.repository.served()["relevance"] == [champion]
            only = {(model, champion) for model in publisher.repository.served()}
            stubs_when(server, lambda now: now.keys() == only)

        damaged = server.export("interaction", seed=2)
        graph = damaged / "model.int8.onnx"
        graph.write_bytes(graph.read_bytes()[:-100])
        refused(damaged, "its content is not what was exported")
        # A graph that no runtime loads, under a hash that fits.
        unloadable = server.export("interaction", seed=3)
        (unloadable / "model.int8.onnx").write_bytes(b"no graph")
        rewrite(unloadable, files={**read_manifest(unloadable).files, "model.int8.onnx": hash_of(unloadable)})
        refused(unloadable, "is not served: loading interaction")
        # Loads well, and scores something else than its export says.
        liar = server.export("interaction", seed=4)
        probes = read_manifest(liar).probes
        changed = msgspec.structs.replace(probes[0], scores=dict.fromkeys(probes[0].scores, 0.999))
        rewrite(liar, probes=(changed, *probes[1:]))
        refused(liar, "expected 0.9990")
        steps = publisher.ledger.steps()
        assert [step.step for step in steps] == ["published", "refused", "refused"]
        with pytest.raises(PublishError, match="has been published before"):
            publisher.publish(liar)
        # Another number of grades than the versions that are served.
        assert route_of(steps, "interaction").champion == champion
        assert server.publish("interaction", seed=5) == champion + 4


def hash_of(folder: Path) -> str:
    return version_folder.file_hash(folder / "model.int8.onnx")


def rewrite(folder: Path, **changes: object) -> None:
    manifest = msgspec.structs.replace(read_manifest(folder), **changes)
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))


def test_promote_roll_back_pin_and_retire(server: Serving) -> None:
    one, two, three = (server.publish("interaction", seed=seed) for seed in (1, 2, 3))
    with closing(server.control()) as control, server.publisher() as publisher:

        def route() -> tuple[int, int, int, bool]:
            found = route_of(publisher.ledger.steps(), "interaction")
            return found.champion, found.challenger, found.previous, found.pinned

        assert route() == (one, three, 0, False)
        publisher.promote(two)
        assert route() == (two, three, one, False)
        publisher.promote(three, pin=True, decision="won")
        assert route() == (three, 0, two, True)
        with pytest.raises(PublishError, match=f"interaction-{three} is pinned"):
            publisher.promote(one)
        with pytest.raises(PublishError, match="pinned"):
            publisher.roll_back("interaction")
        publisher.roll_back("interaction", unpin=True)
        assert route() == (two, 0, one, False)
        publisher.roll_back("interaction")
        assert route() == (one, 0, 0, False)
        with pytest.raises(PublishError, match="no champion before"):
            publisher.roll_back("interaction")
        with pytest.raises(PublishError, match="version 77 has not been published"):
            publisher.promote(77)
        # All three are served side by side until those without a part have been idle for long enough.
        assert [score(control, version) for version in (one, two, three)]
        last_ms = publisher.ledger.steps()[-1].at_ms
        before = server.stubs()
        early = Publisher(server.settings, control, clock_ms=lambda: last_ms + 599_000)
        assert early.retire_due() == []
        late = Publisher(server.settings, control, clock_ms=lambda: last_ms + 601_000)
        assert [step.version for step in late.retire_due()] == [two, three]
        for version in (two, three):
            with pytest.raises(TritonError) as caught:
                score(control, version)
            assert caught.value.code in ("NOT_FOUND", "UNAVAILABLE")
        assert score(control, one)
        kept = {key: pids for key, pids in before.items() if key[1] == one}
        stubs_when(server, lambda now: now == kept)
        with pytest.raises(PublishError, match="is not served by"):
            publisher.promote(two)
        assert list(publisher.repository.staging.iterdir()) == []


def test_publishing_under_load_fails_no_request(server: Serving) -> None:
    champion = server.publish("interaction", seed=1)
    stop, wrong, answered = threading.Event(), [], [0]

    def ask() -> None:
        with closing(server.control()) as control:
            expected = score(control, champion)
            while not stop.is_set():
                try:
                    if abs(score(control, champion) - expected) > 1e-4:
                        wrong.append("another version answered")
                except TritonError as error:
                    wrong.append(str(error))
                answered[0] += 1
                time.sleep(0.01)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for seed in (2, 3):
            server.publish("interaction", seed=seed)
    finally:
        stop.set()
        thread.join()
    assert wrong == []
    assert answered[0] > 20


def test_a_second_server_in_the_same_folder_is_refused(server: Serving) -> None:
    done = subprocess.run(
        [*server.process.args],  # type: ignore[misc]
        env=os.environ | server.variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert f"a Triton already runs in {server.settings.run_dir.absolute() / 'triton'}" in done.stderr


def test_tls_and_token_are_asked_for(encoder: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        capture_output=True,
        check=True,
    )
    variables = {
        "TRITON_SERVER__CERTIFICATE": str(certificate),
        "TRITON_SERVER__KEY": str(key),
        "SCORING__CA_FILE": str(certificate),
        "SCORING__TOKEN": "a secret of many letters",
    }
    with serving(tmp_path / "run", encoder, **variables) as running:
        version = running.publish("interaction", seed=1)
        with closing(running.control()) as control:
            assert 0 <= score(control, version) <= 1
        # Without TLS the connection fails, in one way or another; without the token the server says why.
        for left_out, why in (("SCORING__TOKEN", "restricted"), ("SCORING__CA_FILE", "")):
            fewer = {name: value for name, value in running.variables.items() if not name.endswith(left_out)}
            with closing(Control(load(fewer), timeout_s=60)) as stranger:
                with pytest.raises(TritonError, match=why):
                    score(stranger, version)
                with pytest.raises(TritonError, match=why):
                    stranger.load("relevance")
        wrong = dict(running.variables) | {"RELEVANCE_SCORING__TOKEN": "another"}
        with (
            closing(Control(load(wrong), timeout_s=60)) as stranger,
            pytest.raises(TritonError, match="restricted"),
        ):
            stranger.unload("relevance")


def test_what_an_interrupted_publish_leaves_does_no_harm(server: Serving) -> None:
    version = server.publish("interaction", seed=1)
    root = root_of(server.settings)
    (root / "staging" / "relevance-9-abcd").mkdir()
    with (root / "steps.jsonl").open("ab") as file:
        file.write(b'{"step_id": 2, "step": "publ')
    assert [step.version for step in Ledger(root).steps()] == [version]
    second = server.publish("interaction", seed=2)
    assert [step.version for step in Ledger(root).steps()] == [version, second]
    Repository(root).empty_staging()
    with closing(server.control()) as control:
        assert [score(control, each) for each in (version, second)]
