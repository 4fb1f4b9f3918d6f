"""The records that cross a topic. Other folders import this module and nothing else of `streams`.

Two kinds of value travel on the topics. Single records are JSON objects of the types below. Rows for
ClickHouse travel as *row blocks*: one Kafka message holds many JSON lines for one table, so that a worker
pays the price of a message once per few hundred rows (see `streams.rows`).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Action(StrEnum):
    """What a shopper did, in the project's words; every other action is kept as OTHER."""

    IMPRESSION = "impression"
    CLICK = "click"
    ADD_TO_CART = "add_to_cart"
    PURCHASE = "purchase"
    OTHER = "other"


class TrafficClass(StrEnum):
    """Where a query stands by share of traffic; UNKNOWN until its query event has been seen."""

    HEAD = "head"
    TORSO = "torso"
    TAIL = "tail"
    UNKNOWN = "unknown"


class EngagementReads(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What an ad engine read of the feature store's pair engagement for the items it showed: in each list one element
    an item, in the order of `item_ids`. An ad engine adds it to `query_attributes` as `features`.

    `served_us` is when the page was made; the online store was asked at `read_us` and had answered by `answered_us`,
    None where it did not. `as_of_us` and the features are None where the pair has none. Times are microseconds since
    the epoch.
    """

    served_us: int
    item_ids: list[str]
    read_us: list[int | None]
    answered_us: list[int | None]
    as_of_us: list[int | None]
    impressions: list[int | None]
    clicks: list[int | None]
    purchases: list[int | None]
    expected_clicks: list[float | None]
    coec: list[float | None]


class Query(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A search: one record of `ubi.queries`, typed.

    `event_id` is a UUID made from the record's content, so a duplicate has the same one.
    `timestamp_ms` is event time in epoch milliseconds (UTC). `arms` maps experiment name to arm.
    `latency_ms` is the engine's own time to score and rank; `fallback` is true if it had to do without its model.
    `features` is what it read of the feature store, None if it did not.
    """

    event_id: str
    query_id: str
    application: str
    client_id: str
    session_id: str
    query: str
    timestamp_ms: int
    arms: dict[str, str]
    student_version: str
    latency_ms: float | None
    fallback: bool
    features: EngagementReads | None = None


class Interaction(msgspec.Struct, frozen=True, gc=False, kw_only=True, array_like=True):
    """Something a shopper did or was shown: one record of `ubi.events`, typed.

    `position` counts from 1; 0 means that the record did not say. `action_name` is the word the client used.
    `score` is the relevance score in [0, 1] that ranked the item, `bid` and `revenue` are in the shop's currency.
    Encoded as an array, since clicks are kept with their page.
    """

    event_id: str
    action: Action
    action_name: str
    query_id: str
    application: str
    client_id: str
    session_id: str
    item_id: str
    position: int
    timestamp_ms: int
    query: str
    score: float | None
    bid: float | None
    revenue: float
    quantity: int
    student_version: str


class EngagementDelta(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What one event adds to a pair's engagement window. Counts are >= 0; `position` counts from 1, 0 where
    it is not known. `query` is normalised, `searches` how often it was searched of late and `traffic_class` what
    that makes it, as the worker's sketch has it; `score` is the relevance score in [0, 1] of an impression that had
    one."""

    query: str
    item_id: str
    window_start_s: int
    position: int
    impressions: int = 0
    clicks: int = 0
    purchases: int = 0
    score: float | None = None
    searches: int = 0
    traffic_class: str = TrafficClass.UNKNOWN.value


class ItemEngagement(msgspec.Struct, gc=False, array_like=True):
    """One item's counts in one window of one query. COEC is clicks / expected_clicks; `scored` of the impressions had
    a relevance score, `score_sum` in all."""

    item_id: str
    impressions: int = 0
    clicks: int = 0
    purchases: int = 0
    expected_clicks: float = 0.0
    scored: int = 0
    score_sum: float = 0.0


class EngagementWindow(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """All items' engagement under one normalised query in one window, as of `updated_ms`: a record of
    `engagement.windows`, keyed by the query; it replaces earlier ones of the same query and window. `searches` is how
    often the query was searched of late, 0 if not known, `traffic_class` what that makes it."""

    query: str
    window_start_s: int
    window_s: int
    updated_ms: int
    items: list[ItemEngagement]
    searches: int = 0
    traffic_class: str = TrafficClass.UNKNOWN.value


class QueryStatistics(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What is known of a normalised query as of `known_ms`: a record of `queries.statistics`, keyed by the query; it
    replaces earlier ones. `frequency` counts searches in the present and the previous frequency window,
    `teacher_coverage` in [0, 1] is the share of the items shown in them that the teacher has judged under it."""

    query: str
    frequency: int
    traffic_class: str
    teacher_coverage: float
    known_ms: int


class ShopperHistory(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a shopper had done outside the experiment as of `known_ms`: a record of `shoppers.history`, keyed by
    client id; it replaces earlier ones. `clicks` are clicked impressions, `conversions` purchases that follow from
    one."""

    client_id: str
    impressions: int
    clicks: int
    conversions: int
    known_ms: int


class ExperimentState(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Whether an experiment runs. Key: the experiment's name, on a compacted topic. `state` is `running` or
    `stopped`; a stopped experiment's shoppers all get the control arm."""

    experiment: str
    state: str
    reason: str
    since_ms: int


class CatalogueItem(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An item as its seller offers it now: a record of the compacted topic `catalogue.items`, keyed by item id.

    `category` runs from the department down; `price` is in the shop's currency, None if not given. Of two records
    the one with the later `updated_ms` holds; of equals the first. An empty value takes the item out of the shop.
    """

    item_id: str
    title: str
    brand: str = ""
    category: tuple[str, ...] = ()
    attributes: dict[str, str] = {}
    price: float | None = None
    updated_ms: int


class Pair(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A pair to judge: a record of `relevance.pairs`, keyed by the query.

    `query` and `item_text` are cleaned (`streams.item_text`), `content_hash` names the item text. `reasons` holds
    each term of the sampling priority; after `deadline_ms` (epoch milliseconds) nobody waits for it any more.
    `traffic_class` is the query's when it was sampled, empty where nobody told it.
    """

    query: str
    item_id: str
    item_text: str
    content_hash: str
    reasons: dict[str, float]
    sampled_ms: int
    deadline_ms: int
    traffic_class: str = ""


class SubtaskVerdict(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the chain of thought found in one subtask. `verdict` is match, mismatch or unstated.

    The words are quoted from query and item text, empty for none; the spans are half-open intervals of characters
    in these texts, None where there are no words or they could not be located.
    """

    subtask: str
    verdict: str
    query_words: str
    item_words: str
    query_span: tuple[int, int] | None
    item_span: tuple[int, int] | None


class Judgement(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The teacher's grade of a pair: a record of `relevance.judgements`, keyed by the query.

    Its identity is (query, item_id, content_hash, teacher_id, prompt_hash). `grades` maps each grade's label to
    its probability (they sum to 1), `grade` is the likeliest label, `relevance_score` in [0, 1] the expectation of
    the grades' gains. `unlocated` counts quoted words that stand in neither text. `traffic_class` of the query and
    `sampled_ms` of the pair are empty and 0 where nobody told them.
    """

    query: str
    item_id: str
    item_text: str
    content_hash: str
    teacher_id: str
    prompt_hash: str
    grades: dict[str, float]
    grade: str
    relevance_score: float
    verdicts: list[SubtaskVerdict]
    unlocated: int
    chain_of_thought: str
    latency_ms: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    judged_ms: int
    traffic_class: str = ""
    sampled_ms: int = 0


class StudentStep(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A step in the life of a student's version: a record of the compacted topic `relevance.students`, keyed by kind.

    `kind` is interaction or representation, `version` its number (from 1, never used again), `parent` that of the
    version it was trained from (0: none). `step` is exported (no server was known), published, refused, promoted,
    rolled_back, pinned, unpinned or retired. `offsets` are the judgements that the version has seen (the next offset
    of each "topic/partition"), `gate` the figures it was let through with, `decision` the reason in words. A version
    is promoted to champion or to challenger; a rolled back one is champion again, or challenger no more.

    What holds after the step stands in every record, so a kind's last one says which version scores which arm:
    `champion` the control, `challenger` the treatment (0: none; then the champion does), `previous` the champion
    before. A pinned champion stays until it is unpinned. `step_id` counts the repository's steps from 1.
    """

    step_id: int
    step: str
    kind: str
    version: int
    parent: int
    offsets: dict[str, int]
    gate: dict[str, float]
    decision: str
    champion: int
    challenger: int
    previous: int
    pinned: bool
    at_ms: int
