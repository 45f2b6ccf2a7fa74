"""Quo (OpenPhone) webhooks: calls and messages, one row each."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.audit.chain import Entry
from services.conversations.audit_text import describe_update
from services.conversations.merge import Interaction, is_repeat, merge_update
from services.conversations.payload import InteractionUpdate, parse_update
from services.conversations.tables import interactions
from services.core.errors import Refused
from services.core.fields import read_set
from services.core.locks import lock_objects
from services.core.pg_arrays import find_by_key, upsert_rows
from services.ledger.describe import audit_entry
from services.ledger.work import Done, HandlerResult, Outcome, WorkItem

InteractionKey = tuple[int, str]
"""(shop, Quo's id)."""


def ingest_interactions(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Upsert the row of each call and message with its newest state and the newest of each of its parts.

    A summary or a transcript may arrive before its call. A late event changes nothing and is ``stale``. A
    payload without a required field is refused alone.
    """
    del now
    parsed = read_set(items, parse_update, "quo.unreadable_event")
    keys = {update.key for update in parsed if isinstance(update, InteractionUpdate)}
    lock_objects(tx, keys)
    rows = find_interactions(tx, keys)
    changed: dict[InteractionKey, Interaction] = {}
    audit: list[Entry] = []

    def settle(item: WorkItem, update: InteractionUpdate | Refused) -> Outcome:
        if isinstance(update, Refused):
            return update
        known = rows.get(update.key)
        merged = merge_update(known, update)
        if merged is None:
            return Done() if known is not None and is_repeat(known, update) else Done("stale")
        audit.append(audit_entry(item, [describe_update(update, known, merged)]))
        rows[update.key] = changed[update.key] = merged
        return Done()

    outcomes = [settle(item, update) for item, update in zip(items, parsed, strict=True)]
    upsert_interactions(tx, changed)
    return HandlerResult(outcomes, audit=audit)


def find_interactions(tx: Connection, keys: Collection[InteractionKey]) -> dict[InteractionKey, Interaction]:
    """Return the rows of ``keys`` that exist."""
    found: dict[InteractionKey, Interaction] = {}
    for (shop_id, provider_id), row in find_by_key(tx, interactions, keys).items():
        values = {name: row[name] for name in Interaction._fields}
        found[shop_id, provider_id] = Interaction(**values | {"participants": tuple(row["participants"])})
    return found


def upsert_interactions(tx: Connection, changed: Mapping[InteractionKey, Interaction]) -> None:
    """Insert or overwrite the rows of ``changed``."""
    if changed:
        values: dict[str, Sequence[Any]] = {
            name: [getattr(row, name) for row in changed.values()] for name in Interaction._fields
        }
        values["shop_id"] = [shop_id for shop_id, _ in changed]
        values["provider_id"] = [provider_id for _, provider_id in changed]
        upsert_rows(tx, interactions, values)
