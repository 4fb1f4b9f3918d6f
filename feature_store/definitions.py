"""Entities, feature views and push sources: what the feature store holds, for how long, and who pushes it.

A pair is a view with two entities, query and item. Vectors of different students never mix, because the student's
version is part of their key. Every view has `as_of_us`, the row's event time in microseconds since the epoch: the
online store in sqlite keeps whole seconds only, and an audit must know exactly which row was served.

Feast's historical reads honour a view's time to live, its online reads don't; `feature_store.reader` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureView, Field, FileSource, PushSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Array, Bool, Bytes, Float32, Float64, Int64, String

PROJECT = "relevance"
AS_OF = "as_of_us"
EVENT_TIME = "event_timestamp"
CREATED = "created_timestamp"

ITEM_CONTENT = "item_content"
ITEM_VECTORS = "item_vectors"
PAIR_ENGAGEMENT = "pair_engagement"
QUERY_STATISTICS = "query_statistics"
SHOPPER_SEGMENT = "shopper_segment"

#: Content and vectors hold until they are replaced: a vector is tied to a version and a content hash, not to time.
NEVER_EXPIRES = timedelta(0)
DAY = timedelta(days=1)
#: The frequency sketch forgets over one to two of its windows; so a statement about a query is void after two.
STATISTICS_WINDOWS = 2
#: Covariates are fixed before an experiment and needed as long as it runs.
SEGMENT_TTL = timedelta(days=60)


@dataclass(frozen=True, slots=True)
class Definitions:
    """Everything that `feast apply` registers; push sources come with their views."""

    query: Entity
    item: Entity
    student: Entity
    shopper: Entity
    item_content: FeatureView
    item_vectors: FeatureView
    pair_engagement: FeatureView
    query_statistics: FeatureView
    shopper_segment: FeatureView

    @property
    def views(self) -> dict[str, FeatureView]:
        """Return every view by name."""
        views = (
            self.item_content,
            self.item_vectors,
            self.pair_engagement,
            self.query_statistics,
            self.shopper_segment,
        )
        return {view.name: view for view in views}

    def objects(self) -> Sequence[Entity | FeatureView]:
        """Return what `FeatureStore.apply` takes."""
        return [self.query, self.item, self.student, self.shopper, *self.views.values()]


def define(offline: Path, *, engagement: timedelta, frequency: timedelta) -> Definitions:
    """Return the definitions with their parquet files in folder `offline`, one folder a view.

    `engagement` is how far back engagement is summed: a pair without events for so long has no engagement.
    `frequency` is the window of the query-frequency sketch. Times to live beyond a day are rounded up to whole days:
    Feast's reads of the past fail on days and seconds together.
    """

    def view(
        name: str, entities: list[Entity], ttl: timedelta, features: list[Field], description: str
    ) -> FeatureView:
        batch = FileSource(
            name=f"{name}_history",
            path=str(offline / name),
            file_format=ParquetFormat(),
            timestamp_field=EVENT_TIME,
            created_timestamp_column=CREATED,
        )
        return FeatureView(
            name=name,
            entities=entities,
            ttl=_whole_days(ttl),
            schema=[
                *(Field(name=entity.join_key, dtype=String) for entity in entities),
                *features,
                Field(name=AS_OF, dtype=Int64, description="event time, microseconds since the epoch"),
            ],
            source=PushSource(name=f"{name}_push", batch_source=batch),
            description=description,
        )

    query = _entity("query", "query", "a normalised query (streams.normalise)")
    item = _entity("item", "item_id", "a product or ad")
    student = _entity("student", "student_version", "a version of a student model")
    shopper = _entity("shopper", "client_id", "a shopper, by the id their client sends")
    return Definitions(
        query=query,
        item=item,
        student=student,
        shopper=shopper,
        item_content=view(
            ITEM_CONTENT,
            [item],
            NEVER_EXPIRES,
            [
                Field(name="text", dtype=String, description="as teacher and students read it"),
                Field(name="brand", dtype=String),
                Field(name="category", dtype=String, description="from the department down, ' / ' between"),
                Field(name="attributes", dtype=String, description="JSON object of the known attributes"),
                Field(name="content_hash", dtype=String, description="names this text"),
                Field(name="listed", dtype=Bool, description="false once the shop took the item out"),
            ],
            "What an item's offer says, from the topic catalogue.items",
        ),
        item_vectors=view(
            ITEM_VECTORS,
            [item, student],
            NEVER_EXPIRES,
            [
                Field(name="vector", dtype=Array(Float32)),
                Field(name="content_hash", dtype=String, description="of the text that was encoded"),
            ],
            "The representation student's vector of an item; one version's vectors never answer for another's",
        ),
        pair_engagement=view(
            PAIR_ENGAGEMENT,
            [query, item],
            engagement,
            [
                Field(name="impressions", dtype=Int64, description="over all windows kept"),
                Field(name="clicks", dtype=Int64),
                Field(name="purchases", dtype=Int64),
                Field(name="expected_clicks", dtype=Float64, description="of impressions at these positions"),
                Field(name="coec", dtype=Float64, description="clicks / expected clicks; none if 0 expected"),
                Field(name="window_start_s", dtype=Int64, description="the latest window's"),
                Field(name="latest_impressions", dtype=Int64, description="in the latest window"),
                Field(name="latest_clicks", dtype=Int64),
                Field(name="latest_purchases", dtype=Int64),
                Field(name="latest_expected_clicks", dtype=Float64),
                Field(name="latest_coec", dtype=Float64),
                Field(name="windows", dtype=Bytes, description="counts by window: what the sums are made of"),
            ],
            "How shoppers took to an item under a query, from the topic engagement.windows",
        ),
        query_statistics=view(
            QUERY_STATISTICS,
            [query],
            STATISTICS_WINDOWS * frequency,
            [
                Field(
                    name="frequency", dtype=Int64, description="estimated searches over the sketch's windows"
                ),
                Field(name="traffic_class", dtype=String, description="head, torso or tail"),
                Field(
                    name="teacher_coverage", dtype=Float64, description="share of shown pairs judged, [0, 1]"
                ),
            ],
            "How frequent a query is and how much of it the teacher has judged",
        ),
        shopper_segment=view(
            SHOPPER_SEGMENT,
            [shopper],
            SEGMENT_TTL,
            [
                Field(name="history_impressions", dtype=Int64, description="before the experiment"),
                Field(name="history_clicks", dtype=Int64),
                Field(name="history_conversions", dtype=Int64),
                Field(name="segment", dtype=String, description="browser, clicker or buyer"),
            ],
            "What a shopper did before an experiment: covariates that explain and cannot bias",
        ),
    )


def _whole_days(ttl: timedelta) -> timedelta:
    return ttl if ttl < DAY else DAY * -(-ttl // DAY)


def _entity(name: str, join_key: str, description: str) -> Entity:
    return Entity(name=name, join_keys=[join_key], value_type=ValueType.STRING, description=description)
