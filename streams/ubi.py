"""User Behavior Insights (UBI) as real clients write it, read into typed records or refused with a reason.

Pure and total: any bytes whatsoever give a `Query`, an `Interaction` or a `RejectedRecord`. What is lenient is so
because clients in the field differ (ISO-8601 or epoch timestamps, numbers as ids, null attributes, own names for
a click); what is strict is so because a default filled in here would be measured and learned from later.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import msgspec

from streams.records import Action, EngagementReads, Interaction, Query

MAX_ID_CHARS = 512
MAX_QUERY_CHARS = 4096
MAX_ARMS = 32
MAX_ITEMS_READ = 1000
#: Exact in a double, far beyond any count and any time in microseconds.
MAX_WHOLE = 1 << 53
MAX_POSITION = 65_535
MAX_AMOUNT = 1e12
#: Integers below are epoch seconds, above epoch milliseconds (1e11 ms is 1973, 1e11 s the year 5138).
SECONDS_BELOW = 100_000_000_000
EARLIEST_MS = 946_684_800_000  # 2000-01-01

ACTIONS: Mapping[str, Action] = {
    "impression": Action.IMPRESSION,
    "item_impression": Action.IMPRESSION,
    "product_impression": Action.IMPRESSION,
    "click": Action.CLICK,
    "click_through": Action.CLICK,
    "item_click": Action.CLICK,
    "product_click": Action.CLICK,
    "result_click": Action.CLICK,
    "add_to_cart": Action.ADD_TO_CART,
    "addtocart": Action.ADD_TO_CART,
    "item_add_to_cart": Action.ADD_TO_CART,
    "purchase": Action.PURCHASE,
    "item_purchase": Action.PURCHASE,
    "buy": Action.PURCHASE,
}

_SEPARATORS = re.compile(r"[\s\-]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_decode = msgspec.json.Decoder().decode


class RejectedRecord(Exception):  # noqa: N818 - a refusal is an expected outcome
    """A record that cannot be typed. `reason` is one word for counting, `detail` says what was expected."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be known about the clients: the ordinal of the first result, further names of actions,
    and how far in the future an event may lie."""

    first_position: int = 0
    first_position_of: dict[str, int] = {}
    actions: dict[str, Action] = {}
    max_future_s: float = 300.0


def parse_query(value: bytes | None, *, dialect: Dialect, now_ms: int) -> Query:
    """Type one record of `ubi.queries`. Raises RejectedRecord."""
    record = _object(value)
    attributes = _mapping(record, "query_attributes")
    query_id = _text(record, "query_id", required=True)
    application = _text(record, "application")
    client_id = _text(record, "client_id") or _text(record, "user_id")
    query = _text(record, "user_query", limit=MAX_QUERY_CHARS)
    timestamp_ms = _timestamp(record, now_ms, dialect)
    own_id = _text(attributes, "event_id")
    response_id = _text(record, "query_response_id")
    identity = (own_id,) if own_id else (application, query_id, client_id, timestamp_ms, query, response_id)
    return Query(
        event_id=_event_id("query", identity),
        query_id=query_id,
        application=application,
        client_id=client_id,
        session_id=_text(record, "session_id"),
        query=query,
        timestamp_ms=timestamp_ms,
        arms=_arms(attributes),
        student_version=_text(attributes, "student_version"),
        latency_ms=_number(attributes, "latency_ms"),
        fallback=_flag(attributes, "fallback"),
        features=_features(attributes),
    )


def parse_event(value: bytes | None, *, dialect: Dialect, now_ms: int) -> Interaction:
    """Type one record of `ubi.events`. Raises RejectedRecord."""
    record = _object(value)
    attributes = _mapping(record, "event_attributes")
    target = _mapping(attributes, "object")
    action_name = _text(record, "action_name", required=True)
    action = _action(action_name, dialect)
    application = _text(record, "application")
    query_id = _text(record, "query_id")
    session_id = _text(record, "session_id")
    client_id = _text(record, "client_id") or _text(record, "user_id")
    item_id = _text(target, "object_id") or _text(attributes, "object_id")
    position = _position(attributes, application, dialect)
    timestamp_ms = _timestamp(record, now_ms, dialect)
    own_id = _text(attributes, "event_id")
    message = "" if item_id else _text(record, "message", limit=MAX_QUERY_CHARS)
    identity = (
        (own_id,)
        if own_id
        else (application, query_id, client_id, session_id, item_id, position, timestamp_ms, message)
    )
    quantity = _number(attributes, "quantity")
    return Interaction(
        event_id=_event_id(action_name, identity),
        action=action,
        action_name=action_name,
        query_id=query_id,
        application=application,
        client_id=client_id,
        session_id=session_id,
        item_id=item_id,
        position=position,
        timestamp_ms=timestamp_ms,
        query=_text(record, "user_query", limit=MAX_QUERY_CHARS),
        score=_number(attributes, "score"),
        bid=_number(attributes, "bid"),
        revenue=_revenue(attributes, target, quantity),
        quantity=_quantity(quantity),
        student_version=_text(attributes, "student_version"),
    )


def _object(value: bytes | None) -> dict[str, Any]:
    if not value:
        raise RejectedRecord("empty", "expected a JSON object, got an empty value")
    try:
        record = _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedRecord("not_json", f"expected a JSON object: {str(error)[:200]}") from None
    if type(record) is not dict:
        raise RejectedRecord("not_an_object", f"expected a JSON object, got {type(record).__name__}")
    return record


def _wrong_type(name: str, expected: str, value: object) -> RejectedRecord:
    return RejectedRecord("wrong_type", f"{name}: expected {expected}, got {type(value).__name__}")


def _mapping(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = record.get(name)
    if value is None:
        return {}
    if type(value) is not dict:
        raise _wrong_type(name, "an object or null", value)
    return value


def _text(record: Mapping[str, Any], name: str, *, required: bool = False, limit: int = MAX_ID_CHARS) -> str:
    value = record.get(name)
    if type(value) is not str:
        if value is None:
            value = ""
        elif type(value) is int:
            value = str(value)
        else:
            raise _wrong_type(name, "text", value)
    if len(value) > limit:
        raise RejectedRecord("too_long", f"{name}: expected at most {limit} characters, got {len(value)}")
    if required and not value:
        raise RejectedRecord("missing", f"{name}: expected text, got none")
    return value


def _number(record: Mapping[str, Any], name: str) -> float | None:
    value = record.get(name)
    if value is None:
        return None
    if type(value) is str:
        try:
            value = float(value)
        except ValueError:
            raise _wrong_type(name, "a number", value) from None
    if type(value) is not float and type(value) is not int:
        raise _wrong_type(name, "a number", value)
    if not (math.isfinite(value) and abs(value) <= MAX_AMOUNT):
        raise RejectedRecord("out_of_range", f"{name}: expected a number within ±{MAX_AMOUNT:g}")
    return float(value)


def _flag(record: Mapping[str, Any], name: str) -> bool:
    value = record.get(name, False)
    if type(value) is not bool:
        raise _wrong_type(name, "true or false", value)
    return value


def _action(name: str, dialect: Dialect) -> Action:
    word = ACTIONS.get(name)
    if word is None:
        plain = _SEPARATORS.sub("_", _CAMEL.sub("_", name).strip()).lower()
        word = dialect.actions.get(plain) or ACTIONS.get(plain, Action.OTHER)
    return word


def _position(attributes: Mapping[str, Any], application: str, dialect: Dialect) -> int:
    value = attributes.get("position")
    if type(value) is dict:
        value = value.get("ordinal")
    if value is None:
        return 0
    if type(value) is str and value.isdecimal() and len(value) <= 9:
        value = int(value)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise _wrong_type("position.ordinal", "a whole number", value)
    position = value - dialect.first_position_of.get(application, dialect.first_position) + 1
    if not 1 <= position <= MAX_POSITION:
        raise RejectedRecord("out_of_range", f"position.ordinal: {value} is not a position in a list")
    return position


def _timestamp(record: Mapping[str, Any], now_ms: int, dialect: Dialect) -> int:
    value = record.get("timestamp")
    if type(value) is str and value.isdecimal() and len(value) <= 15:
        value = int(value)
    if type(value) is str:
        milliseconds = _iso_to_ms(value)
    elif (type(value) is int or type(value) is float) and abs(value) < 1e15:
        milliseconds = int(value if abs(value) >= SECONDS_BELOW else value * 1000)
    elif value is None:
        raise RejectedRecord("missing", "timestamp: expected ISO-8601 text or epoch milliseconds, got none")
    else:
        raise _wrong_type("timestamp", "ISO-8601 text or epoch milliseconds", value)
    if milliseconds < EARLIEST_MS:
        raise RejectedRecord("timestamp_too_old", f"timestamp: expected 2000 or later, got {str(value)[:40]}")
    if milliseconds > now_ms + dialect.max_future_s * 1000:
        raise RejectedRecord(
            "timestamp_in_future",
            f"timestamp: {str(value)[:40]} is more than {dialect.max_future_s:g} s in the future",
        )
    return milliseconds


def _iso_to_ms(value: str) -> int:
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise RejectedRecord(
            "bad_timestamp", f"timestamp: expected ISO-8601 or epoch milliseconds, got {value[:40]!r}"
        ) from None


def _arms(attributes: Mapping[str, Any]) -> dict[str, str]:
    arms = _mapping(attributes, "arms")
    if len(arms) > MAX_ARMS:
        raise RejectedRecord("too_long", f"arms: expected at most {MAX_ARMS}, got {len(arms)}")
    for name, arm in arms.items():
        if type(arm) is not str or len(arm) > MAX_ID_CHARS or len(name) > MAX_ID_CHARS:
            raise _wrong_type("arms", "an object of short texts", arm)
    return arms


def _features(attributes: Mapping[str, Any]) -> EngagementReads | None:
    value = attributes.get("features")
    if value is None:
        return None
    try:
        reads = msgspec.convert(value, EngagementReads)
    except msgspec.ValidationError as error:
        raise RejectedRecord("wrong_type", f"features: {str(error)[:200]}") from None
    size = len(reads.item_ids)
    columns = [getattr(reads, name) for name in EngagementReads.__struct_fields__ if name != "served_us"]
    if size > MAX_ITEMS_READ or any(len(column) != size for column in columns):
        lengths = sorted({len(column) for column in columns})
        raise RejectedRecord(
            "out_of_range", f"features: expected lists of one length up to {MAX_ITEMS_READ}, got {lengths}"
        )
    if any(len(item_id) > MAX_ID_CHARS for item_id in reads.item_ids):
        raise RejectedRecord("too_long", f"features: expected ids of at most {MAX_ID_CHARS} characters")
    numbers = [
        reads.served_us,
        *(number for column in columns[1:] for number in column if number is not None),
    ]
    if not all(0 <= number <= MAX_WHOLE for number in numbers):
        raise RejectedRecord("out_of_range", "features: expected numbers in [0, 2**53]")
    rows = (reads.as_of_us, reads.impressions, reads.clicks, reads.purchases, reads.expected_clicks)
    for together in (rows, (reads.read_us, reads.answered_us)):
        if any(len({number is None for number in of_item}) > 1 for of_item in zip(*together, strict=True)):
            raise RejectedRecord("missing", "features: expected a row's numbers all there or all null")
    return reads


def _revenue(attributes: Mapping[str, Any], target: Mapping[str, Any], quantity: float | None) -> float:
    revenue = _number(attributes, "revenue")
    if revenue is None:
        price = _number(attributes, "price")
        if price is None:
            detail = target.get("object_detail")
            price = _number(detail, "price") if type(detail) is dict else None
        revenue = 0.0 if price is None else price * (1.0 if quantity is None else quantity)
    if not 0 <= revenue <= MAX_AMOUNT:
        raise RejectedRecord("out_of_range", "revenue: expected at least 0")
    return revenue


def _quantity(quantity: float | None) -> int:
    if quantity is None:
        return 0
    if not (0 <= quantity <= 1_000_000_000 and quantity == int(quantity)):
        raise RejectedRecord("out_of_range", f"quantity: expected a whole number >= 0, got {quantity:g}")
    return int(quantity)


def _event_id(kind: str, identity: tuple[object, ...]) -> str:
    # JSON keeps ("a", "bc") and ("ab", "c") apart.
    digest = blake2b(msgspec.json.encode((kind, *identity)), digest_size=16).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}"
