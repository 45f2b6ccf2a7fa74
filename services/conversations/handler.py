"""Handler of Quo (OpenPhone) webhooks: calls and messages, one row each."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from services.audit.chain import AuditEntry, Mutation
from services.conversations.payload import PARTS, InteractionUpdate, parse_update
from services.conversations.tables import interactions
from services.core.errors import Refused
from services.core.fields import parse_items
from services.core.locks import lock_objects
from services.core.pg_arrays import find_by_key, upsert_rows
from services.ledger.audit_text import audit_entry
from services.ledger.work import Done, HandlerResult, Outcome, WorkItem

NO_CALL_YET = datetime(1970, 1, 1, tzinfo=UTC)
"""``version_at`` of a row with only parts of a call: any event of the call itself is newer."""

InteractionRow = Mapping[str, Any]
"""A row of ``interactions``.

``detail`` has the newest event of the call itself in ``object``, ``context``, ``type`` and ``progress``, and
each part under its name, with the time of its event as ``at``.
"""


def ingest_interactions(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Upsert each call and message with its newest state and the newest version of each part.

    A summary or a transcript may arrive before its call. A late event changes nothing and is ``stale``. Only
    a payload without a required field is refused.
    """
    del now
    parsed = parse_items(items, parse_update, "quo.unreadable_event")
    keys = {update.key for update in parsed if isinstance(update, InteractionUpdate)}
    lock_objects(tx, keys)
    rows: dict[tuple[Any, ...], InteractionRow] = {**find_by_key(tx, interactions, keys)}
    changed: dict[tuple[int, str], InteractionRow] = {}
    audit: list[AuditEntry] = []

    def settle(item: WorkItem, update: InteractionUpdate | Refused) -> Outcome:
        if isinstance(update, Refused):
            return update
        known = rows.get(update.key)
        received, recorded = _find_versions(update, known)
        if known and received <= recorded:
            return Done() if received == recorded else Done("stale")
        merged = _merge_part(known, update) if update.part else _merge_base(known, update)
        audit.append(audit_entry(item, [_describe_update(update, known, merged)]))
        rows[update.key] = changed[update.key] = merged
        return Done()

    outcomes = list(map(settle, items, parsed))
    if changed:
        columns = interactions.columns.keys()
        upsert_rows(tx, interactions, {name: [row[name] for row in changed.values()] for name in columns})
    return HandlerResult(outcomes, audit=audit)


def _find_versions(update: InteractionUpdate, known: InteractionRow | None) -> list[Any]:
    """Return the versions of the part or the call of ``update``, in ``update`` and in ``known``."""
    if update.part:
        return [update.row["detail"]["at"], known and known["detail"].get(update.part, {}).get("at", "")]
    return [
        row and (row["version_at"], row["detail"].get("progress", -1), row["status"])
        for row in (update.row, known)
    ]


def _merge_base(known: InteractionRow | None, update: InteractionUpdate) -> InteractionRow:
    parts = {name: part for name, part in known["detail"].items() if name in PARTS.values()} if known else {}
    return {**update.row, "detail": {**update.row["detail"], **parts}}


def _merge_part(known: InteractionRow | None, update: InteractionUpdate) -> InteractionRow:
    part = update.row["detail"]
    if known is None:
        return {**update.row, "version_at": NO_CALL_YET, "detail": {update.part: part}}
    merged = {**known, "detail": {**known["detail"], update.part: part}}
    # Until an event of the call itself arrives, the row shows the earliest part.
    shown = ("occurred_at", "direction", "participants")
    is_earlier = [update.row[name] for name in shown] < [known[name] for name in shown]
    if known["version_at"] == NO_CALL_YET and is_earlier:
        merged |= {name: update.row[name] for name in (*shown, "event_id")}
    return merged


def _describe_update(
    update: InteractionUpdate, known: InteractionRow | None, merged: InteractionRow
) -> Mutation:
    """Return the mutation of ``update``: ids, kinds and statuses, never people or content."""
    label, provider_id = f"{merged['kind']} {merged['provider_id']}", merged["provider_id"]
    names = ("kind", "direction", "status", "occurred_at", "version_at")
    changed = [name for name in names if known is None or known[name] != merged[name]]
    before = {name: known[name] for name in changed} if known else {}
    after = {name: merged[name] for name in changed}
    status = merged["status"] or "no status"
    if update.part:
        after[update.part] = update.row["version_at"]
        if known and (at := known["detail"].get(update.part, {}).get("at")):
            before[update.part] = at
        summary = f"{update.part} of {label} recorded"
    elif known is None:
        summary = f"{label} recorded: {status}"
    elif "status" in after:
        summary = f"{label}: {known['status'] or 'no status'} -> {status}"
    else:
        summary = f"{label}: received again, status unchanged"
    return Mutation("interactions", provider_id, summary, None if known is None else before, after)
