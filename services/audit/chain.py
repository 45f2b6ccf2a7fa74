"""The canonical text and the hash of an audit event. Pure: no clock, no database.

The hash covers the previous event's hash, so the next event shows that one was altered, removed or inserted.
The text of the mutations is stored as it was hashed and never formatted again, so a newer library cannot make
an unaltered row look altered.
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
"""Version of the canonical text. Files name it; a verifier refuses an unknown version."""

FIRST_PREV_HASH = "0" * 64
"""The ``prev_hash`` of a chain's first event."""

_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME


class Mutation(NamedTuple):
    """The change of one row. ``before`` and ``after`` have the changed columns; None: there was or is no row.

    A named tuple, because thousands are made per second.
    """

    table_name: str
    row_id: str
    summary: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


class Entry(NamedTuple):
    """A change to append to a chain (``shop_id`` None: the fleet's own).

    ``work_id`` is the item of ``work_queue`` that made it, if any: an item is audited once, also where its
    entry is appended twice.
    """

    shop_id: int | None
    staff_label: str
    action: str
    request_id: str
    mutations: Sequence[Mutation]
    work_id: int | None = None


class AuditEvent(NamedTuple):
    """One event of a chain. ``mutations`` is the canonical text, exactly as stored."""

    shop_id: int | None
    seq: int
    at: datetime
    staff_label: str
    action: str
    request_id: str
    work_id: int | None
    mutations: str


def mutations_text(mutations: Sequence[Mutation]) -> str:
    """Return ``mutations`` in canonical form: UTF-8 JSON in the given order, keys sorted, no spaces.

    Times become text in UTC with microseconds; decimals, dates and ids become text. Raises ``TypeError`` for
    a value without an exact form, and for a NUL character, which PostgreSQL's jsonb cannot store.
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


def event_text(
    shop_id: int | None,
    seq: int,
    at: str,
    staff_label: str,
    action: str,
    request_id: str,
    work_id: int | None,
    mutations: str,
) -> str:
    """Return the canonical text of one event: JSON with sorted keys and no spaces.

    ``at`` is a text of ``to_utc_text``. Writer, verifier and offline verifier all use this function.
    """
    return (
        f'{{"action":{_quoted(action)},"at":"{at}","mutations":{mutations},'
        f'"request_id":{orjson.dumps(request_id).decode()},"seq":{seq},'
        f'"shop_id":{"null" if shop_id is None else shop_id},"staff_label":{_quoted(staff_label)},'
        f'"work_id":{"null" if work_id is None else work_id}}}'
    )


def hash_text(prev_hash: str, text: str) -> str:
    """Return the SHA-256, in hex, of the previous event's hash, a line break, and an event's text."""
    return hashlib.sha256(f"{prev_hash}\n{text}".encode()).hexdigest()


def canonical_text(event: AuditEvent) -> str:
    """Return the canonical text of ``event``."""
    shop_id, seq, at, staff_label, action, request_id, work_id, mutations = event
    return event_text(shop_id, seq, to_utc_text(at), staff_label, action, request_id, work_id, mutations)


def hash_event(prev_hash: str, event: AuditEvent) -> str:
    """Return the hash of ``event`` after the event with ``prev_hash``."""
    return hash_text(prev_hash, canonical_text(event))


@lru_cache(maxsize=1024)
def to_utc_text(at: datetime) -> str:
    """Return an aware time in UTC, always with microseconds, as ``2026-11-21T08:00:00.000000+00:00``.

    Cached: the events of a batch share one time, and equal times have the same text, whatever their zone.
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


@lru_cache(maxsize=1024)
def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()
