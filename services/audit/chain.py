"""What an audit event's bytes and hash are. Pure: no clock, no database.

The hash covers the hash before it, so a row altered, removed or put between shows at the next one.
The text of the mutations is stored as it was hashed; nothing is ever formatted twice, so no change of
a library can make an honest row look altered.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import orjson

TEXT_VERSION = 1
"""Version of the canonical text. Files name it; a verifier refuses a version that it does not know."""

FIRST_PREV_HASH = "0" * 64
"""What stands before a chain's first event."""

_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME


class Mutation(NamedTuple):
    """One row changed. ``before`` and ``after`` hold what changed; None where there was or is nothing.

    A named tuple, as thousands a second are made.
    """

    table_name: str
    row_id: str
    summary: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


class Entry(NamedTuple):
    """A change to append to a chain (``shop_id`` None: the fleet's own).

    ``work_id`` is the item of ``work_queue`` that made it, if one did: an item is audited once, however
    often it is told of.
    """

    shop_id: int | None
    staff_label: str
    action: str
    request_id: str
    mutations: Sequence[Mutation]
    work_id: int | None = None


class AuditEvent(NamedTuple):
    """One event at its place in a chain. ``mutations`` is the canonical text, exactly as stored."""

    shop_id: int | None
    seq: int
    at: datetime
    staff_label: str
    action: str
    request_id: str
    work_id: int | None
    mutations: str


def mutations_text(mutations: Sequence[Mutation]) -> str:
    """Return ``mutations`` in their one canonical form: UTF-8 JSON, keys sorted, no spaces, in order.

    Times become text in UTC with microseconds, decimals, dates and ids text. Raises ``TypeError`` for
    what has no exact form, and for a NUL character, which PostgreSQL's jsonb cannot show.
    """
    rows = [
        {"after": m.after, "before": m.before, "row_id": m.row_id, "summary": m.summary,
         "table_name": m.table_name}
        for m in mutations
    ]  # fmt: skip
    text = orjson.dumps(rows, default=_to_text, option=_CANONICAL).decode()
    if "\\u0000" in text:
        raise TypeError("a text with a NUL character cannot be shown by jsonb")
    return text


def canonical_text(event: AuditEvent) -> str:
    """Return the one text of ``event``: JSON with sorted keys and no spaces."""
    return (
        f'{{"action":{_quoted(event.action)},"at":"{to_utc_text(event.at)}","mutations":{event.mutations},'
        f'"request_id":{orjson.dumps(event.request_id).decode()},"seq":{event.seq},'
        f'"shop_id":{_number(event.shop_id)},"staff_label":{_quoted(event.staff_label)},'
        f'"work_id":{_number(event.work_id)}}}'
    )


def hash_event(prev_hash: str, event: AuditEvent) -> str:
    """Return the SHA-256, in hex, of the hash before, a line break, and the event's canonical text."""
    return hashlib.sha256(f"{prev_hash}\n{canonical_text(event)}".encode()).hexdigest()


@lru_cache(maxsize=1024)
def to_utc_text(at: datetime) -> str:
    """Return an aware time in UTC, always with microseconds, as ``2026-11-21T08:00:00.000000+00:00``.

    Remembered, as the events of a set share one time: equal moments have one text, whatever their zone.
    """
    if at.tzinfo is not UTC:
        if at.tzinfo is None:
            raise TypeError(f"{at!r} has no zone")
        at = at.astimezone(UTC)
    return at.isoformat(timespec="microseconds")


def _to_text(value: object) -> object:
    match value:
        case Enum():
            return value.value
        case datetime():
            return to_utc_text(value)
        case date() | UUID() | Decimal():
            return str(value)
        case Mapping():
            return dict(value)
    raise TypeError(f"{type(value).__name__} has no exact form in the audit: write it as text or integer")


def _number(value: int | None) -> str:
    return "null" if value is None else str(value)


@lru_cache(maxsize=1024)
def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()
