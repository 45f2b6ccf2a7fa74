"""Counts and corrections of stock that people enter here: a counted level is ours, and is pushed.

A count is pieces on the shelf, those of open orders included. What may be sold of them is the count less
what Shopify holds back at that moment: ``available = pieces - (on_hand - available)``, both read there. Its
``on_hand`` is ``available`` plus committed, reserved, damaged, safety stock and quality control.
Source: https://shopify.dev/docs/apps/build/orders-fulfillment/inventory-management-apps
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.audit.append import append_audit
from services.audit.chain import Mutation
from services.core.errors import ShopfleetError
from services.core.locks import lock_objects
from services.core.pg_arrays import instant_array, int_array
from services.ledger.accept import record_work
from services.ledger.describe import Change
from services.providers.shopify_admin import ShopifyLevel, ShopLevelKey
from services.shopify.stock.audit_text import describe_level, level_label, level_row_id
from services.shopify.stock.handler import item_lock
from services.shopify.stock.level_moves import find_stock_owners, recount_levels
from services.shopify.stock.levels import Level, LevelChange, LevelKey, level_arrays, lock_levels, lock_stock
from services.shopify.stock.pool_orders import update_oversold_incidents
from services.shopify.stock.pool_store import LAST_HELD
from services.shopify.stock.push_plan import PushCause, plan_pushes


class CountRefused(ShopfleetError):
    """A count or a correction cannot be taken. The message names every line that is wrong, and why."""


class Count(NamedTuple):
    """``pieces`` of an item lie at a location, those of open orders included."""

    inventory_item_id: int
    location_id: int
    pieces: int


class CountChange(NamedTuple):
    """What a count makes of a level; ``held_back`` is what Shopify keeps from sale at that moment."""

    sku: str
    inventory_item_id: int
    location_id: int
    pieces: int
    held_back: int
    before: int
    available: int


_FIND_LEVELS = """
select l.shop_id, l.inventory_item_id, l.location_id, l.sku, l.available, l.counted_at, l.disconnected_at
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[]) as v(shop_id, item, location)
  join inventory_levels l on l.shop_id = v.shop_id and l.inventory_item_id = v.item
                         and l.location_id = v.location
"""

_COUNT = """
update inventory_levels l set counted_available = v.available, counted_at = v.at, shopify_available = v.held
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[], %(available)s::int[],
              %(at)s::timestamptz[], %(held)s::int[]) as v(shop_id, item, location, available, at, held)
 where l.shop_id = v.shop_id and l.inventory_item_id = v.item and l.location_id = v.location
"""

_ADJUST = """
update inventory_levels set counted_available = counted_available + %(delta)s
 where shop_id = %(shop_id)s and inventory_item_id = %(item)s and location_id = %(location)s
"""

_NOT_OWNED = """l.shop_id = %(shop_id)s and (
  l.counted_at is not null and coalesce(c.stock_owner, '') <> 'shopfleet'
  or l.pool is not null and coalesce(c.stock_owner, '') <> 'pool:' || l.pool)"""

_RELEASE = f"""
update inventory_levels l
   set counted_available = null, counted_at = null, pool = null, pool_sku = null, doubts = 0,
       changed_at = %(now)s,
       available = case when l.pool is null then coalesce(shopify_available, observed_available)
                        else {LAST_HELD} end,
       shopify_available = case when l.pool is null then shopify_available else {LAST_HELD} end
  from (select l.shop_id, l.inventory_item_id, l.location_id, l.available as before
          from inventory_levels l left join shop_config c on c.shop_id = l.shop_id where {_NOT_OWNED}) b
 where l.shop_id = b.shop_id and l.inventory_item_id = b.inventory_item_id and l.location_id = b.location_id
returning l.shop_id, l.inventory_item_id, l.location_id, l.sku, b.before, l.available
"""  # noqa: S608

_FIND_NOT_OWNED = f"""
select l.shop_id, l.inventory_item_id, l.location_id
  from inventory_levels l left join shop_config c on c.shop_id = l.shop_id where {_NOT_OWNED}
"""  # noqa: S608

_FORGET_GOODS = """
delete from stock_pool_items i
 where not exists (select from inventory_levels l where l.pool = i.pool and l.pool_sku = i.sku)
returning pool, sku
"""

_FIND_ITEMS = """
select distinct inventory_item_id from (
  select inventory_item_id from inventory_levels where shop_id = %(shop_id)s and sku = %(sku)s
   union
  select inventory_item_id from variants
   where shop_id = %(shop_id)s and sku = %(sku)s and deleted_at is null
) known order by 1
"""


def get_item(tx: Connection, shop_id: int, sku: str) -> int:
    """Return the inventory item of ``sku``; raise ``CountRefused`` where none or several have it."""
    items = [row[0] for row in tx.exec_driver_sql(_FIND_ITEMS, {"shop_id": shop_id, "sku": sku})]
    if len(items) == 1:
        return int(items[0])
    if not items:
        raise CountRefused(f"sku={sku!r} should be of an inventory item: see `fleet stock show SHOP`")
    numbers = ", ".join(map(str, items))
    raise CountRefused(f"sku={sku!r} belongs to the inventory items {numbers}: name one with --item")


def plan_counts(
    tx: Connection,
    shop_id: int,
    counts: Sequence[Count],
    held: Mapping[ShopLevelKey, ShopifyLevel] | None = None,
) -> list[CountChange]:
    """Return what ``counts`` make of the shop's levels, ``held`` being what Shopify holds at this moment.

    Without ``held`` nothing is made of them; what can be refused without a reading is. Raises
    ``CountRefused`` naming every count of a level that is unknown, off the shelf or not stocked.
    """
    _check_owner(tx, shop_id)
    known = _find_levels(tx, [(shop_id, one.inventory_item_id, one.location_id) for one in counts])
    faults: list[str] = []
    changes: list[CountChange] = []
    for one in counts:
        level = known.get((shop_id, one.inventory_item_id, one.location_id))
        there = None if held is None else held.get(ShopLevelKey(one.inventory_item_id, one.location_id))
        name = f"item {one.inventory_item_id} at location {one.location_id}"
        if level is None or level[6] is not None:
            faults.append(f"{name}: no such level is known; `fleet backfill run` reads the shop's levels")
        elif held is None:
            continue
        elif there is None or there.on_hand is None:
            faults.append(f"{name}: Shopify does not stock the item there; activate it in Shopify first")
        else:
            held_back = there.on_hand - there.available
            changes.append(CountChange(level[3], *one, held_back, level[4], one.pieces - held_back))
    if faults:
        raise CountRefused("; ".join(faults))
    return changes


def record_counts(
    tx: Connection,
    shop_id: int,
    changes: Sequence[CountChange],
    held: Mapping[ShopLevelKey, ShopifyLevel],
    counted_at: datetime,
    now: datetime,
    *,
    by: str,
    request_id: str,
) -> list[LevelChange]:
    """Every level of ``changes`` is as counted at ``counted_at``, plus what moved since, and is pushed."""
    keys = [(shop_id, one.inventory_item_id, one.location_id) for one in changes]
    _lock(tx, shop_id, keys)
    places = [ShopLevelKey(one.inventory_item_id, one.location_id) for one in changes]
    values = {
        "available": int_array(one.available for one in changes),
        "at": instant_array([counted_at] * len(changes)),
        "held": int_array(held[place].available for place in places),
    }
    tx.exec_driver_sql(_COUNT, level_arrays(keys) | values)
    after = {shift.level[:3]: shift.after for shift in recount_levels(tx, keys, now)}
    shifts = [
        LevelChange(Level(*key, one.sku), one.before, after.get(key, one.before))
        for key, one in zip(keys, changes, strict=True)
    ]
    said = [_say_count(one, shift) for one, shift in zip(changes, shifts, strict=True)]
    _record(tx, shop_id, shifts, said, now, action="stock.count", by=by, request_id=request_id)
    return shifts


def adjust_level(
    tx: Connection,
    shop_id: int,
    place: ShopLevelKey,
    delta: int,
    reason: str,
    now: datetime,
    *,
    by: str,
    request_id: str,
) -> LevelChange:
    """The counted level at ``place`` has ``delta`` pieces more and is pushed; the audit has the reason."""
    _check_owner(tx, shop_id)
    key = (shop_id, *place)
    _lock(tx, shop_id, [key])
    level = _find_levels(tx, [key]).get(key)
    if level is None or level[5] is None or level[6] is not None:
        name = f"item {place.inventory_item_id} at location {place.location_id}"
        raise CountRefused(f"{name} was not counted yet: `fleet stock count` takes its first count")
    values = {"shop_id": shop_id, "item": place.inventory_item_id, "location": place.location_id}
    tx.exec_driver_sql(_ADJUST, values | {"delta": delta})
    recount_levels(tx, [key], now)
    shift = LevelChange(Level(*level[:4]), level[4], level[4] + delta)
    said = [
        describe_level(shift.level, Change(shift.before, shift.after), f"correction of {delta:+d}: {reason}")
    ]
    _record(tx, shop_id, [shift], said, now, action="stock.adjust", by=by, request_id=request_id)
    return shift


def release_levels(tx: Connection, shop_id: int, now: datetime, *, by: str, request_id: str) -> int:
    """Levels of an owner that the shop has no more show what Shopify holds; return how many there were.

    Counts are dropped, and links to a pool; goods that no shop of a pool has any more leave it. In a
    transaction of its own, after the owner is set: stock is locked before an audit chain, everywhere. Where
    it did not come to that, doing it again does it.
    """
    lock_stock(tx, {shop_id})
    lock_levels(tx, [(r[0], r[1], r[2]) for r in tx.exec_driver_sql(_FIND_NOT_OWNED, {"shop_id": shop_id})])
    rows = tx.exec_driver_sql(_RELEASE, {"shop_id": shop_id, "now": now}).all()
    said = [
        describe_level(Level(*row[:4]), Change(row[4], row[5]), "the shop's stock owner: Shopify")
        for row in rows
    ]
    gone = {(row[0], row[1]) for row in tx.exec_driver_sql(_FORGET_GOODS)}
    update_oversold_incidents(tx, gone, now)
    _record(tx, shop_id, [], said, now, action="stock.owner", by=by, request_id=request_id)
    return len(rows)


def _check_owner(tx: Connection, shop_id: int) -> None:
    owners = find_stock_owners(tx, {shop_id})
    if shop_id in owners.pooling:
        raise CountRefused(
            "the shop's stock is a pool's: correct the figure in Shopify's admin of one of the pool's shops, "
            "and the pool and the other shops follow"
        )
    if shop_id not in owners.counting:
        raise CountRefused(
            "the shop's stock owner is shopify, so its figures are Shopify's: correct them there, or run "
            "`fleet shops set SHOP --stock-owner shopfleet` first"
        )


def _lock(tx: Connection, shop_id: int, keys: Sequence[LevelKey]) -> None:
    lock_objects(tx, {(shop_id, item_lock(item)) for _, item, _ in keys})
    lock_stock(tx, {shop_id})
    lock_levels(tx, keys)


def _find_levels(tx: Connection, keys: Sequence[LevelKey]) -> dict[LevelKey, tuple[Any, ...]]:
    rows = tx.exec_driver_sql(_FIND_LEVELS, level_arrays(keys))
    return {(row[0], row[1], row[2]): tuple(row) for row in rows}


def _say_count(one: CountChange, shift: LevelChange) -> Mutation:
    label = level_label(one.sku, one.inventory_item_id, one.location_id)
    summary = (
        f"{label}: {one.pieces} pieces counted, {one.held_back} held back, {shift.before} -> {shift.after}"
    )
    return Mutation(
        "inventory_levels",
        level_row_id(shift.level),
        summary,
        {"available": shift.before},
        {"available": shift.after, "pieces": one.pieces, "held_back": one.held_back},
    )


def _record(
    tx: Connection,
    shop_id: int,
    shifts: Sequence[LevelChange],
    said: Sequence[Mutation],
    now: datetime,
    *,
    action: str,
    by: str,
    request_id: str,
) -> None:
    """The pushes of ``shifts`` are planned and ``said`` is in the audit, where it is anything."""
    cause = PushCause(request_id=request_id)
    levels = [shift.level for shift in shifts]
    pushes = plan_pushes(tx, levels, {(level.shop_id, level.sku): cause for level in levels}, now)
    record_work(tx, pushes, now)
    if said:
        append_audit(
            tx, shop_id=shop_id, staff_label=by, action=action, request_id=request_id, now=now, mutations=said
        )
