"""Levels follow their items: a new SKU or variant, or a deletion of the item, changes all its levels."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.core.pg_arrays import int_array
from services.shopify.stock.level_moves import recount_levels
from services.shopify.stock.levels import (
    ItemKey,
    Level,
    LevelChange,
    lock_levels,
    lock_stock,
    read_keys,
    read_row,
)
from services.shopify.stock.store import SKU_OF_ITEM

# An item is gone once it, or its product, is deleted; the earlier of the two counts.
_OF_ITEMS = f"""
select b.shop_id, b.inventory_item_id, b.location_id, coalesce({SKU_OF_ITEM}, b.sku) as sku, b.sku as old_sku,
       b.available as before, b.disconnected_at as old_gone_at,
       coalesce(least(t.deleted_at, i.deleted_at), b.disconnected_at) as gone_at
  from unnest(%(shop_id)s::int[], %(item)s::bigint[]) as v(shop_id, item)
  join inventory_levels b on b.shop_id = v.shop_id and b.inventory_item_id = v.item
  left join variants t on t.shop_id = v.shop_id and t.inventory_item_id = v.item
  left join inventory_items i on i.shop_id = v.shop_id and i.inventory_item_id = v.item
 where b.sku <> coalesce({SKU_OF_ITEM}, b.sku)
    or b.disconnected_at is distinct from coalesce(least(t.deleted_at, i.deleted_at), b.disconnected_at)
"""  # noqa: S608

_ALIGN = f"""
update inventory_levels l set sku = c.sku, changed_at = %(now)s, disconnected_at = c.gone_at
  from ({_OF_ITEMS}) c
 where l.shop_id = c.shop_id and l.inventory_item_id = c.inventory_item_id and l.location_id = c.location_id
returning l.shop_id, l.inventory_item_id, l.location_id, l.sku, c.old_sku, c.before, l.available as after,
          c.old_gone_at, c.gone_at
"""  # noqa: S608


class AlignedLevel(NamedTuple):
    """A level that got another SKU, and maybe another figure, or whose item is gone."""

    level: Level
    old_sku: str
    before: int
    after: int
    old_gone_at: datetime | None
    gone_at: datetime | None


class Alignment(NamedTuple):
    """Changed levels of some items, and recounted levels of these and of others with the same SKU."""

    aligned: list[AlignedLevel]
    recounted: list[LevelChange]

    @property
    def to_push(self) -> set[Level]:
        """The levels that may have to be pushed."""
        levels = {one.level for one in self.aligned if one.gone_at is None}
        return levels | {change.level for change in self.recounted if change.is_stocked}


def align_levels(tx: Connection, items: Collection[ItemKey], now: datetime) -> Alignment:
    """Give the levels of ``items`` their item's SKU; disconnect them where the item is gone.

    Counted levels of the items, and of others with an old or a new SKU, are counted again. The caller holds
    the items' locks and has written their variants.
    """
    if not items:
        return Alignment([], [])
    arrays = {"shop_id": int_array(s for s, _ in items), "item": int_array(item for _, item in items)}
    lock_stock(tx, {shop_id for shop_id, _ in items})
    found = tx.exec_driver_sql(_OF_ITEMS, arrays).all()
    skus = {(row.shop_id, sku) for row in found for sku in (row.sku, row.old_sku) if sku}
    counted = lock_levels(tx, read_keys(found), items=items, skus=skus).counted
    rows = tx.exec_driver_sql(_ALIGN, arrays | {"now": now}) if found else ()
    return Alignment([read_row(AlignedLevel, row) for row in rows], recount_levels(tx, counted, now))
