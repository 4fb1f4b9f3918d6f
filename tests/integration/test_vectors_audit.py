"""The audit of vectors against a real Triton, versions on the disk and a real feature store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_store.audit import Audit
from feature_store.audit_views import StoredRead, audit_view, read_now
from feature_store.definitions import ITEM_VECTORS
from feature_store.online import open_reads
from feature_store.push_log import PushLog
from feature_store.store import apply
from feature_store.writing import FeatureWriter, now_us
from ops import vectors_audit
from ops.features_audit import audit_stored
from ops.scoring import item_vectors
from ops.scoring.item_vectors import ItemVectors
from ops.settings import Settings
from ops.vectors_audit import VectorRead, audit_queries, audit_tables, same_direction
from students.publishing.repository import versions_of
from tests.integration.triton_server import Serving, environment_or_skip, serving
from tests.students.samples import write_small_encoder

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

ITEMS = [(f"i{n}", f"blue mug nova {n}\nbrand: nova") for n in range(40)]
QUERIES = ("red kettle", "blue mug", "<img src=x>'; --", "tea pot " * 30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Yield a server with representation 1 and 2, whose item vectors lie beside them and in the feature store."""
    environment_or_skip()
    encoder = write_small_encoder(tmp_path_factory.mktemp("encoder"))
    with serving(tmp_path_factory.mktemp("run"), encoder) as running:
        apply(running.settings)
        writer = FeatureWriter(running.settings)
        for seed in (1, 2):
            # Untrained heads alone would make the same vectors.
            own = write_small_encoder(tmp_path_factory.mktemp("encoder"), seed=seed)
            folder = replace(running, encoder=own).export("representation", seed=seed)
            table = item_vectors.compute(folder, ITEMS, precision="int8", threads=1)
            item_vectors.save(table, folder)
            _push(writer, table)
            with running.publisher() as publisher:
                publisher.publish(folder)
        writer.close()
        yield running


def _push(writer: FeatureWriter, table: ItemVectors) -> None:
    for rows in item_vectors.rows(table, event_us=time.time_ns() // 1000 - 1_000_000):
        writer.write(ITEM_VECTORS, rows)


def _stored(settings: Settings) -> list[StoredRead]:
    writer = FeatureWriter(settings)
    keys = [(item_id, f"representation-{version}") for item_id, _ in ITEMS for version in (1, 2)]
    with closing(open_reads(settings)) as online:
        reads = read_now(online, writer.definitions.item_vectors, keys, clock_us=now_us)
    writer.close()
    return reads


def _figures(found: Audit[VectorRead]) -> tuple[int, int, int, dict[str, int]]:
    return found.reads, found.equal, found.different, dict(found.not_comparable)


def test_every_kind_of_vector_is_compared(server: Serving) -> None:
    found = {
        each.view: each
        for each in audit_stored(server.settings, queries=[*QUERIES, QUERIES[0]], keys=1000, seed=1)
    }
    for view, reads in (("item_vectors", 80), ("item_vector_tables", 80), ("query_vectors", 8)):
        one = found[view]
        assert (one.reads, one.equal, one.different, one.not_comparable) == (reads, reads, 0, {}), view


def test_a_bit_in_a_table_is_seen_and_what_is_not_comparable_says_why(server: Serving) -> None:
    stored = _stored(server.settings)
    folder = versions_of(server.settings) / "1"
    whole = (folder / item_vectors.FILE).read_bytes()
    table = item_vectors.load(folder)
    assert _figures(audit_tables(server.settings, stored)) == (80, 80, 0, {})
    matrix = table.matrix.copy()
    matrix[7, 0] = np.nextafter(matrix[7, 0], np.float32(np.inf))
    try:
        hashes = ("other", *table.content_hashes[1:-1])
        changed = item_vectors.table(1, table.item_ids[:-1], hashes, matrix[:-1])
        item_vectors.save(changed, folder)
        unknown = replace(stored[0], key=("i0", "representation-77"))
        nothing = replace(stored[0], served=None)
        foreign = replace(stored[0], key=("i0", "../../../etc"))
        found = audit_tables(server.settings, [*stored, unknown, nothing, foreign])
    finally:
        (folder / item_vectors.FILE).write_bytes(whole)
    reasons = {"other_text": 1, "not_in_table": 1, "no_table": 2, "not_read": 1}
    assert _figures(found) == (83, 77, 1, reasons)
    assert found.examples[0].read.key == ("i7", "representation-1")
    assert found.examples[0].expected == stored[14].served["vector"] if stored[14].served else False


def test_a_store_whose_vectors_are_of_another_version_differs(server: Serving, tmp_path: Path) -> None:
    settings = Settings.model_validate({"run_dir": str(tmp_path)})
    store = apply(settings)
    writer = FeatureWriter(settings)
    table = item_vectors.load(versions_of(server.settings) / "1")
    _push(writer, table)
    view = writer.definitions.item_vectors
    with closing(open_reads(settings)) as online:
        reads = read_now(
            online, view, [(item_id, "representation-1") for item_id, _ in ITEMS], clock_us=now_us
        )
    writer.close()
    other = [
        replace(mine, served={**(mine.served or {}), "vector": (theirs.served or {})["vector"]})
        for mine, theirs in zip(reads, _stored(server.settings)[1::2], strict=True)
    ]
    assert audit_view(store, view, PushLog(settings), reads).equal == len(ITEMS)
    assert audit_view(store, view, PushLog(settings), other).different == len(ITEMS)
    # The table of the version is the right one, so these differ from it too.
    assert audit_tables(server.settings, other).different == len(ITEMS)


def test_query_vectors_of_another_version_or_without_a_server(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = audit_queries(server.settings, QUERIES)
    assert _figures(found) == (8, 8, 0, {})
    with monkeypatch.context() as patched:
        # As if the folder of each version held the other's graphs.
        patched.setattr(vectors_audit, "path_of", lambda versions, version: versions / str(3 - version))
        swapped = audit_queries(server.settings, QUERIES)
    assert (swapped.equal, swapped.different) == (0, 8)
    assert len(swapped.examples[0].expected) == len(swapped.examples[0].read.served or ())
    with monkeypatch.context() as patched:
        patched.setattr(vectors_audit, "path_of", lambda versions, version: versions / "missing")
        assert _figures(audit_queries(server.settings, QUERIES)) == (8, 0, 0, {"no_version_here": 8})
    nobody = server.settings.model_copy(update={"triton": "127.0.0.1:1"})
    assert _figures(audit_queries(nobody, QUERIES)) == (8, 0, 0, {"no_server": 8})
    assert _figures(audit_queries(server.settings, [])) == (0, 0, 0, {})


def test_vectors_without_a_direction_are_never_the_same() -> None:
    one = np.array([1.0, 2.0], dtype=np.float32)
    assert same_direction(one, one)
    for other in ([0.0, 0.0], [np.nan, 1.0], [1.0], [-1.0, -2.0]):
        assert not same_direction(one, np.array(other, dtype=np.float32))
