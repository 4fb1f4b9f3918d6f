"""Query statistics and shoppers' history as rows: what a statement says, as of the moment when it became known."""

from __future__ import annotations

from feature_store.rows import FeatureRow
from streams.records import QueryStatistics, ShopperHistory


def statistics_row(statement: QueryStatistics) -> FeatureRow:
    """Return the row of `query_statistics`."""
    return FeatureRow(
        key=(statement.query,),
        values={
            "frequency": statement.frequency,
            "traffic_class": statement.traffic_class,
            "teacher_coverage": statement.teacher_coverage,
        },
        event_us=statement.known_ms * 1000,
    )


def segment_row(statement: ShopperHistory) -> FeatureRow:
    """Return the row of `shopper_segment`."""
    return FeatureRow(
        key=(statement.client_id,),
        values={
            "history_impressions": statement.impressions,
            "history_clicks": statement.clicks,
            "history_conversions": statement.conversions,
            "segment": segment(clicks=statement.clicks, conversions=statement.conversions),
        },
        event_us=statement.known_ms * 1000,
    )


def segment(*, clicks: int, conversions: int) -> str:
    """Return what kind of shopper somebody is by what they did.

    >>> segment(clicks=3, conversions=0)
    'clicker'
    """
    return "buyer" if conversions else "clicker" if clicks else "browser"
