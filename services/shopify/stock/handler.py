"""Stock as Shopify tells it: what it holds of an inventory item at a location, at a time."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.errors import Refused
from services.core.fields import read_set
from services.core.locks import lock_objects
from services.ledger.describe import audit_entry
from services.ledger.work import Done, HandlerResult, Outcome, WorkItem
from services.shopify.stock.audit_text import (
    describe_disconnection,
    describe_level_change,
    describe_observation,
    level_label,
)
from services.shopify.stock.levels import Level, LevelChange, LevelKey, SkuKey
from services.shopify.stock.payload import LevelDisconnection, LevelObservation, parse_level
from services.shopify.stock.push_plan import PushCause, plan_pushes
from services.shopify.stock.store import KnownLevel, WrittenLevels, find_known_levels, record_levels


def ingest_inventory_levels(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every level holds its newest observation, and shows it unless it was counted here.

    An older observation is ``stale``. A counted level that differs from it has a push planned. Where Shopify
    does not count the item (``available`` is null), the event is ``not_tracked``. A level of a pool moves the
    pool: see ``services.shopify.stock.pools``. A level that was disconnected later than it was seen is off
    the shelf, as is one whose item is deleted: nothing is pushed to it.
    """
    read = read_set(items, lambda item: parse_level(item, now), "shopify.unreadable_inventory_level")
    best: dict[LevelKey, LevelObservation] = {}
    cut: dict[LevelKey, LevelDisconnection] = {}
    for entry in read:
        if isinstance(entry, LevelObservation):
            rank = (entry.version, entry.is_connected)
            if entry.key not in best or rank > (best[entry.key].version, best[entry.key].is_connected):
                best[entry.key] = entry
        elif isinstance(entry, LevelDisconnection):
            rival = cut.get(entry.key, entry)
            cut[entry.key] = entry if entry.disconnected_at >= rival.disconnected_at else rival
    keys = best.keys() | cut.keys()
    lock_objects(tx, {(shop_id, item_lock(item)) for shop_id, item, _ in keys})
    known = find_known_levels(tx, keys)
    won = {
        k: entry for k, entry in best.items() if (have := known[k].version) is None or entry.version > have
    }
    recorded = record_levels(tx, won, cut, known, now, _find_unclear(read, best, known))
    observed = [
        Level(*key, known[key].sku)
        for key, entry in won.items()
        if entry.available != known[key].shopify_available and key in recorded.stocked
    ]
    shifted = (shift.level for shift in recorded.shifts if shift.is_stocked)
    changed = list({*shifted, *observed, *recorded.pools.levels})
    entries: list[LevelObservation | LevelDisconnection] = [
        *won.values(),
        *(cut[key] for key in recorded.cut),
    ]
    told = {item.id: item for item in items}
    causes = {
        (level.shop_id, level.sku): PushCause(request_id=told[work_id].request_id)
        for level, work_id in recorded.pools.levels.items()
    }
    causes |= {(e.shop_id, known[e.key].sku): PushCause(e.event_id, e.request_id) for e in entries}

    def settle(entry: LevelObservation | LevelDisconnection | Refused | None) -> Outcome:
        if isinstance(entry, LevelObservation):
            newest = won[entry.key].version if entry.key in won else known[entry.key].version
            return Done() if entry.version == newest else Done("stale")
        if isinstance(entry, LevelDisconnection):
            told = cut[entry.key].disconnected_at if entry.key in recorded.cut else None
            is_known = entry.disconnected_at in (told, known[entry.key].disconnected_at)
            return Done() if is_known else Done("stale")
        return entry or Done("not_tracked")

    said = _say_observations(won, known, recorded)
    for key in recorded.cut:
        row = describe_disconnection(
            Level(*key, known[key].sku), known[key].disconnected_at, cut[key].disconnected_at
        )
        said.setdefault(cut[key].work_id, []).append(row)
    _say_beside(said, recorded.shifts, won, entries, known)
    for work_id, mutations in recorded.pools.said.items():
        said.setdefault(work_id, []).extend(mutations)
    audit = [audit_entry(told[work_id], mutations) for work_id, mutations in said.items()]
    return HandlerResult([settle(entry) for entry in read], plan_pushes(tx, changed, causes, now), audit)


def _find_unclear(
    read: Sequence[LevelObservation | LevelDisconnection | Refused | None],
    best: Mapping[LevelKey, LevelObservation],
    known: Mapping[LevelKey, KnownLevel],
) -> dict[LevelKey, LevelObservation]:
    """Return the newest observations for whose second another figure is known: which is later is not told."""
    unclear: dict[LevelKey, LevelObservation] = {}
    for entry in read:
        if isinstance(entry, LevelObservation):
            newest, row = best[entry.key], known[entry.key]
            rivals = [(entry.observed_at, entry.available)]
            if row.version is not None:
                rivals.append((row.version[0], -row.version[1]))
            if any(at == newest.observed_at and held != newest.available for at, held in rivals):
                unclear[entry.key] = newest
    return unclear


def _say_observations(
    won: Mapping[LevelKey, LevelObservation], known: Mapping[LevelKey, KnownLevel], recorded: WrittenLevels
) -> dict[int, list[Mutation]]:
    """Return what to say of each work item's own level."""
    said: dict[int, list[Mutation]] = {}
    after_of = {_key(shift.level): shift.after for shift in recorded.shifts}
    for key, entry in won.items():
        row = known[key]
        unmoved = row.available if row.is_ours else entry.available
        ours, held = recorded.pools.figures.get(key, (after_of.get(key, unmoved), entry.available))
        after = {
            "available": ours,
            "observed_at": entry.observed_at,
            "observed_available": entry.available,
            "shopify_available": held,
            "sku": row.sku,
        }
        label = level_label(row.sku, entry.inventory_item_id, entry.location_id)
        row_id = f"{entry.inventory_item_id}:{entry.location_id}"
        said[entry.work_id] = [describe_observation(label, row_id, row.figures, after)]
        if row.disconnected_at and key in recorded.stocked:
            said[entry.work_id].append(
                describe_disconnection(Level(*key, row.sku), row.disconnected_at, None)
            )
    return said


def _say_beside(
    said: dict[int, list[Mutation]],
    shifts: Collection[LevelChange],
    won: Mapping[LevelKey, LevelObservation],
    entries: Sequence[LevelObservation | LevelDisconnection],
    known: Mapping[LevelKey, KnownLevel],
) -> None:
    """A counted level changes where a movement of its item takes another location by these levels.

    That is told by the last event that touched the sku.
    """
    causes: dict[SkuKey, int] = {}
    items: dict[tuple[int, int], int] = {}
    for entry in entries:
        row = known[entry.key]
        causes[entry.shop_id, row.sku] = causes[entry.shop_id, row.row_sku] = entry.work_id
        items[entry.key[:2]] = entry.work_id
    for shift in shifts:
        if _key(shift.level) not in won:
            level = shift.level
            work_id = items.get(level[:2]) or causes[level.shop_id, level.sku]
            said.setdefault(work_id, []).append(describe_level_change(shift, "a new count of its item"))


def _key(level: Level) -> LevelKey:
    return (level.shop_id, level.inventory_item_id, level.location_id)


def item_lock(inventory_item_id: int) -> str:
    """Return the key under which an inventory item's levels and variant are changed one at a time."""
    return f"inventory-item:{inventory_item_id}"
