"""Attribution: which impression a click or a conversion belongs to, whatever the order of arrival.

A *page* is what is known of one `query_id`: its query, what was shown, what was done. Each observation gives the
rows that it makes or mends. A row is emitted at once with what is known, and again, with a higher `version`, when
a late query or impression says more; ClickHouse keeps the highest. So nothing waits, and nothing is lost.

`version` = (1 if the query is known) + (2 if the impression is known) + 4 * (number of later corrections).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from streams.normalise import normalise_query
from streams.records import Action, EngagementDelta, EngagementReads, Interaction, Query, TrafficClass
from streams.rows import NIL_UUID

QUERY_KNOWN = 1
IMPRESSION_KNOWN = 2
CORRECTION = 4
MAX_VERSION = 255
#: A page holds at most so many impressions, and so many clicks and conversions; beyond, rows are still emitted.
MAX_SHOWN = 2000
MAX_ACTS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """How long after an impression a click and a conversion count, and how far clocks may disagree."""

    click_ms: int
    conversion_ms: int
    skew_ms: int
    engagement_s: int


class Context(msgspec.Struct, array_like=True, gc=False):
    """What the query says about everything on its page."""

    query_event_id: str
    normalised_query: str
    traffic_class: str
    arms: dict[str, str]
    student_version: str
    searches: int = 1


class Shown(msgspec.Struct, array_like=True, gc=False):
    """One impression of an item."""

    event_id: str
    position: int
    at_ms: int


class Act(msgspec.Struct, array_like=True, gc=False):
    """A click or conversion with the attribution last emitted. `counted`: in the engagement windows."""

    event: Interaction
    impression_id: str
    attribution: str
    version: int
    counted: bool = False


class Page(msgspec.Struct, array_like=True, gc=False):
    """Everything known of one query_id. Times in epoch milliseconds; `touched_ms` is processing time."""

    opened_ms: int
    touched_ms: int
    context: Context | None = None
    shown: dict[str, list[Shown]] = {}
    acts: list[Act] = []
    without_context: list[Interaction] = []

    def keep_until_ms(self, *, conversion_ms: int, lateness_ms: int) -> int:
        """Return when the page may be let go: its windows over and untouched for the allowed lateness."""
        return max(self.touched_ms, self.opened_ms + conversion_ms) + lateness_ms


@dataclass(slots=True)
class Emitted:
    """Rows by table and engagement deltas that observations gave; `overflowed` acts were not kept."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    deltas: list[EngagementDelta] = field(default_factory=list)
    overflowed: int = 0

    def add(self, table: str, row: dict[str, Any]) -> None:
        """Append a row of a table."""
        rows = self.rows.get(table)
        if rows is None:
            self.rows[table] = [row]
        else:
            rows.append(row)


_UNKNOWN = Context("", "", TrafficClass.UNKNOWN.value, {}, "")


def observe_query(
    page: Page,
    query: Query,
    traffic_class: TrafficClass,
    *,
    windows: Windows,
    out: Emitted,
    searches: int = 1,
) -> None:
    """Add a search to its page. The first query of a page gives the context; rows that lacked it are mended.
    `searches` is how often the query was searched of late, this time included."""
    context = Context(
        query.event_id,
        normalise_query(query.query),
        traffic_class.value,
        query.arms,
        query.student_version,
        searches,
    )
    out.add("queries", _query_row(query, context))
    for experiment, arm in query.arms.items():
        out.add("exposures", _exposure_row(query, context, experiment, arm))
    if query.features is not None:
        out.add("feature_reads", _feature_reads_row(query, context, query.features))
    page.opened_ms = min(page.opened_ms, query.timestamp_ms)
    if page.context is not None:
        return
    page.context = context
    waiting, page.without_context = page.without_context, []
    for interaction in waiting:
        _emit_impression(interaction, context, windows, out)
    for act in page.acts:
        _emit_act(page, act, windows, out, force=True)


def observe(page: Page, interaction: Interaction, *, windows: Windows, out: Emitted) -> None:
    """Add an event to its page."""
    page.opened_ms = min(page.opened_ms, interaction.timestamp_ms)
    if interaction.action is Action.IMPRESSION:
        _observe_impression(page, interaction, windows, out)
    elif interaction.action is Action.OTHER:
        out.add("interactions", interaction_row(interaction))
    else:
        _observe_act(page, interaction, windows, out)


def interaction_row(interaction: Interaction) -> dict[str, Any]:
    """Return the row of an event whose action is none that is measured."""
    return {
        "event_id": interaction.event_id,
        "action_name": interaction.action_name,
        "query_id": interaction.query_id,
        "item_id": interaction.item_id,
        "application": interaction.application,
        "client_id": interaction.client_id,
        "session_id": interaction.session_id,
        "event_time": interaction.timestamp_ms,
        "version": QUERY_KNOWN | IMPRESSION_KNOWN,
    }


def _observe_impression(page: Page, interaction: Interaction, windows: Windows, out: Emitted) -> None:
    item_id = interaction.item_id
    shown = page.shown.get(item_id)
    seen = shown is not None and any(one.event_id == interaction.event_id for one in shown)
    context = page.context
    if context is None and not seen:
        if len(page.without_context) < MAX_SHOWN:
            page.without_context.append(interaction)
        else:
            out.overflowed += 1
    _emit_impression(interaction, context, windows, out, count=not seen)
    if seen or not item_id:
        return
    if len(page.shown) >= MAX_SHOWN:
        out.overflowed += 1
        return
    one = Shown(interaction.event_id, interaction.position, interaction.timestamp_ms)
    if shown is None:
        page.shown[item_id] = [one]
    else:
        shown.append(one)
    for act in page.acts:
        if act.event.item_id == item_id:
            _emit_act(page, act, windows, out, force=False)


def _observe_act(page: Page, interaction: Interaction, windows: Windows, out: Emitted) -> None:
    for act in page.acts:
        if act.event.event_id == interaction.event_id:
            _emit_act(page, act, windows, out, force=True)
            return
    act = Act(interaction, NIL_UUID, "", 0)
    if len(page.acts) < MAX_ACTS:
        page.acts.append(act)
    else:
        out.overflowed += 1
    _emit_act(page, act, windows, out, force=True)


def _emit_impression(
    interaction: Interaction, context: Context | None, windows: Windows, out: Emitted, *, count: bool = True
) -> None:
    row = _dimensions(interaction, context)
    row["score"] = interaction.score
    row["bid"] = interaction.bid
    row["version"] = IMPRESSION_KNOWN | (QUERY_KNOWN if context else 0)
    out.add("impressions", row)
    if context is not None and count:
        out.deltas.append(
            EngagementDelta(
                query=context.normalised_query,
                item_id=interaction.item_id,
                window_start_s=_window_start(interaction.timestamp_ms, windows),
                position=interaction.position,
                impressions=1,
                score=interaction.score,
                searches=context.searches,
                traffic_class=context.traffic_class,
            )
        )


def _emit_act(page: Page, act: Act, windows: Windows, out: Emitted, *, force: bool) -> None:
    event = act.event
    impression = _impression_of(page, event, windows)
    impression_id, attribution, delay_ms = NIL_UUID, "no_impression", 0
    if impression is not None:
        impression_id = impression.event_id
        delay_ms = event.timestamp_ms - impression.at_ms
        window_ms = windows.click_ms if event.action is Action.CLICK else windows.conversion_ms
        attribution = "impression" if delay_ms <= window_ms else "too_late"
    changed = (impression_id, attribution) != (act.impression_id, act.attribution)
    if not (force or changed):
        return
    known = (QUERY_KNOWN if page.context else 0) | (IMPRESSION_KNOWN if impression else 0)
    act.version = _next_version(act.version, known, changed=changed)
    act.impression_id, act.attribution = impression_id, attribution

    row = _dimensions(event, page.context)
    if impression is not None and not event.position:
        row["position"] = impression.position
    row["impression_id"] = impression_id
    row["attribution"] = attribution
    row["delay_ms"] = delay_ms
    row["version"] = act.version
    if event.action is Action.CLICK:
        out.add("clicks", row)
    else:
        row["kind"] = event.action.value
        row["revenue"] = event.revenue
        row["quantity"] = event.quantity
        out.add("conversions", row)
    if page.context is not None and attribution == "impression" and not act.counted:
        act.counted = True
        _count_act(page.context, event, row["position"], windows, out)


def _next_version(version: int, known: int, *, changed: bool) -> int:
    corrections = version - version % CORRECTION
    if changed and version and known <= version % CORRECTION:
        corrections += CORRECTION
    return min(corrections + known, MAX_VERSION)


def _count_act(context: Context, event: Interaction, position: int, windows: Windows, out: Emitted) -> None:
    clicks = int(event.action is Action.CLICK)
    purchases = int(event.action is Action.PURCHASE)
    if clicks or purchases:
        out.deltas.append(
            EngagementDelta(
                query=context.normalised_query,
                item_id=event.item_id,
                window_start_s=_window_start(event.timestamp_ms, windows),
                position=position,
                clicks=clicks,
                purchases=purchases,
                searches=context.searches,
                traffic_class=context.traffic_class,
            )
        )


def _impression_of(page: Page, event: Interaction, windows: Windows) -> Shown | None:
    """Return the latest impression of the item that is not after the event, clocks' skew allowed."""
    latest = event.timestamp_ms + windows.skew_ms
    candidates = [one for one in page.shown.get(event.item_id, ()) if one.at_ms <= latest]
    return max(candidates, key=lambda one: (one.at_ms, one.event_id), default=None)


def _window_start(timestamp_ms: int, windows: Windows) -> int:
    return timestamp_ms // 1000 // windows.engagement_s * windows.engagement_s


def _dimensions(event: Interaction, context: Context | None) -> dict[str, Any]:
    known = context or _UNKNOWN
    return {
        "event_id": event.event_id,
        "query_id": event.query_id,
        "item_id": event.item_id,
        "position": event.position,
        "application": event.application,
        "client_id": event.client_id,
        "session_id": event.session_id,
        "normalised_query": known.normalised_query if context else normalise_query(event.query),
        "traffic_class": known.traffic_class,
        "arms": known.arms,
        "student_version": event.student_version or known.student_version,
        "event_time": event.timestamp_ms,
    }


def _query_row(query: Query, context: Context) -> dict[str, Any]:
    return {
        "event_id": query.event_id,
        "query_id": query.query_id,
        "application": query.application,
        "client_id": query.client_id,
        "session_id": query.session_id,
        "query": query.query,
        "normalised_query": context.normalised_query,
        "traffic_class": context.traffic_class,
        "arms": query.arms,
        "student_version": query.student_version,
        "latency_ms": query.latency_ms,
        "fallback": query.fallback,
        "event_time": query.timestamp_ms,
        "version": QUERY_KNOWN | IMPRESSION_KNOWN,
    }


def _exposure_row(query: Query, context: Context, experiment: str, arm: str) -> dict[str, Any]:
    return {
        "event_id": query.event_id,
        "experiment": experiment,
        "arm": arm,
        "client_id": query.client_id,
        "query_id": query.query_id,
        "traffic_class": context.traffic_class,
        "student_version": query.student_version,
        "event_time": query.timestamp_ms,
        "version": QUERY_KNOWN | IMPRESSION_KNOWN,
    }


def _feature_reads_row(query: Query, context: Context, reads: EngagementReads) -> dict[str, Any]:
    return {
        "event_id": query.event_id,
        "query_id": query.query_id,
        "normalised_query": context.normalised_query,
        **msgspec.structs.asdict(reads),
        "event_time": query.timestamp_ms,
        "version": QUERY_KNOWN | IMPRESSION_KNOWN,
    }
