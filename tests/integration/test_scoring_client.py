"""The ad engine's client against a real Triton: cascade, arms, item vectors, deaths, deadlines, steps on topics."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from clickhouse_connect.driver.client import Client
from kafka import KafkaConsumer

from feature_store.definitions import ITEM_VECTORS
from feature_store.reader import FeatureReader
from feature_store.store import apply
from feature_store.writing import FeatureWriter
from ops.experiments.assignment import assign
from ops.scoring import item_vectors
from ops.scoring.client import Candidate, Scored, ScoringClient, TooManyCandidatesError
from ops.scoring.following import RouteFollower
from ops.scoring.item_vectors import WrongVersionError
from ops.scoring.routes import RouteReader, Routes, routes_at_hand
from ops.scoring.scorer import ScoringLoop, TritonScorer, lexical_of
from ops.scoring.vectors import VectorTables, from_feature_store
from ops.settings import Settings
from ops.shop.items import Item
from ops.shop.process import build_engine
from ops.shop.scorers import LexicalScorer
from ops.shop.shop import open_shop
from ops.shop.student_arms import StudentArms
from streams.records import StudentStep
from streams.topics import STUDENTS
from students.export.onnx_student import OnnxStudent
from students.publishing.announcing import announce, row_of
from students.publishing.ledger import Route
from students.publishing.repository import versions_of
from students.version_folder import VersionError
from tests.integration.triton_server import Serving, environment_or_skip, serving
from tests.students.samples import write_small_encoder

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

THINGS = ("red kettle", "blue mug", "tea pot", "phone case", "steel cover")
CANDIDATES = [
    Candidate(f"i{number}", f"{THINGS[number % 5]} nova {number}\nbrand: nova") for number in range(120)
]
#: int8 scores of a pair differ by the batch that it is computed in.
PARITY = 0.05
#: Nothing here is about speed, and the machine may be busy.
PATIENT_MS = 20_000.0
RECOVERS_WITHIN_S = 120.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Yield a server with interaction 1 (champion), 2 (challenger) and representation 3, 4 with item vectors."""
    environment_or_skip()
    encoder = write_small_encoder(tmp_path_factory.mktemp("encoder"))
    with serving(tmp_path_factory.mktemp("run"), encoder) as running:
        assert [running.publish("interaction", seed=seed) for seed in (1, 2)] == [1, 2]
        for seed in (3, 4):
            folder = running.export("representation", seed=seed)
            items = [(each.item_id, each.text) for each in CANDIDATES[:110]]
            item_vectors.save(item_vectors.compute(folder, items, precision="int8", threads=1), folder)
            with running.publisher() as publisher:
                publisher.publish(folder)
        yield running


def no_lexical(query: str, candidates: Sequence[Candidate]) -> list[float]:
    return [0.25] * len(candidates)


def with_client(
    settings: Settings, work: Callable[[ScoringClient], Coroutine[Any, Any, Any]], **changes: Any
) -> Any:
    """Run `work` with a client and return what it returns."""

    async def run() -> Any:
        client = ScoringClient(
            settings,
            routes=changes.pop("routes", lambda: routes_at_hand(settings)),
            vectors=changes.pop("vectors", VectorTables(versions_of(settings))),
            lexical=changes.pop("lexical", no_lexical),
        )
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(run())


def scored(
    settings: Settings, candidates: Sequence[Candidate], *, treatment: bool = False, **changes: Any
) -> Scored:
    async def work(client: ScoringClient) -> Scored:
        return await client.score("red kettle", candidates, treatment=treatment, deadline_ms=PATIENT_MS)

    found: Scored = with_client(settings, work, **changes)
    return found


def test_few_candidates_are_scored_by_the_interaction_student_of_the_arm(server: Serving) -> None:
    few = CANDIDATES[:20]
    by_arm = {}
    for treatment, version in ((False, 1), (True, 2)):
        found = scored(server.settings, few, treatment=treatment)
        assert (found.source, found.fallback) == ("interaction", False)
        assert found.student_version == f"interaction-{version}"
        bare = OnnxStudent.open(versions_of(server.settings) / str(version), precision="int8", threads=1)
        expected = bare.scores(["red kettle"] * len(few), [each.text for each in few])
        np.testing.assert_allclose(found.scores, expected, atol=PARITY)
        by_arm[treatment] = found.scores
    assert np.abs(np.subtract(by_arm[False], by_arm[True])).max() > PARITY


def test_many_candidates_go_through_the_cascade(server: Serving) -> None:
    found = scored(server.settings, CANDIDATES)
    assert (found.source, found.fallback) == ("cascade", False)
    assert found.student_version == "interaction-1+representation-3"
    table = item_vectors.load(versions_of(server.settings) / "3")
    bare = OnnxStudent.open(versions_of(server.settings) / "3", precision="int8", threads=1)
    towers = bare.scores(["red kettle"] * 110, [each.text for each in CANDIDATES[:110]])
    best = server.settings.scoring.interaction_candidates
    # Ten items have no vector: they are among the best, the forty others are the towers' best.
    chosen = set(range(110, 120)) | set(np.argsort(-towers, kind="stable")[: best - 10].tolist())
    interaction = OnnxStudent.open(versions_of(server.settings) / "1", precision="int8", threads=1)
    expected = interaction.scores(["red kettle"] * 120, [each.text for each in CANDIDATES])
    close = [place for place in range(120) if abs(found.scores[place] - expected[place]) <= PARITY]
    assert len(chosen & set(close)) >= best - 2
    lowest = min(found.scores[place] for place in chosen)
    assert all(found.scores[place] <= lowest + PARITY for place in set(range(120)) - chosen)
    assert table.version == 3


def test_vectors_of_one_version_never_meet_a_query_of_another(server: Serving) -> None:
    table = item_vectors.load(versions_of(server.settings) / "3")
    with pytest.raises(WrongVersionError, match="expected item vectors of version 4, these are of 3"):
        table.of(["i1"], version=4)
    with pytest.raises(WrongVersionError):
        item_vectors.save(table, versions_of(server.settings) / "4")
    # A source that gives the wrong table is caught before a request is made of it.
    stale = VectorTables(versions_of(server.settings))
    with pytest.raises(AssertionError, match="vectors of version 3 for a query of version 4"):
        scored(server.settings, CANDIDATES, treatment=True, vectors=lambda version, ids: stale(3, ids))
    # Both arms at once, many times over: each is answered from its own version's vectors.
    tables = VectorTables(versions_of(server.settings))

    async def work(client: ScoringClient) -> list[Scored]:
        return await asyncio.gather(
            *(
                client.score("red kettle", CANDIDATES, treatment=bool(turn % 2), deadline_ms=PATIENT_MS)
                for turn in range(12)
            )
        )

    answers = with_client(server.settings, work, vectors=tables)
    assert {each.student_version for each in answers[::2]} == {"interaction-1+representation-3"}
    assert {each.student_version for each in answers[1::2]} == {"interaction-2+representation-4"}
    assert not any(each.fallback for each in answers)


def test_damaged_and_missing_vectors_are_done_without(server: Serving, tmp_path: Path) -> None:
    found = scored(server.settings, CANDIDATES, vectors=VectorTables(tmp_path))
    assert (found.source, found.fallback) == ("interaction", True)
    folder = versions_of(server.settings) / "4"
    whole = (folder / item_vectors.FILE).read_bytes()
    try:
        for content in (b"", b"garbage", whole[: len(whole) // 2]):
            (folder / item_vectors.FILE).write_bytes(content)
            with pytest.raises(VersionError, match="expected the item vectors of version 4"):
                item_vectors.load(folder)
    finally:
        (folder / item_vectors.FILE).write_bytes(whole)
    with pytest.raises(VersionError, match="expected a representation student"):
        item_vectors.compute(versions_of(server.settings) / "1", [], precision="int8")


def test_vectors_come_from_the_feature_store_too(server: Serving, tmp_path: Path) -> None:
    settings = Settings.model_validate({"run_dir": str(tmp_path)})
    apply(settings)
    table = item_vectors.load(versions_of(server.settings) / "3")
    writer = FeatureWriter(settings)
    parts = item_vectors.rows(table, event_us=time.time_ns() // 1000)
    written = [writer.write(ITEM_VECTORS, rows) for rows in parts]
    writer.close()
    assert sum(each.online for each in written) == 110
    reader = FeatureReader(settings)
    found = from_feature_store(reader, 3, ["i5", "nowhere", "i6"])
    np.testing.assert_array_equal(found.known, [True, False, True])
    np.testing.assert_allclose(found.matrix, table.of(["i5", "i6"], version=3)[0], atol=1e-7)
    assert not from_feature_store(reader, 4, ["i5", "i6"]).known.any()
    reader.close()


def test_too_many_candidates_and_expired_deadlines(server: Serving) -> None:
    many = [Candidate(str(number), "x") for number in range(1001)]
    with pytest.raises(TooManyCandidatesError, match="at most 1000 candidates"):
        scored(server.settings, many)

    async def work(client: ScoringClient) -> tuple[Scored, Scored, Scored]:
        first = await client.score("blue mug", CANDIDATES, deadline_ms=PATIENT_MS)
        late = await client.score("blue mug", CANDIDATES, deadline_ms=0.5)
        never_seen = await client.score("phone", CANDIDATES, deadline_ms=0.5)
        return first, late, never_seen

    first, late, never_seen = with_client(server.settings, work)
    assert first.source == "cascade"
    assert (late.source, late.fallback, late.student_version) == ("last_known", True, "last-known")
    # The server's queue may have let go of it before the client did.
    assert "DEADLINE_EXCEEDED" in late.reason or "UNAVAILABLE" in late.reason
    assert (never_seen.source, set(never_seen.scores)) == ("lexical", {0.25})
    assert scored(server.settings, []).scores == []


def test_without_a_version_the_lexical_score_answers(server: Serving) -> None:
    for routes in (Routes(), Routes(Route(champion=77), Route(champion=78))):
        found = scored(server.settings, CANDIDATES[:5], routes=lambda routes=routes: routes)
        assert (found.source, found.fallback, found.student_version) == ("lexical", True, "lexical")
        assert found.reason
    # Towers alone serve an arm that has no interaction student, and that is said.
    found = scored(server.settings, CANDIDATES[:5], routes=lambda: Routes(representation=Route(champion=3)))
    assert (found.source, found.student_version) == ("towers", "representation-3")


def test_a_killed_server_is_bridged_by_the_fallback(server: Serving) -> None:
    items = {
        each.item_id: Item(
            item_id=each.item_id, title=each.text, brand="", category=(), attributes={}, price=1.0
        )
        for each in CANDIDATES
    }
    lexical = lexical_of(LexicalScorer(items.values()), items.__getitem__)
    settings = server.settings.model_copy(
        update={"scoring": server.settings.scoring.model_copy(update={"deadline_ms": PATIENT_MS})}
    )

    def make() -> ScoringClient:
        return ScoringClient(
            settings,
            routes=lambda: routes_at_hand(settings),
            vectors=VectorTables(versions_of(settings)),
            lexical=lexical,
        )

    with ScoringLoop(settings, make) as loop:
        scorer = TritonScorer(loop, treatment=False, texts=lambda item: item.title)
        listed = list(items.values())
        assert len(scorer.score("red kettle", listed)) == 120
        assert (scorer.version, scorer.fell_back) == ("interaction-1+representation-3", False)
        pid = server.ready().pid
        # Nobody starts another one until both fallbacks were seen, however slow the machine.
        with server.paused():
            os.kill(pid, signal.SIGKILL)
            # The scorer raises if the answer comes later than its deadline.
            assert len(scorer.score("red kettle", listed)) == 120
            assert (scorer.version, scorer.fell_back) == ("last-known", True)
            assert scorer.score("steel", listed) == pytest.approx(lexical("steel", CANDIDATES), abs=1e-6)
            assert (scorer.version, scorer.fell_back) == ("lexical", True)
        server.ready(other_than=pid)
        until_s = time.monotonic() + RECOVERS_WITHIN_S
        while scorer.fell_back and time.monotonic() < until_s:
            scorer.score("red kettle", listed)
        assert scorer.version == "interaction-1+representation-3"
        assert loop.counters["fallbacks"] >= 2
        # Which one depends on what the connection notices first.
        assert sum(loop.counters[name] for name in loop.counters if name.startswith("error_")) >= 2


def test_the_shops_engine_is_scored_by_the_students_of_its_arms(server: Serving, broker: str) -> None:
    settings = server.settings.model_copy(
        update={
            "kafka": broker,
            "shop": server.settings.shop.model_copy(update={"items": 300, "queries": 50}),
            "scoring": server.settings.scoring.model_copy(update={"deadline_ms": PATIENT_MS}),
        }
    )
    with server.publisher() as publisher:
        announce(settings, publisher.ledger)
    shop = open_shop(settings.shop)
    engine = build_engine(settings, shop)
    lexical = LexicalScorer(shop.items.values())
    with StudentArms(settings, broker, items=shop.items, lexical=lexical) as arms:
        engine.score_with(control=arms.control, treatment=arms.treatment)
        expected = {"control": "interaction-1", "treatment": "interaction-2"}
        for shopper in range(8):
            page = engine.search(shop.queries[shopper].text, f"shopper {shopper}")
            if page.placements:
                assert expected[page.arms["ranking"]] in page.student_version
                # The items of this shop have no vectors yet, so many candidates are a fallback, and it is said.
                few = len(engine.candidates(page.query)) <= settings.scoring.interaction_candidates
                assert page.fallback is not few
        assert arms.loop.counters["queries"] > 0
        assert engine.failures == 0


def test_arms_are_those_of_the_experiment(server: Serving) -> None:
    """Shoppers' arms decide the version, and a promotion in between changes whole answers, never half of one."""
    versions = {True: "interaction-2", False: "interaction-1"}

    async def work(client: ScoringClient) -> None:
        for shopper in range(20):
            arm = assign(
                experiment="ranking",
                unit=str(shopper),
                salt="",
                arms=[("control", 0.5), ("treatment", 0.5)],
            )
            treatment = arm == "treatment"
            found = await client.score("tea pot", CANDIDATES[:3], treatment=treatment, deadline_ms=PATIENT_MS)
            assert found.student_version == versions[treatment]

    with_client(server.settings, work)


def test_steps_reach_the_topic_and_clickhouse_once_each(
    server: Serving, broker: str, embedded_client: Client
) -> None:
    settings = server.settings.model_copy(update={"kafka": broker})
    with server.publisher() as publisher:
        steps = publisher.ledger.steps()
        announce(settings, publisher.ledger)
        assert announce(settings, publisher.ledger) == 0
    reader = RouteReader(settings, broker)
    try:
        assert reader.read() == routes_at_hand(settings)
        with server.publisher() as publisher:
            publisher.pin("interaction", pinned=True)
            announce(settings, publisher.ledger)
        assert reader.read().interaction.pinned
    finally:
        reader.close()
    # An engine follows: vectors are read before a version is routed to.
    prepared: list[int] = []
    with RouteFollower(settings, broker, prepare=prepared.append, every_s=0.1) as follower:
        assert follower() == routes_at_hand(settings)
        assert prepared == [3, 4]
        with server.publisher() as publisher:
            publisher.pin("interaction", pinned=False)
            announce(settings, publisher.ledger)
        until_s = time.monotonic() + RECOVERS_WITHIN_S
        while follower().interaction.pinned and time.monotonic() < until_s:
            time.sleep(0.05)
        assert follower() == routes_at_hand(settings)
        assert follower.trouble == ""
    consumer = KafkaConsumer(
        STUDENTS, bootstrap_servers=broker, auto_offset_reset="earliest", consumer_timeout_ms=15_000
    )
    read = [msgspec.json.decode(record.value, type=StudentStep) for record in consumer]
    consumer.close()
    assert [step.step_id for step in read][-1] == len(steps) + 2
    embedded_client.command("TRUNCATE TABLE student_versions")
    lines = b"\n".join(msgspec.json.encode(row_of(step)) for step in [*steps, *steps])
    embedded_client.raw_insert("student_versions", insert_block=lines, fmt="JSONEachRow")
    rows = embedded_client.query(
        "SELECT student_version, step, champion FROM student_versions FINAL ORDER BY step_id"
    ).result_rows
    assert rows[:2] == [("interaction-1", "published", 1), ("interaction-2", "published", 1)]
    assert len(rows) == len(steps)
