"""What an audit event's bytes and hash are. Pure: no clock, no database.

The hash covers the hash before it, so a row altered, removed or put between shows at the next one.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

FIRST_PREV_HASH = "0" * 64
"""What stands before a chain's first event."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One row changed. ``before`` and ``after`` hold what changed; None where there was or is nothing."""

    table_name: str
    row_id: str
    summary: str
    before: Mapping[str, Any] | None = field(default=None)
    after: Mapping[str, Any] | None = field(default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One change by a person, a job or a webhook, at its place in a chain (``shop_id`` None: the fleet's)."""

    shop_id: int | None
    seq: int
    at: datetime
    staff_label: str
    action: str
    request_id: str
    mutations: Sequence[Mutation]


def to_plain(value: Any) -> Any:  # noqa: PLR0911 - one answer for each type
    """Return ``value`` as JSON that PostgreSQL gives back unchanged, or raise ``TypeError``.

    Times become text in UTC, decimals text. A float is refused: jsonb rewrites some of them (``1e22``
    comes back as an integer), and the hash of what is read would differ from the hash of what was written.
    """
    match value:
        case None | bool():
            return value
        case Enum():
            return to_plain(value.value)
        case int():
            return int(value)
        case str():
            if "\0" in value:
                raise TypeError("a text with a NUL character cannot be kept in jsonb")
            return str(value)
        case datetime():
            return to_utc_text(value)
        case date() | UUID() | Decimal():
            return str(value)
        case Mapping():
            return {str(key): to_plain(item) for key, item in value.items()}
        case list() | tuple():
            return [to_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no exact form in the audit: write it as text or integer")


def to_utc_text(at: datetime) -> str:
    """Return an aware time in UTC, always with microseconds, as ``2026-11-21T08:00:00.000000Z``."""
    if at.tzinfo is None:
        raise TypeError(f"{at!r} has no zone")
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def mutation_document(mutation: Mutation) -> dict[str, Any]:
    """Return ``mutation`` as the plain document that is both stored and hashed."""
    document: dict[str, Any] = to_plain(
        {
            "table_name": mutation.table_name,
            "row_id": mutation.row_id,
            "summary": mutation.summary,
            "before": mutation.before,
            "after": mutation.after,
        }
    )
    return document


def canonical_bytes(event: AuditEvent) -> bytes:
    """Return the one byte form of ``event``: UTF-8 JSON, keys sorted, no spaces, mutations in order."""
    document = {
        "shop_id": event.shop_id,
        "seq": event.seq,
        "at": to_utc_text(event.at),
        "staff_label": event.staff_label,
        "action": event.action,
        "request_id": event.request_id,
        "mutations": [mutation_document(mutation) for mutation in event.mutations],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def hash_event(prev_hash: str, event: AuditEvent) -> str:
    """Return the SHA-256, in hex, of the hash before and the event's canonical bytes."""
    return hashlib.sha256(prev_hash.encode("ascii") + b"\n" + canonical_bytes(event)).hexdigest()
