"""Which orders explain the figure of a pool: the audit and incidents name them, and they move nothing."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.alerts.incidents import Incident, find_open_incidents, record_incidents, resolve_incident
from services.core.pg_arrays import instant_array, int_array, text_array
from services.shopify.stock.level_moves import movements_sql
from services.shopify.stock.levels import Level

OVERSOLD = "stock_oversold"

_LATE = timedelta(seconds=60)
"""How far apart Shopify dates an order and what the order did to the stock, at most."""

_ASK = f"""
select g.n, coalesce('order ' || o.name, 'a return') as what, sum(m.delta)::int
  from unnest(%(n)s::int[], %(shop_id)s::int[], %(item)s::bigint[], %(sku)s::text[],
              %(since)s::timestamptz[], %(until)s::timestamptz[])
       as g(n, shop_id, inventory_item_id, sku, since, until)
 cross join lateral {movements_sql("g", "g.since")} m
  left join orders o on o.shop_id = g.shop_id and o.order_gid = 'gid://shopify/Order/' || m.order_id
 where m.at <= g.until and (o.name is not null or m.delta > 0)
 group by g.n, what order by g.n, what
"""  # noqa: S608

# The last sale of each shop that is in the pool with the goods, the latest first; read below zero alone.
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


def explain_by_orders(
    tx: Connection, spans: Sequence[tuple[Level, datetime | None, datetime, int]]
) -> list[str]:
    """Return, for each (level, since, until, difference), which orders explain it, in words."""
    if not spans:
        return []
    values = {
        "n": int_array(range(len(spans))),
        "shop_id": int_array(level.shop_id for level, *_ in spans),
        "item": int_array(level.inventory_item_id for level, *_ in spans),
        "sku": text_array([level.sku for level, *_ in spans]),
        "since": instant_array((since or until) - _LATE for _, since, until, _ in spans),
        "until": instant_array(until + _LATE for _, _, until, _ in spans),
    }
    known: dict[int, list[tuple[str, int]]] = {}
    for number, name, delta in tx.exec_driver_sql(_ASK, values):
        known.setdefault(number, []).append((name, delta))
    return [_say(known.get(number, []), span[3]) for number, span in enumerate(spans)]


def update_oversold_incidents(tx: Connection, goods: Collection[tuple[str, str]], now: datetime) -> None:
    """An incident is open for each of ``goods``, (pool, sku), that was sold beyond what there was."""
    if not goods:
        return
    ordered = sorted(goods)
    values = {
        "pool": text_array([pool for pool, _ in ordered]),
        "sku": text_array([sku for _, sku in ordered]),
        "since": now - timedelta(days=7),
    }
    sales: dict[tuple[str, str, int], list[str]] = {}
    for pool, sku, available, slug, name in tx.exec_driver_sql(_LAST_SALES, values):
        sale = f"order {name} of {slug}" if name else f"no order of {slug} is known yet"
        sales.setdefault((pool, sku, available), []).append(sale)
    incidents = []
    opened = {incident.period for incident in find_open_incidents(tx, OVERSOLD)}
    for (pool, sku, available), last in sales.items():
        if available >= 0:
            if f"{pool} {sku}" in opened:
                resolve_incident(tx, None, OVERSOLD, f"{pool} {sku}", now, "It is not below zero any more.")
            continue
        pieces = f"{-available} piece" + ("" if available == -1 else "s")
        summary = (
            f"pool {pool}: {sku} is sold beyond its stock by {pieces}. Last sales: {'; '.join(last[:2])}. "
            f"Send one from elsewhere, cancel one, or restock: `fleet stock pools {pool}`."
        )
        incidents.append(Incident(None, OVERSOLD, f"{pool} {sku}", "P2", summary))
    for pool, sku in set(goods) - {key[:2] for key in sales}:
        resolve_incident(tx, None, OVERSOLD, f"{pool} {sku}", now, "It is not in the pool any more.")
    record_incidents(tx, incidents, now)


def update_oversold_incidents_of_variants(
    tx: Connection, variants: Collection[tuple[int, int]], now: datetime
) -> None:
    """The incidents of goods below zero name these variants' orders, (shop, variant), too."""
    values = {
        "variant_shop": int_array(shop_id for shop_id, _ in variants),
        "variant": int_array(variant for _, variant in variants),
    }
    update_oversold_incidents(tx, {(row[0], row[1]) for row in tx.exec_driver_sql(_BELOW_ZERO, values)}, now)


def _say(known: Sequence[tuple[str, int]], difference: int) -> str:
    if not known:
        return "no order is known for it yet"
    explained = sum(delta for _, delta in known)
    return ", ".join(what for what, _ in known) + (
        "" if explained == difference else f" (of it {explained:+d})"
    )
