"""Levels follow their items: another sku or variant, or an item that is gone, changes every level of it."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.core.pg_arrays import int_array
from services.ledger.describe import Change
from services.shopify.stock.level_moves import recount_levels
from services.shopify.stock.levels import ItemKey, Level, LevelChange, lock_levels, lock_stock
from services.shopify.stock.store import SKU_OF_ITEM

# An item is gone once it, or its product, is deleted; the earlier of the two counts.
_OF_ITEMS = f"""
  from unnest(%(shop_id)s::int[], %(item)s::bigint[]) as v(shop_id, item)
  join inventory_levels b on b.shop_id = v.shop_id and b.inventory_item_id = v.item
  left join variants t on t.shop_id = v.shop_id and t.inventory_item_id = v.item
  left join inventory_items i on i.shop_id = v.shop_id and i.inventory_item_id = v.item
 where b.sku <> coalesce({SKU_OF_ITEM}, b.sku)
    or b.disconnected_at is distinct from coalesce(least(t.deleted_at, i.deleted_at), b.disconnected_at)
"""

_FIND = f"""
select b.shop_id, b.inventory_item_id, b.location_id, b.sku, coalesce({SKU_OF_ITEM}, b.sku) {_OF_ITEMS}
"""

_ALIGN = f"""
update inventory_levels l set sku = c.sku, changed_at = %(now)s, disconnected_at = c.gone_at
  from (select b.shop_id, b.inventory_item_id, b.location_id, coalesce({SKU_OF_ITEM}, b.sku) as sku,
               b.sku as old_sku, b.available as before, b.disconnected_at as old_gone_at,
               coalesce(least(t.deleted_at, i.deleted_at), b.disconnected_at) as gone_at {_OF_ITEMS}) c
 where l.shop_id = c.shop_id and l.inventory_item_id = c.inventory_item_id and l.location_id = c.location_id
returning l.shop_id, l.inventory_item_id, l.location_id, l.sku, c.old_sku, c.before, l.available,
          c.old_gone_at, c.gone_at
"""  # noqa: S608


class Aligned(NamedTuple):
    """A level took another sku, and with it maybe another figure; or it left the shelf for good."""

    level: Level
    old_sku: str
    figure: Change
    old_gone_at: datetime | None
    gone_at: datetime | None


class Alignment(NamedTuple):
    """What became of the levels of some items, and of others that share a sku with them."""

    aligned: list[Aligned]
    recounted: list[LevelChange]

    @property
    def to_push(self) -> set[Level]:
        """The levels whose figure may have to be told."""
        levels = {one.level for one in self.aligned if one.gone_at is None}
        return levels | {shift.level for shift in self.recounted if shift.is_stocked}


def align_levels(tx: Connection, items: Collection[ItemKey], now: datetime) -> Alignment:
    """The levels of ``items`` carry their item's sku and are off the shelf if it is gone.

    Counted levels of the items, and of others with a sku that came or went, are counted again. The caller
    holds the items' locks and has written their variants.
    """
    if not items:
        return Alignment([], [])
    arrays = {"shop_id": int_array(s for s, _ in items), "item": int_array(item for _, item in items)}
    lock_stock(tx, {shop_id for shop_id, _ in items})
    found = tx.exec_driver_sql(_FIND, arrays).all()
    skus = {(row[0], sku) for row in found for sku in row[3:5] if sku}
    counted = lock_levels(tx, {(row[0], row[1], row[2]) for row in found}, items=items, skus=skus).counted
    aligned = [
        Aligned(Level(*row[:4]), row[4], Change(row[5], row[6]), row[7], row[8])
        for row in (tx.exec_driver_sql(_ALIGN, arrays | {"now": now}) if found else ())
    ]
    return Alignment(aligned, recount_levels(tx, counted, now))
