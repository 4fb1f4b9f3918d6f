"""Features as they were: for each row of an entity table, what the store knew at that row's moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from feast import FeatureStore

from feature_store.definitions import EVENT_TIME

if TYPE_CHECKING:
    import pandas as pd


def historical(
    store: FeatureStore, entities: pd.DataFrame, features: Sequence[str], *, as_known: bool = True
) -> pd.DataFrame:
    """Return `entities` with the features of each row's moment added, rows in no particular order.

    `entities` has the views' join keys and `event_timestamp` (aware, UTC); `features` are `view:feature`. A row
    gets the newest values not after its moment and not past the view's time to live, else none. With `as_known`
    only rows count that had been written by then, which is what serving read; without it a row that came late
    counts from its event time on.
    """
    # DuckDB takes no nanoseconds. A copy also because Feast changes the frame it is given.
    moments = entities.assign(**{EVENT_TIME: entities[EVENT_TIME].dt.floor("us")})
    job = store.get_historical_features(
        entity_df=moments, features=list(features), filter_by_created_timestamp=as_known
    )
    return job.to_df()
