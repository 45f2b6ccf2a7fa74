"""Records counts and corrections of stock, and resets levels to Shopify's figures."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.audit.append import append_all
from services.audit.chain import AuditEntry, Mutation
from services.core.counts import format_count
from services.core.locks import lock_objects
from services.core.pg_arrays import arrays
from services.ledger.audit_text import FigureChange
from services.providers.shopify_admin import ShopifyLevel, ShopLevelKey
from services.shopify.stock.audit_text import describe_level, level_mutation
from services.shopify.stock.counts import CountChange, CountRefused, check_owner, find_levels
from services.shopify.stock.levels import Level, LevelKey, item_lock, level_arrays, lock_levels, lock_stock
from services.shopify.stock.movement_levels import recount_levels
from services.shopify.stock.pool_store import LAST_REPORTED
from services.shopify.stock.pools import update_oversold_incidents
from services.shopify.stock.push_plan import record_pushes

_SET_COUNTS = """
update inventory_levels l set counted_available = v.available, counted_at = v.at, shopify_available = v.held
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[], %(available)s::int[],
              %(at)s::timestamptz[], %(held)s::int[]) as v(shop_id, item, location, available, at, held)
 where l.shop_id = v.shop_id and l.inventory_item_id = v.item and l.location_id = v.location
"""

_ADJUST = """
update inventory_levels set counted_available = counted_available + %(delta)s
 where shop_id = %(shop_id)s and inventory_item_id = %(inventory_item_id)s and location_id = %(location_id)s
"""

_NOT_OWNED = """
select l.shop_id, l.inventory_item_id, l.location_id, l.available as before
  from inventory_levels l left join shop_config c on c.shop_id = l.shop_id
 where l.shop_id = %(shop_id)s and (
  l.counted_at is not null and coalesce(c.stock_owner, '') <> 'shopfleet'
  or l.pool is not null and coalesce(c.stock_owner, '') <> 'pool:' || l.pool)
"""

_RELEASE = f"""
update inventory_levels l
   set counted_available = null, counted_at = null, pool = null, pool_sku = null, doubts = 0,
       changed_at = %(now)s,
       available = case when l.pool is null then coalesce(shopify_available, observed_available)
                        else {LAST_REPORTED} end,
       shopify_available = case when l.pool is null then shopify_available else {LAST_REPORTED} end
  from ({_NOT_OWNED}) b
 where l.shop_id = b.shop_id and l.inventory_item_id = b.inventory_item_id and l.location_id = b.location_id
returning l.shop_id, l.inventory_item_id, l.location_id, l.sku, b.before, l.available as after
"""  # noqa: S608

_DELETE_POOL_ITEMS = """
delete from stock_pool_items i
 where not exists (select from inventory_levels l where l.pool = i.pool and l.pool_sku = i.sku)
returning pool, sku
"""


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
) -> None:
    """Set each level of ``changes`` to its count plus the movements since ``counted_at``, and push it."""
    levels = [Level(shop_id, c.inventory_item_id, c.location_id, c.sku) for c in changes]
    keys = [level.key for level in levels]
    _lock(tx, shop_id, keys)
    counts = [
        (change.available, counted_at, held[ShopLevelKey(*key[1:])].available)
        for change, key in zip(changes, keys, strict=True)
    ]
    tx.exec_driver_sql(_SET_COUNTS, level_arrays(keys) | arrays("available at held", counts))
    figures = {change.level.key: change.after for change in recount_levels(tx, keys, now)}
    rows: list[Mutation] = []
    for level, change in zip(levels, changes, strict=True):
        after = figures.get(level.key, change.before)
        counted = f"{format_count(change.pieces, 'piece')} counted, {change.held_back} held back"
        summary = f"{level.label}: {counted}, {change.before} -> {after}"
        new = {"available": after, "pieces": change.pieces, "held_back": change.held_back}
        rows.append(level_mutation(level, summary, {"available": change.before}, new))
    record_pushes(tx, levels, now, request_id)
    append_all(tx, [AuditEntry(shop_id, by, "stock.count", request_id, rows)] if rows else [], now)


def adjust_level(
    tx: Connection,
    shop_id: int,
    shop_key: ShopLevelKey,
    delta: int,
    reason: str,
    now: datetime,
    *,
    by: str,
    request_id: str,
) -> FigureChange:
    """Add ``delta`` pieces to a counted level and push it; the audit contains the reason."""
    check_owner(tx, shop_id)
    key = LevelKey(shop_id, *shop_key)
    _lock(tx, shop_id, [key])
    row = find_levels(tx, [key]).get(key)
    if row is None or not row.is_counted or not row.is_stocked:
        name = f"item {key.inventory_item_id} at location {key.location_id}"
        raise CountRefused(f"{name} was not counted yet: `fleet stock count` records a first count")
    tx.exec_driver_sql(_ADJUST, shop_key._asdict() | {"shop_id": shop_id, "delta": delta})
    recount_levels(tx, [key], now)
    change, level = FigureChange(row.available, row.available + delta), Level.from_row(row)
    why = f"correction of {delta:+d}: {reason}"
    record_pushes(tx, [level], now, request_id)
    rows = [describe_level(level, change, why)]
    append_all(tx, [AuditEntry(shop_id, by, "stock.adjust", request_id, rows)], now)
    return change


def release_levels(tx: Connection, shop_id: int, now: datetime, *, by: str, request_id: str) -> int:
    """Reset each level that the shop's stock owner does not own to Shopify's figure; return how many.

    Deletes their counts and their links to a pool, and pool items without a level. Call it in a separate
    transaction after the owner is set: stock is always locked before an audit chain. If it fails, call it
    again.
    """
    values = {"shop_id": shop_id, "now": now}
    lock_stock(tx, {shop_id})
    lock_levels(tx, LevelKey.from_rows(tx.exec_driver_sql(_NOT_OWNED, values)))
    why = "the shop's stock owner: Shopify"
    released = tx.exec_driver_sql(_RELEASE, values).all()
    rows = [describe_level(Level.from_row(row), FigureChange(row.before, row.after), why) for row in released]
    unlinked = {(row.pool, row.sku) for row in tx.exec_driver_sql(_DELETE_POOL_ITEMS)}
    update_oversold_incidents(tx, unlinked, now)
    append_all(tx, [AuditEntry(shop_id, by, "stock.owner", request_id, rows)] if rows else [], now)
    return len(rows)


def _lock(tx: Connection, shop_id: int, keys: Collection[LevelKey]) -> None:
    lock_objects(tx, {(shop_id, item_lock(key.inventory_item_id)) for key in keys})
    lock_stock(tx, {shop_id})
    lock_levels(tx, keys)
