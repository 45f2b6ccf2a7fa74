"""Which orders explain the figure of a pool. The audit and incidents name them; they move no figure."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

from services.alerts.incidents import Incident, find_open_incidents, record_incidents, resolve_incident
from services.core.locks import Lock, lock_objects
from services.core.pg_arrays import instant_array, int_array, text_array
from services.shopify.stock.level_moves import movements_sql
from services.shopify.stock.pool_store import PoolItemKey, PoolReport, pool_item_arrays

OVERSOLD = "stock_oversold"

_MAX_DISTANCE = timedelta(seconds=60)
"""Most time between Shopify's date of an order and that of the order's change of stock."""

_SALES_SINCE = timedelta(days=7)

_EXPLAIN = f"""
select g.n, coalesce('order ' || o.name, 'a return') as what, sum(m.delta)::int as delta
  from unnest(%(n)s::int[], %(shop_id)s::int[], %(item)s::bigint[], %(sku)s::text[],
              %(since)s::timestamptz[], %(until)s::timestamptz[])
       as g(n, shop_id, inventory_item_id, sku, since, until)
 cross join lateral {movements_sql("g", "g.since")} m
  left join orders o on o.shop_id = g.shop_id and o.order_gid = 'gid://shopify/Order/' || m.order_id
 where m.at <= g.until and (o.name is not null or m.delta > 0)
 group by g.n, what order by g.n, what
"""  # noqa: S608

# The last sale in each shop of the pool, the latest first. Sales are read only for items below zero.
_LAST_SALES = f"""
select i.pool, i.sku, i.available, s.slug, sale.name
  from unnest(%(pool)s::text[], %(sku)s::text[]) as t(pool, sku)
  join stock_pool_items i on i.pool = t.pool and i.sku = t.sku
  join inventory_levels g on g.pool = i.pool and g.pool_sku = i.sku
  join shops s on s.id = g.shop_id
  left join lateral (
    select o.name, m.at from {movements_sql("g", "%(since)s::timestamptz")} m
      join orders o on o.shop_id = g.shop_id and o.order_gid = 'gid://shopify/Order/' || m.order_id
     where i.available < 0 and m.delta < 0 order by m.at desc, m.source desc limit 1) sale on true
 order by i.pool, i.sku, sale.at desc nulls last, s.slug
"""  # noqa: S608

_BELOW_ZERO = """
select distinct l.pool, l.pool_sku
  from (select * from unnest(%(variant_shop)s::int[], %(variant)s::bigint[]) as t(shop_id, variant_id)) t
  join variants v using (shop_id, variant_id)
  join inventory_levels l on l.shop_id = v.shop_id and l.inventory_item_id = v.inventory_item_id
  join stock_pool_items i on i.pool = l.pool and i.sku = l.pool_sku
 where i.available < 0
"""


def explain_by_orders(tx: Connection, moves: Sequence[PoolReport]) -> list[str]:
    """Return, for each of ``moves``, the orders that explain it, in words."""
    values = {
        "n": int_array(range(len(moves))),
        "shop_id": int_array(one.here.shop_id for one in moves),
        "item": int_array(one.here.inventory_item_id for one in moves),
        "sku": text_array([one.here.sku for one in moves]),
        "since": instant_array((one.here.known_at or one.until) - _MAX_DISTANCE for one in moves),
        "until": instant_array(one.until + _MAX_DISTANCE for one in moves),
    }
    orders: list[list[Row[Any]]] = [[] for _ in moves]
    for row in tx.exec_driver_sql(_EXPLAIN, values):
        orders[row.n].append(row)
    return [_format(found, one.change) for found, one in zip(orders, moves, strict=True)]


def update_oversold_incidents(tx: Connection, items: Collection[PoolItemKey], now: datetime) -> None:
    """Open an incident for each pool item below zero; resolve those of the others.

    Call this after the transaction's last lock of levels, once: it locks the incidents (see ``Lock``).
    """
    if not items:
        return
    lock_objects(tx, {(0, f"{OVERSOLD}:{pool} {sku}") for pool, sku in items}, Lock.INCIDENTS)
    sales: dict[tuple[str, str, int], list[str]] = {}
    for row in tx.exec_driver_sql(_LAST_SALES, pool_item_arrays(items) | {"since": now - _SALES_SINCE}):
        sale = f"order {row.name} of {row.slug}" if row.name else f"no order of {row.slug} is known yet"
        sales.setdefault((row.pool, row.sku, row.available), []).append(sale)
    incidents = []
    opened = {incident.period for incident in find_open_incidents(tx, OVERSOLD)}
    for (pool, sku, available), last in sales.items():
        period = f"{pool} {sku}"
        if available >= 0:
            if period in opened:
                resolve_incident(tx, None, OVERSOLD, period, now, "It is not below zero any more.")
            continue
        pieces = f"{-available} piece" + ("" if available == -1 else "s")
        summary = (
            f"pool {pool}: {sku} is sold beyond its stock by {pieces}. Last sales: {'; '.join(last[:2])}. "
            f"Send one from elsewhere, cancel one, or restock: `fleet stock pools {pool}`."
        )
        incidents.append(Incident(None, OVERSOLD, period, "P2", summary))
    for pool, sku in set(items) - {key[:2] for key in sales}:
        resolve_incident(tx, None, OVERSOLD, f"{pool} {sku}", now, "It is not in the pool any more.")
    record_incidents(tx, incidents, now)


def update_oversold_incidents_of_variants(
    tx: Connection, variants: Collection[tuple[int, int]], now: datetime
) -> None:
    """Name the latest orders of ``variants``, (shop, variant), in the incidents of items below zero."""
    values = {
        "variant_shop": int_array(shop_id for shop_id, _ in variants),
        "variant": int_array(variant for _, variant in variants),
    }
    items = {(row.pool, row.pool_sku) for row in tx.exec_driver_sql(_BELOW_ZERO, values)}
    update_oversold_incidents(tx, items, now)


def _format(orders: Sequence[Row[Any]], difference: int) -> str:
    if not orders:
        return "no order is known for it yet"
    explained = sum(row.delta for row in orders)
    text = ", ".join(row.what for row in orders)
    return text if explained == difference else f"{text} (of it {explained:+d})"
