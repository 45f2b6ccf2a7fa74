"""The canonical text and the hash of an audit event. Pure.

The hash covers the previous event's hash, so an altered, removed or inserted event does not match the next.
The text of the mutations is stored as it was hashed and never formatted again, so a newer library cannot make
an unaltered row look altered. Writer, verifier and offline verifier use these functions.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
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

MAX_SEQ = 2**53
"""The highest number of a row: the largest integer that every JSON parser reads exactly."""

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""The escape of a NUL character in JSON, after an even number of backslashes: others are of the text."""

_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME


class Mutation(NamedTuple):
    """The change of one row. ``before`` and ``after`` have the changed columns, or None: no row."""

    table_name: str
    row_id: str
    summary: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


class AuditEntry(NamedTuple):
    """A change to append to a chain (``shop_id`` None: the fleet's own).

    ``work_id`` is the item of ``work_queue`` that made it, if any: an item is audited once, even if its entry
    is appended twice.
    """

    shop_id: int | None
    staff_label: str
    action: str
    request_id: str
    mutations: Sequence[Mutation]
    work_id: int | None = None


RowTuple = tuple[int, str, str, str, str, int | None, str, str, str]
"""The first nine fields of ``ChainRow``, as a cursor or a file returns them."""


class ChainRow(NamedTuple):
    """A stored event of a chain. ``at`` is the text that was hashed, of ``chain.format_utc``."""

    seq: int
    at: str
    staff_label: str
    action: str
    request_id: str
    work_id: int | None
    mutations: str
    prev_hash: str
    hash: str
    id: int | None = None
    """The row's id in the database; None in a file."""


class ChainPosition(NamedTuple):
    """The number and the hash of a row: the last one that is proven."""

    seq: int
    hash: str


BEGINNING = ChainPosition(0, FIRST_PREV_HASH)


def mutations_text(mutations: Sequence[Mutation]) -> str:
    """Return ``mutations`` in canonical form: UTF-8 JSON in the given order, keys sorted, no spaces.

    Times become text in UTC with microseconds; decimals, dates and ids become text. Raises ``TypeError`` for
    a value without an exact form, and for a NUL character, which jsonb cannot store.
    """
    rows = [
        {"after": m.after, "before": m.before, "row_id": m.row_id, "summary": m.summary,
         "table_name": m.table_name}
        for m in mutations
    ]  # fmt: skip
    text = orjson.dumps(rows, default=_to_text, option=_CANONICAL).decode()
    if "\\u0000" in text and _NUL.search(text):
        raise TypeError("jsonb cannot store a text with a NUL character")
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
    """Return the canonical text of an event: JSON, keys sorted, no spaces. ``at`` is of ``format_utc``."""
    return (
        f'{{"action":{_quoted(action)},"at":"{at}","mutations":{mutations},'
        f'"request_id":{orjson.dumps(request_id).decode()},"seq":{seq},'
        f'"shop_id":{"null" if shop_id is None else shop_id},"staff_label":{_quoted(staff_label)},'
        f'"work_id":{"null" if work_id is None else work_id}}}'
    )


def hash_text(prev_hash: str, text: str) -> str:
    """Return the SHA-256, in hex, of the previous event's hash, a line break, and an event's text."""
    return hashlib.sha256(f"{prev_hash}\n{text}".encode()).hexdigest()


def verify_rows(
    rows: Iterable[RowTuple], shop_id: int | None, place: ChainPosition
) -> tuple[ChainPosition, ChainRow | None]:
    """Check ``rows`` in order, from the one after ``place``; return the last good position and the bad row.

    The row is None where all are good: each has the next number, the hash of the row before it as its
    ``prev_hash``, and the hash of its own text. A loop over tuples: each night reads millions of rows.
    """
    seq, last = place
    for fields in rows:
        number, at, staff_label, action, request_id, work_id, mutations, prev_hash, stored = fields
        seq += 1
        text = event_text(shop_id, number, at, staff_label, action, request_id, work_id, mutations)
        if hash_text(last, text) != stored or prev_hash != last or number != seq:
            return ChainPosition(seq - 1, last), ChainRow(*fields)
        last = stored
    return ChainPosition(seq, last), None


def hash_row(
    row: ChainRow, shop_id: int | None, *, seq: int | None = None, prev_hash: str | None = None
) -> str:
    """Return the hash that ``row`` would have with ``seq`` and ``prev_hash`` instead of its own."""
    _, at, staff_label, action, request_id, work_id, mutations, own_prev_hash, *_ = row
    text = event_text(shop_id, seq or row.seq, at, staff_label, action, request_id, work_id, mutations)
    return hash_text(prev_hash or own_prev_hash, text)


@lru_cache(maxsize=1024)
def format_utc(at: datetime) -> str:
    """Return an aware time in UTC, always with microseconds, as ``2026-11-21T08:00:00.000000+00:00``.

    Cached: the events of a batch share one time, and equal times of two zones have the same text.
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
            return format_utc(value)
        case date() | UUID() | Decimal():
            return str(value)
        case Mapping():
            return dict(value)
    raise TypeError(f"{type(value).__name__} has no exact form in the audit: write it as text or integer")


@lru_cache(maxsize=1024)
def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()
