"""Handler of Quo (OpenPhone) webhooks: one row for each call and message; the first step of their runs."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from services.audit.chain import AuditEntry, Mutation
from services.conversations.blocks import AI_SUMMARY
from services.conversations.merchants import (
    Address,
    assign_merchants,
    find_connected_shops,
    make_key,
    make_lock,
)
from services.conversations.parts import plan_parts
from services.conversations.payload import PARTS, InteractionUpdate, find_row_address, parse_update
from services.conversations.tables import interactions
from services.core.errors import Refused
from services.core.fields import parse_items
from services.core.locks import lock_objects
from services.core.pg_arrays import find_by_key, upsert_rows
from services.ledger.audit_text import audit_entry
from services.ledger.steps import WORKFLOWS, plan_second_step
from services.ledger.work import Done, HandlerResult, NewWork, Outcome, WorkItem

NO_CALL_YET = datetime(1970, 1, 1, tzinfo=UTC)
"""``version_at`` of a row with only parts of a call: any event of the call itself is newer."""

InteractionRow = Mapping[str, Any]
"""A row of ``interactions``.

``detail`` has the newest event of the call itself in ``object``, ``context``, ``type`` and ``progress``, and
each part under its name, with the time of its event as ``at``.
"""
_OF_PAGE = ("merchant_id", "page_id", "page_state")
Key = tuple[int, str]


def ingest_interactions(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Upsert each call and message with its newest state and the newest version of each part.

    A summary or a transcript may arrive before its call. A late event changes nothing and is ``stale``. Only
    a payload without a required field is refused. In a shop with Notion each event begins a run, once the
    phone number of the other side is known.
    """
    parsed = parse_items(items, parse_update, "quo.unreadable_event")
    return record_interactions(tx, items, parsed, now)


def record_interactions(
    tx: Connection, items: Sequence[WorkItem], parsed: Sequence[InteractionUpdate | Refused], now: datetime
) -> HandlerResult:
    """Record the update of each item, as ``ingest_interactions`` describes."""
    updates = [update for update in parsed if isinstance(update, InteractionUpdate)]
    keys = {update.key for update in updates}
    addresses = _find_addresses(tx, updates)
    lock_objects(tx, keys | {make_lock(address) for address in addresses.values()})
    merchants, new_merchants = assign_merchants(tx, set(addresses.values()), now)
    rows: dict[Key, InteractionRow] = {**find_by_key(tx, interactions, keys)}
    changed: dict[Key, InteractionRow] = {}
    audit: list[AuditEntry] = []

    def settle(item: WorkItem, update: InteractionUpdate | Refused) -> Outcome:
        if isinstance(update, Refused):
            return update
        known, merchant_id = rows.get(update.key), merchants.get(addresses.get(update.key, (0, "")))
        received, recorded = _find_versions(update, known)
        if known and received < recorded:
            return Done("stale")
        merged = known
        if known is None or received != recorded:
            merged = _merge_part(known, update) if update.part else _merge_base(known, update)
        assert merged is not None  # noqa: S101 - without a known row it was just made
        if merchant_id is not None and merged.get("merchant_id") is None:
            merged = {**merged, "merchant_id": merchant_id}
        if merged != known:
            mutations = [_describe_update(update, known, merged)]
            if merchant_id in new_merchants:
                new_merchants.discard(merchant_id)
                mutations.append(Mutation("merchants", str(merchant_id), f"merchant {merchant_id} recorded"))
            audit.append(audit_entry(item, mutations))
            rows[update.key] = changed[update.key] = merged
        return Done()

    outcomes = list(map(settle, items, parsed))
    if changed:
        columns = interactions.columns.keys()
        upsert_rows(tx, interactions, {name: [row[name] for row in changed.values()] for name in columns})
    runs = [
        (item, rows[update.key])
        for item, update, outcome in zip(items, parsed, outcomes, strict=True)
        if isinstance(update, InteractionUpdate) and update.key in addresses and outcome == Done()
    ]
    plan_parts(tx, {(row["shop_id"], row["provider_id"]): row for _, row in runs}.values(), now)
    new_work = [work for item, row in runs if (work := _begin_run(item, row))]
    return HandlerResult(outcomes, new_work, audit)


def _begin_run(item: WorkItem, row: InteractionRow) -> NewWork | None:
    workflow = WORKFLOWS.get(row["kind"])
    return workflow and plan_second_step(workflow, item, make_key(row["merchant_id"]), row["provider_id"])


def _find_addresses(tx: Connection, updates: Collection[InteractionUpdate]) -> dict[Key, Address]:
    """Return the address of the other side by key, of interactions in shops with Notion.

    A part of the older format has none: then that of its known row counts.
    """
    connected = find_connected_shops(tx, {update.key[0] for update in updates}) if updates else set()
    of_shops = [update for update in updates if update.key[0] in connected]
    found = {update.key: (update.key[0], update.address) for update in of_shops if update.address}
    missing = {update.key for update in of_shops} - set(found)
    for row in find_by_key(tx, interactions, missing).values():
        if address := find_row_address(row):
            found[row["shop_id"], row["provider_id"]] = row["shop_id"], address
    return found


def _find_versions(update: InteractionUpdate, known: InteractionRow | None) -> list[Any]:
    """Return the versions of the part or the call of ``update``, in ``update`` and in ``known``."""
    if update.part:
        return [update.row["detail"]["at"], known and known["detail"].get(update.part, {}).get("at", "")]
    return [
        row and (row["version_at"], row["detail"].get("progress", -1), row["status"])
        for row in (update.row, known)
    ]


def _merge_base(known: InteractionRow | None, update: InteractionUpdate) -> InteractionRow:
    if known is None:
        return update.row
    parts = {name: part for name, part in known["detail"].items() if name in (*PARTS.values(), AI_SUMMARY)}
    of_page = {name: known[name] for name in _OF_PAGE}
    return {**update.row, **of_page, "detail": {**update.row["detail"], **parts}}


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
