"""Updates all levels of an item after a change of its SKU or variant, or its deletion."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.pg_arrays import arrays
from services.ledger.audit_text import FigureChange
from services.ledger.work import NewWork, WorkItem
from services.shopify.stock.audit_text import describe_disconnection, describe_recounts, describe_sku_change
from services.shopify.stock.levels import ItemKey, Level, LevelKey, SkuKey, lock_levels, lock_stock
from services.shopify.stock.movement_levels import recount_levels
from services.shopify.stock.push_plan import list_due_pushes, push_cause

SKU_OF_ITEM = "case when i.updated_at > t.updated_at then i.sku else coalesce(t.sku, i.sku) end"
"""SQL: the SKU in the variant ``t`` or the inventory item ``i``, whichever is newer; or null."""

# An item is gone once it or its product is deleted: the earlier time counts.
_FIND_OUTDATED = f"""
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
  from ({_FIND_OUTDATED}) c
 where l.shop_id = c.shop_id and l.inventory_item_id = c.inventory_item_id and l.location_id = c.location_id
returning l.shop_id, l.inventory_item_id, l.location_id, l.sku, c.old_sku, c.before, l.available as after,
          c.old_gone_at, c.gone_at
"""  # noqa: S608


def sync_level_skus(
    tx: Connection, of_item: Mapping[ItemKey, WorkItem], mutations: dict[int, list[Mutation]], now: datetime
) -> list[NewWork]:
    """Set the SKU of each item on its levels; disconnect those of deleted items; return the pushes to send.

    ``of_item`` has the work item that changed each item. The changes of levels are added to ``mutations``, by
    work item. Counted levels of the items, and of others with an old or new SKU, are computed again. The
    caller has locked the items and written their variants.
    """
    if not of_item:
        return []
    values = arrays("shop_id item", of_item)
    lock_stock(tx, {shop_id for shop_id, _ in of_item})
    found = tx.exec_driver_sql(_FIND_OUTDATED, values).all()
    skus = {(row.shop_id, sku) for row in found for sku in (row.sku, row.old_sku) if sku}
    counted = lock_levels(tx, LevelKey.from_rows(found), items=of_item, skus=skus).counted
    aligned = tx.exec_driver_sql(_ALIGN, values | {"now": now}).all() if found else ()
    recounted = {change.level: change for change in recount_levels(tx, counted, now)}
    to_push = {level for level, change in recounted.items() if change.is_stocked}
    of_sku: dict[SkuKey, WorkItem] = {}
    for row in aligned:
        level, item = Level.from_row(row), of_item[row.shop_id, row.inventory_item_id]
        of_sku[level.shop_id, row.old_sku] = of_sku[level.sku_key] = item
        rows = mutations.setdefault(item.id, [])
        if row.gone_at is None:
            to_push.add(level)
        if row.old_gone_at != row.gone_at:
            rows.append(describe_disconnection(level, row.old_gone_at, row.gone_at))
        if row.old_sku != level.sku:
            recount = recounted.pop(level, None)
            figure = FigureChange(row.before, recount.after if recount else row.after)
            rows.append(describe_sku_change(level, row.old_sku, figure))
    describe_recounts(mutations, recounted.values(), of_item, of_sku)
    causes = {sku: push_cause(item) for sku, item in of_sku.items()}
    causes |= {
        level.sku_key: push_cause(of_item[level.key.item]) for level in to_push if level.key.item in of_item
    }
    return list_due_pushes(tx, to_push, causes, now)
