"""A feature store in sqlite that the tests of a run share; each test has keys of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from feast import FeatureStore

from feature_store.store import apply
from feature_store.writing import FeatureWriter
from ops.settings import Settings


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return settings whose run directory is the tests' own."""
    return Settings.model_validate({"run_dir": str(tmp_path_factory.mktemp("features"))})


@pytest.fixture(scope="session")
def store(settings: Settings) -> FeatureStore:
    """Return the applied store."""
    return apply(settings)


@pytest.fixture
def writer(settings: Settings, store: FeatureStore) -> Iterator[FeatureWriter]:
    """Yield a writer into the store."""
    writer = FeatureWriter(settings)
    yield writer
    writer.close()
