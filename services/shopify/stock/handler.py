"""Handler of inventory level webhooks: records the newest observation of each level."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from services.audit.chain import Mutation
from services.core.errors import Refused
from services.core.fields import parse_items
from services.core.locks import lock_objects
from services.ledger.audit_text import audit_entry
from services.ledger.work import Done, HandlerResult, Outcome, WorkItem
from services.shopify.entities import EPOCH
from services.shopify.stock.audit_text import describe_disconnection, describe_observation, describe_recounts
from services.shopify.stock.levels import Level, LevelKey, item_lock
from services.shopify.stock.payload import LevelDisconnection, LevelEvent, LevelObservation, parse_level
from services.shopify.stock.push_plan import PushCause, list_due_pushes, push_cause
from services.shopify.stock.store import WrittenLevels, find_known_levels, known_version, record_levels


def ingest_inventory_levels(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Record the newest observation of each level; it is the figure of a level without a count.

    An older observation is ``stale``. A counted level that differs from Shopify gets a push. An event of an
    item that Shopify does not track (``available`` is null) is ``not_tracked``. A level of a pool changes the
    pool: see ``services.shopify.stock.pools``. A level that was disconnected after its last observation, or
    whose item is deleted, is not stocked and not pushed.
    """
    parsed = parse_items(items, lambda item: parse_level(item, now), "shopify.unreadable_inventory_level")
    latest: dict[LevelKey, LevelObservation] = {}
    removed: dict[LevelKey, LevelDisconnection] = {}
    for event in parsed:
        if isinstance(event, LevelObservation):
            candidates = latest.get(event.key, event), event
            latest[event.key] = max(candidates, key=lambda e: (e.version, e.is_connected))
        elif isinstance(event, LevelDisconnection):
            removed[event.key] = max(event, removed.get(event.key, event), key=lambda e: e.disconnected_at)
    keys = latest.keys() | removed.keys()
    lock_objects(tx, {(key.shop_id, item_lock(key.inventory_item_id)) for key in keys})
    known = find_known_levels(tx, keys)
    newer = {k: e for k, e in latest.items() if (old := known_version(known[k])) is None or e.version > old}
    written = record_levels(tx, newer, removed, _find_unclear(parsed, latest, known), known, now)
    applied: list[LevelEvent] = [*newer.values(), *(removed[key] for key in written.disconnected)]

    def settle(event: LevelEvent | Refused | None) -> Outcome:
        if isinstance(event, LevelObservation):
            newest = newer[event.key].version if event.key in newer else known_version(known[event.key])
            return Done() if event.version == newest else Done("stale")
        if isinstance(event, LevelDisconnection):
            recorded = removed[event.key].disconnected_at if event.key in written.disconnected else None
            is_recorded = event.disconnected_at in (recorded, known[event.key].disconnected_at)
            return Done() if is_recorded else Done("stale")
        return event or Done("not_tracked")

    to_push = {
        Level(*key, known[key].sku)
        for key, event in newer.items()
        if event.available != known[key].shopify_available and key in written.stocked
    }
    to_push |= {change.level for change in written.changes if change.is_stocked}
    to_push |= written.pools.levels.keys()
    by_id = {item.id: item for item in items}
    causes = {
        level.sku_key: PushCause(request_id=by_id[work_id].request_id)
        for level, work_id in written.pools.levels.items()
    }
    causes |= {(event.key.shop_id, known[event.key].sku): push_cause(event.item) for event in applied}
    mutations = _describe(newer, removed, applied, known, written)
    audit = [audit_entry(by_id[work_id], rows) for work_id, rows in mutations.items()]
    return HandlerResult(
        [settle(event) for event in parsed], list_due_pushes(tx, to_push, causes, now), audit
    )


def _find_unclear(
    parsed: Sequence[LevelEvent | Refused | None],
    latest: Mapping[LevelKey, LevelObservation],
    known: Mapping[LevelKey, Row[Any]],
) -> dict[LevelKey, LevelObservation]:
    """Return the newest observations of levels that have two figures in the same second."""
    unclear: dict[LevelKey, LevelObservation] = {}
    for event in parsed:
        if isinstance(event, LevelObservation):
            newest, row = latest[event.key], known[event.key]
            figures = {(event.observed_at, event.available), (row.observed_at, row.observed_available)}
            if any(at == newest.observed_at and held != newest.available for at, held in figures):
                unclear[event.key] = newest
    return unclear


def _describe(
    newer: Mapping[LevelKey, LevelObservation],
    removed: Mapping[LevelKey, LevelDisconnection],
    applied: Sequence[LevelEvent],
    known: Mapping[LevelKey, Row[Any]],
    written: WrittenLevels,
) -> dict[int, list[Mutation]]:
    """Return the mutations by work item.

    A counted level may change without its own event, if another level decides the location of a movement of
    its item: the mutation is then of the last event of the item, otherwise of the SKU.
    """
    mutations: dict[int, list[Mutation]] = {}
    recounted = {change.level.key: change.after for change in written.changes}
    for key, event in newer.items():
        row, level = known[key], Level(*key, known[key].sku)
        unchanged = row.available if row.is_ours else event.available
        available, held = written.pools.figures.get(key, (recounted.get(key, unchanged), event.available))
        seen = {"observed_at": event.observed_at, "observed_available": event.available}
        after = {"available": available, **seen, "shopify_available": held, "sku": row.sku}
        is_new = row.observed_at is None or row.observed_at == EPOCH
        before = None if is_new else {name: getattr(row, name) for name in after} | {"sku": row.row_sku}
        mutations[event.item.id] = [describe_observation(level, before, after)]
        if row.disconnected_at and key in written.stocked:
            mutations[event.item.id].append(describe_disconnection(level, row.disconnected_at, None))
    for key in written.disconnected:
        level, before = Level(*key, known[key].sku), known[key].disconnected_at
        mutation = describe_disconnection(level, before, removed[key].disconnected_at)
        mutations.setdefault(removed[key].item.id, []).append(mutation)
    others = [change for change in written.changes if change.level.key not in newer]
    of_item = {event.key.item: event.item for event in applied}
    of_sku = {
        (event.key.shop_id, sku): event.item
        for event in applied
        for sku in (known[event.key].sku, known[event.key].row_sku)
    }
    describe_recounts(mutations, others, of_item, of_sku)
    for work_id, rows in written.pools.mutations.items():
        mutations.setdefault(work_id, []).extend(rows)
    return mutations
