"""A small generated shop that the tests share."""

from __future__ import annotations

import pytest

from ops.settings import Settings, load
from ops.shop.retrieval import Retriever
from ops.shop.shop import Shop, open_shop


@pytest.fixture(scope="session")
def small_settings() -> Settings:
    """Return settings of a shop that is built in a moment."""
    return load({"RELEVANCE_SHOP__ITEMS": "3000", "RELEVANCE_SHOP__QUERIES": "600"})


@pytest.fixture(scope="session")
def small_shop(small_settings: Settings) -> Shop:
    """Return that shop."""
    return open_shop(small_settings.shop)


@pytest.fixture(scope="session")
def small_retriever(small_shop: Shop) -> Retriever:
    """Return an index of that shop's items."""
    return Retriever(small_shop.items.values())
