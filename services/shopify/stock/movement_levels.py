"""Finds the level of each movement, and computes the figures of counted levels.

A movement belongs to the item of its variant. Its SKU counts only if no variant with that id is recorded and
no other item has the SKU. Its location is, in this order: the one in the payload (point of sale, restock);
the assigned location of its order's fulfilment orders if all have the same; the only location that stocks
the item. While none of these is known, the movement changes no figure.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.core.pg_arrays import arrays
from services.shopify.stock.levels import LEVELS_BY_KEY, Level, LevelChange, LevelKey, Movement, level_arrays


def _locate(item: str) -> str:
    """Return the SQL that finds the location of movement ``m`` of ``item`` if its payload has none."""
    return f"""
    left join lateral (
      select min(f.location_id) as location_id from fulfillment_orders f
       where m.location_id is null and f.shop_id = m.shop_id and f.status <> 'cancelled'
         and f.order_gid = 'gid://shopify/Order/' || m.order_id and f.order_gid <> ''
      having count(distinct f.location_id) = 1
    ) routed on true
    left join lateral (
      select min(o.location_id) as location_id from inventory_levels o
       where o.shop_id = m.shop_id and o.inventory_item_id = {item} and o.disconnected_at is null
      having count(*) = 1
    ) sole on true"""  # noqa: S608 - the names are our own


LOCATION = "coalesce(m.location_id, routed.location_id, sole.location_id)"


def movements_sql(line: str, since: str) -> str:
    """Return the SQL of the movements of the item of ``line`` later than ``since``, with their location.

    ``line`` is the alias of a row with ``shop_id``, ``inventory_item_id`` and ``sku``. The columns are
    ``source``, ``delta``, ``at``, ``order_id`` and ``location_id``. Both arguments are constants in the code.
    """
    return f"""(
  select m.source, m.delta, m.at, m.order_id, {LOCATION} as location_id
    from (
      select x.* from variants v
        join stock_movements x on x.shop_id = v.shop_id and x.variant_id = v.variant_id
       where v.shop_id = {line}.shop_id and v.inventory_item_id = {line}.inventory_item_id and x.at > {since}
       union all
      select x.* from stock_movements x
       where x.shop_id = {line}.shop_id and x.sku = {line}.sku and {line}.sku <> '' and x.at > {since}
         and not exists (
           select from variants v where v.shop_id = x.shop_id and v.variant_id = x.variant_id)
         and not exists (
           select from inventory_levels o where o.shop_id = {line}.shop_id and o.sku = {line}.sku
              and o.inventory_item_id <> {line}.inventory_item_id)
    ) m {_locate(f"{line}.inventory_item_id")}
)"""  # noqa: S608 - the names are our own


LAST_MOVEMENT_AT = """(select max(at) from (
  (select x.at from variants v join stock_movements x on x.shop_id = v.shop_id and x.variant_id = v.variant_id
    where v.shop_id = l.shop_id and v.inventory_item_id = l.inventory_item_id and x.at > l.counted_at
    order by x.at desc limit 1)
   union all
  (select x.at from stock_movements x
    where x.shop_id = l.shop_id and x.sku = l.sku and l.sku <> '' and x.at > l.counted_at
    order by x.at desc limit 1)) last)"""
"""SQL: the time of the last movement of the variant or SKU of counted level ``l``, at any location; or null.

Includes movements of other items with the same SKU: two index probes replace a scan of all movements.
"""

# Adds new movements to the figures without reading earlier ones.
_APPLY = f"""
with fresh as materialized (
  select x.* from unnest(%(t_shop)s::int[], %(t_source)s::text[]) as t(shop_id, source)
    join stock_movements x using (shop_id, source)
), of_item as (
  select f.*, v.inventory_item_id as item from fresh f
    join variants v on v.shop_id = f.shop_id and v.variant_id = f.variant_id
   union all
  select f.*, b.item from fresh f
   cross join lateral (
     select min(o.inventory_item_id) as item from inventory_levels o
      where o.shop_id = f.shop_id and o.sku = f.sku
     having count(distinct o.inventory_item_id) = 1) b
   where f.sku <> '' and not exists (
     select from variants v where v.shop_id = f.shop_id and v.variant_id = f.variant_id)
), moved as (
  select k.shop_id, k.inventory_item_id, k.location_id, sum(m.delta)::int as delta,
         string_agg(m.source, ' ') as sources
    from of_item m {_locate("m.item")}
    join inventory_levels k on k.shop_id = m.shop_id and k.inventory_item_id = m.item
                           and k.location_id = {LOCATION} and k.counted_at < m.at
   group by 1, 2, 3 having sum(m.delta) <> 0
)
update inventory_levels l set available = l.available + m.delta, changed_at = %(now)s
  from moved m
 where l.shop_id = m.shop_id and l.inventory_item_id = m.inventory_item_id and l.location_id = m.location_id
returning l.shop_id, l.inventory_item_id, l.location_id, l.sku, l.available - m.delta as before,
          l.available as after, l.disconnected_at is null as is_stocked, m.sources
"""  # noqa: S608


_RECOUNT = f"""
with touched as materialized (
  select * from unnest(%(t_shop)s::int[], %(t_source)s::text[], %(t_sku)s::text[], %(t_variant)s::bigint[],
                       %(t_new)s::int[]) as t(shop_id, source, sku, variant_id, is_new)
), figure as materialized (
  select l.shop_id, l.inventory_item_id, l.location_id, l.sku, l.available as before,
         l.counted_available + coalesce(moved.delta, 0) as after, moved.fresh, moved.fresh_delta
         {LEVELS_BY_KEY}
    left join lateral (
      select sum(m.delta)::int as delta,
             string_agg(m.source, ' ') filter (where is_fresh) as fresh,
             sum(m.delta) filter (where is_fresh) as fresh_delta
        from (select n.*, n.source in (select source from touched where is_new = 1) as is_fresh
                from {movements_sql("l", "l.counted_at")} n where n.location_id = l.location_id) m
    ) moved on true
   where l.counted_at is not null
)
update inventory_levels l set available = f.after, changed_at = %(now)s
  from figure f
 where l.shop_id = f.shop_id and l.inventory_item_id = f.inventory_item_id and l.location_id = f.location_id
   and f.before <> f.after
returning l.shop_id, l.inventory_item_id, l.location_id, l.sku, f.before, f.after,
          l.disconnected_at is null as is_stocked, f.fresh, f.fresh_delta, (
            select string_agg(t.source, ' ') from touched t
              left join variants v on v.shop_id = t.shop_id and v.variant_id = t.variant_id
             where t.shop_id = l.shop_id
               and (t.sku = l.sku or v.inventory_item_id = l.inventory_item_id)) as touched
"""  # noqa: S608


def recount_levels(
    tx: Connection,
    levels: Collection[LevelKey],
    now: datetime,
    touched: Sequence[Movement] = (),
    new: Collection[tuple[int, str]] = (),
) -> list[LevelChange]:
    """Set every counted level of ``levels`` to its count plus its movements since; return the changes.

    The changes name their cause: ``touched`` are the movements that were written, changed or removed, and
    ``new`` the (shop, source) of the new ones. The caller has locked the rows of the levels.
    """
    if not levels:
        return []
    rows = [(m.shop_id, m.source, m.sku, m.variant_id, int((m.shop_id, m.source) in new)) for m in touched]
    values = arrays("t_shop t_source t_sku t_variant t_new", rows) | level_arrays(levels)
    changes: list[LevelChange] = []
    for row in tx.exec_driver_sql(_RECOUNT, values | {"now": now}):
        is_sum = bool(row.fresh) and row.fresh_delta == row.after - row.before
        sources = row.fresh if is_sum else row.touched or ""
        changes.append(
            LevelChange(Level.from_row(row), row.before, row.after, sources, not is_sum, row.is_stocked)
        )
    return changes


def apply_movements(tx: Connection, fresh: Sequence[Movement], now: datetime) -> list[LevelChange]:
    """Add the new movements ``fresh`` to the counted levels of their items; return the changes.

    The caller has locked the rows of these levels.
    """
    values = arrays("t_shop t_source", [(m.shop_id, m.source) for m in fresh]) | {"now": now}
    return [
        LevelChange(Level(*level), before, after, sources, is_stocked=is_stocked)
        for *level, before, after, is_stocked, sources in tx.exec_driver_sql(_APPLY, values)
    ]
