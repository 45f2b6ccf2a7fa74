"""What orders and refunds take from stock and bring back: each once, whatever comes twice or late."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.core.pg_arrays import instant_array, int_array, text_array
from services.core.pg_copy import write_new
from services.shopify.stock.level_moves import apply_movements, find_stock_owners, recount_levels
from services.shopify.stock.levels import LevelChange, Movement, lock_levels, lock_stock
from services.shopify.stock.pool_orders import update_oversold_incidents_of_variants

_COLUMNS = "shop_id, source, sku, delta, at, variant_id, location_id, order_id"

_GIVEN = f"""unnest(%(shop_id)s::int[], %(source)s::text[], %(sku)s::text[], %(delta)s::int[],
       %(at)s::timestamptz[], %(variant_id)s::bigint[], %(location_id)s::bigint[], %(order_id)s::bigint[])
       as v({_COLUMNS})"""

_INSERT = f"insert into stock_movements as m ({_COLUMNS}) select * from {_GIVEN}"  # noqa: S608

_UPSERT = f"""{_INSERT}
  on conflict (shop_id, source) do update set
     sku = excluded.sku, delta = excluded.delta, at = excluded.at, variant_id = excluded.variant_id,
     location_id = excluded.location_id, order_id = excluded.order_id
   where (m.sku, m.delta, m.at, m.variant_id, m.location_id, m.order_id)
         is distinct from (excluded.sku, excluded.delta, excluded.at, excluded.variant_id,
                           excluded.location_id, excluded.order_id)"""

# The rows as they were are read by the snapshot that the statement began with.
_TOUCH = f"""
with written as ({_UPSERT} returning m.*)
select w.shop_id, w.source, w.sku, w.delta, w.at, w.variant_id, o.source is null from written w
  left join stock_movements o on o.shop_id = w.shop_id and o.source = w.source
 union all
select o.shop_id, o.source, o.sku, o.delta, o.at, o.variant_id, false from written w
  join stock_movements o on o.shop_id = w.shop_id and o.source = w.source
"""  # noqa: S608

_TAKE_BACK = """
delete from stock_movements m
 using unnest(%(shop_id)s::int[], %(source)s::text[]) as v(shop_id, source)
 where m.shop_id = v.shop_id and m.source = v.source
returning m.shop_id, m.source, m.sku, m.delta, m.at, m.variant_id
"""


_OF_ORDERS = """
select v.gid, m.shop_id, m.source, m.sku, m.delta, m.at, m.variant_id
  from unnest(%(shop_id)s::int[], %(gid)s::text[]) as v(shop_id, gid)
  join order_lines l on l.shop_id = v.shop_id and l.order_gid = v.gid
  join stock_movements m on m.shop_id = l.shop_id
       and m.source in ('order-line:' || l.line_id,
                        'order-line:' || l.line_id || ':' || split_part(v.gid, '/', 5))
       and (m.order_id is null or v.gid = 'gid://shopify/Order/' || m.order_id)
"""


def record_movements(
    tx: Connection,
    movements: Sequence[Movement],
    now: datetime,
    taken_back: Sequence[Movement] = (),
    *,
    are_new: bool = False,
) -> list[LevelChange]:
    """Each movement is recorded once; return what it did to levels that were counted here.

    One that is recorded already changes nothing, unless it differs (an edited order): then the newer
    replaces it. Those ``taken_back`` never happened: of a line that an edit removed. A level that follows
    Shopify is not changed: Shopify took the pieces off its own figure, or left it alone on purpose.
    ``are_new``: there are many, of orders that no earlier event was about.
    """
    if not movements and not taken_back:
        return []
    shops = {m.shop_id for m in (*movements, *taken_back)}
    lock_stock(tx, shops, is_shared=True)
    touched, new = _take_back(tx, taken_back), set[tuple[int, str]]()
    counting, pooling = find_stock_owners(tx, shops)
    _write(tx, [m for m in movements if m.shop_id not in counting], are_new=are_new)
    ours = [m for m in movements if m.shop_id in counting]
    if ours:
        for row in tx.exec_driver_sql(_TOUCH, _arrays(ours)):
            touched.append(Movement(*row[:6]))
            if row[6]:
                new.add((row[0], row[1]))
    if pooling:
        of_pools = {(m.shop_id, m.variant_id) for m in movements if m.variant_id and m.shop_id in pooling}
        update_oversold_incidents_of_variants(tx, of_pools, now)
    touched = [m for m in touched if m.shop_id in counting]
    if not touched:
        return []
    levels = lock_levels(
        tx,
        variants={(m.shop_id, m.variant_id) for m in touched if m.variant_id},
        skus={(m.shop_id, m.sku) for m in touched if m.sku},
    )
    if len(new) == len(touched):
        return apply_movements(tx, touched, now)
    return recount_levels(tx, levels.counted, now, touched, new)


def recount_routed_orders(
    tx: Connection, orders: Collection[tuple[int, str]], now: datetime
) -> dict[tuple[int, str], list[LevelChange]]:
    """Return, by (shop, order gid), the counted levels that change as the order's location is another one."""
    counting = find_stock_owners(tx, {shop_id for shop_id, _ in orders}).counting
    mine = [key for key in orders if key[0] in counting]
    if not mine:
        return {}
    values = {"shop_id": int_array(s for s, _ in mine), "gid": text_array([gid for _, gid in mine])}
    lock_stock(tx, {shop_id for shop_id, _ in mine})
    of_order: dict[tuple[int, str], list[Movement]] = {}
    for gid, *row in tx.exec_driver_sql(_OF_ORDERS, values):
        of_order.setdefault((row[0], gid), []).append(Movement(*row))
    moves = [move for found in of_order.values() for move in found]
    levels = lock_levels(
        tx,
        variants={(m.shop_id, m.variant_id) for m in moves if m.variant_id},
        skus={(m.shop_id, m.sku) for m in moves if m.sku},
    )
    order_of = {(m.shop_id, m.source): key for key, found in of_order.items() for m in found}
    shifts: dict[tuple[int, str], list[LevelChange]] = {}
    for shift in recount_levels(tx, levels.counted, now, moves):
        source = shift.sources.rpartition(" ")[2]
        shifts.setdefault(order_of[shift.level.shop_id, source], []).append(shift)
    return shifts


def _take_back(tx: Connection, taken_back: Sequence[Movement]) -> list[Movement]:
    if not taken_back:
        return []
    values = {
        "shop_id": int_array(m.shop_id for m in taken_back),
        "source": text_array([m.source for m in taken_back]),
    }
    return [Movement(*row) for row in tx.exec_driver_sql(_TAKE_BACK, values)]


def _write(tx: Connection, movements: Sequence[Movement], *, are_new: bool) -> None:
    if not movements:
        return
    values = _arrays(movements)

    def insert() -> None:
        tx.exec_driver_sql(_INSERT, values)

    def correct() -> None:
        tx.exec_driver_sql(_UPSERT, values)

    if are_new:
        write_new(tx, insert, correct)
    else:
        correct()


def _arrays(movements: Sequence[Movement]) -> dict[str, Any]:
    columns = dict(zip(Movement._fields, zip(*movements, strict=True), strict=True))
    return {name: _MAKE_ARRAY.get(name, int_array)(column) for name, column in columns.items()}


_MAKE_ARRAY: Mapping[str, Callable[[Any], str]] = {
    "source": text_array, "sku": text_array, "at": instant_array,
}  # fmt: skip
"""How a column of ``Movement`` becomes an array; any other is of numbers."""
