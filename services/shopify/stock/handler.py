"""Inventory level webhooks: each level holds its newest observation from Shopify."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from services.audit.chain import Mutation
from services.core.errors import Refused
from services.core.fields import read_set
from services.core.locks import lock_objects
from services.ledger.describe import audit_entry
from services.ledger.work import Done, HandlerResult, Outcome, WorkItem
from services.shopify.entities import EPOCH
from services.shopify.stock.audit_text import describe_disconnection, describe_observation, describe_recounts
from services.shopify.stock.levels import Level, LevelKey, item_lock
from services.shopify.stock.payload import LevelDisconnection, LevelEvent, LevelObservation, parse_level
from services.shopify.stock.push_plan import PushCause, plan_pushes, push_cause
from services.shopify.stock.store import WrittenLevels, find_known_levels, known_version, record_levels


def ingest_inventory_levels(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Record the newest observation of each level; a level that was not counted here shows it.

    An older observation is ``stale``. A counted level that differs from Shopify gets a push. An event of an
    item that Shopify does not track (``available`` is null) is ``not_tracked``. A level of a pool changes the
    pool: see ``services.shopify.stock.pools``. A level that was disconnected after its last observation, or
    whose item is deleted, is not stocked and not pushed.
    """
    parsed = read_set(items, lambda item: parse_level(item, now), "shopify.unreadable_inventory_level")
    best: dict[LevelKey, LevelObservation] = {}
    cuts: dict[LevelKey, LevelDisconnection] = {}
    for event in parsed:
        if isinstance(event, LevelObservation):
            rivals = best.get(event.key, event), event
            best[event.key] = max(rivals, key=lambda e: (e.version, e.is_connected))
        elif isinstance(event, LevelDisconnection):
            cuts[event.key] = max(event, cuts.get(event.key, event), key=lambda e: e.disconnected_at)
    keys = best.keys() | cuts.keys()
    lock_objects(tx, {(key.shop_id, item_lock(key.inventory_item_id)) for key in keys})
    known = find_known_levels(tx, keys)
    newer = {k: e for k, e in best.items() if (have := known_version(known[k])) is None or e.version > have}
    written = record_levels(tx, newer, cuts, _find_unclear(parsed, best, known), known, now)
    applied: list[LevelEvent] = [*newer.values(), *(cuts[key] for key in written.disconnected)]

    def settle(event: LevelEvent | Refused | None) -> Outcome:
        if isinstance(event, LevelObservation):
            newest = newer[event.key].version if event.key in newer else known_version(known[event.key])
            return Done() if event.version == newest else Done("stale")
        if isinstance(event, LevelDisconnection):
            recorded = cuts[event.key].disconnected_at if event.key in written.disconnected else None
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
    mutations = _describe(newer, cuts, applied, known, written)
    audit = [audit_entry(by_id[work_id], rows) for work_id, rows in mutations.items()]
    return HandlerResult([settle(event) for event in parsed], plan_pushes(tx, to_push, causes, now), audit)


def _find_unclear(
    parsed: Sequence[LevelEvent | Refused | None],
    best: Mapping[LevelKey, LevelObservation],
    known: Mapping[LevelKey, Row[Any]],
) -> dict[LevelKey, LevelObservation]:
    """Return the newest observations of levels that have another figure in the same second."""
    unclear: dict[LevelKey, LevelObservation] = {}
    for event in parsed:
        if isinstance(event, LevelObservation):
            newest, row = best[event.key], known[event.key]
            figures = {(event.observed_at, event.available), (row.observed_at, row.observed_available)}
            if any(at == newest.observed_at and held != newest.available for at, held in figures):
                unclear[event.key] = newest
    return unclear


def _describe(
    newer: Mapping[LevelKey, LevelObservation],
    cuts: Mapping[LevelKey, LevelDisconnection],
    applied: Sequence[LevelEvent],
    known: Mapping[LevelKey, Row[Any]],
    written: WrittenLevels,
) -> dict[int, list[Mutation]]:
    """Return the audit's rows by work item.

    A counted level without an event of its own changes where others decide the location of a movement of its
    item: the last event of the item, else of the SKU, gets its row.
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
        cut = describe_disconnection(level, before, cuts[key].disconnected_at)
        mutations.setdefault(cuts[key].item.id, []).append(cut)
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
