"""Records what orders and refunds take from stock and return to it, each movement once."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row

from services.core.pg_arrays import array_parameters, arrays, encode_columns
from services.core.pg_copy import write_new
from services.shopify.stock.levels import (
    LevelChange,
    LevelKey,
    Movement,
    find_stock_owners,
    lock_levels,
    lock_stock,
)
from services.shopify.stock.movement_levels import apply_movements, recount_levels
from services.shopify.stock.pools import update_oversold_incidents_of_variants
from services.shopify.tables import stock_movements

_COLUMNS = ", ".join(Movement._fields)
_VALUES = ", ".join(f"{name} = excluded.{name}" for name in Movement._fields[2:])
_IS_CHANGED = " or ".join(f"m.{name} is distinct from excluded.{name}" for name in Movement._fields[2:])

_INSERT = f"""
insert into stock_movements as m ({_COLUMNS})
select * from unnest({array_parameters(stock_movements, Movement._fields)}) as v({_COLUMNS})"""  # noqa: S608

_UPSERT = f"{_INSERT} on conflict (shop_id, source) do update set {_VALUES} where {_IS_CHANGED}"

# ``stock_movements`` in the outer selects has the rows as they were before the statement.
_UPSERT_RETURNING = f"""
with written as ({_UPSERT} returning m.*)
select w.shop_id, w.source, w.sku, w.delta, w.at, w.variant_id, o.source is null as is_new from written w
  left join stock_movements o on o.shop_id = w.shop_id and o.source = w.source
 union all
select o.shop_id, o.source, o.sku, o.delta, o.at, o.variant_id, false from written w
  join stock_movements o on o.shop_id = w.shop_id and o.source = w.source
"""  # noqa: S608

_DELETE = """
delete from stock_movements m
 using unnest(%(shop_id)s::int[], %(source)s::text[]) as v(shop_id, source)
 where m.shop_id = v.shop_id and m.source = v.source
returning m.shop_id, m.source, m.sku, m.delta, m.at, m.variant_id
"""

_FIND_OF_ORDERS = """
select m.shop_id, m.source, m.sku, m.delta, m.at, m.variant_id, v.gid
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
    deleted: Sequence[Movement] = (),
    *,
    are_new: bool = False,
) -> list[LevelChange]:
    """Record each movement once; return the changes of counted levels.

    A movement that differs from its recorded row (an edited order) replaces it. Movements in ``deleted`` are
    deleted: an edit removed their order lines. A level without a count keeps its figure: Shopify changes it.
    Pass ``are_new`` for many movements of orders without an earlier event.
    """
    if not movements and not deleted:
        return []
    shops = {m.shop_id for m in (*movements, *deleted)}
    lock_stock(tx, shops, is_shared=True)
    touched, new = _delete_movements(tx, deleted), set[tuple[int, str]]()
    counting, pooling = find_stock_owners(tx, shops)
    _write(tx, [m for m in movements if m.shop_id not in counting], are_new=are_new)
    if counted := [m for m in movements if m.shop_id in counting]:
        rows = tx.exec_driver_sql(_UPSERT_RETURNING, _movement_arrays(counted)).all()
        touched += map(_read_movement, rows)
        new = {(row.shop_id, row.source) for row in rows if row.is_new}
    changes: list[LevelChange] = []
    if touched := [m for m in touched if m.shop_id in counting]:
        levels = _lock_counted(tx, touched)
        if len(new) == len(touched):
            changes = apply_movements(tx, touched, now)
        else:
            changes = recount_levels(tx, levels, now, touched, new)
    if pooling:  # last, because incidents are locked after levels
        variants = {(m.shop_id, m.variant_id) for m in movements if m.variant_id}
        update_oversold_incidents_of_variants(tx, {v for v in variants if v[0] in pooling}, now)
    return changes


def recount_routed_orders(
    tx: Connection, orders: Collection[tuple[int, str]], now: datetime
) -> list[tuple[tuple[int, str], LevelChange]]:
    """Recount the levels of ``orders``, (shop, order gid), whose location changed; return their changes."""
    counting, _ = find_stock_owners(tx, {shop_id for shop_id, _ in orders})
    keys = [key for key in orders if key[0] in counting]
    if not keys:
        return []
    lock_stock(tx, {shop_id for shop_id, _ in keys})
    rows = tx.exec_driver_sql(_FIND_OF_ORDERS, arrays("shop_id gid", keys)).all()
    order_of = {(row.shop_id, row.source): (row.shop_id, row.gid) for row in rows}
    moved = [_read_movement(row) for row in rows]
    changes = recount_levels(tx, _lock_counted(tx, moved), now, moved)
    return [(order_of[c.level.shop_id, c.sources.rpartition(" ")[2]], c) for c in changes]


def _lock_counted(tx: Connection, movements: Collection[Movement]) -> set[LevelKey]:
    return lock_levels(
        tx,
        variants={(m.shop_id, m.variant_id) for m in movements if m.variant_id},
        skus={(m.shop_id, m.sku) for m in movements if m.sku},
    ).counted


def _delete_movements(tx: Connection, deleted: Sequence[Movement]) -> list[Movement]:
    if not deleted:
        return []
    values = arrays("shop_id source", [(m.shop_id, m.source) for m in deleted])
    return [_read_movement(row) for row in tx.exec_driver_sql(_DELETE, values)]


def _write(tx: Connection, movements: Sequence[Movement], *, are_new: bool) -> None:
    if not movements:
        return
    values = _movement_arrays(movements)
    upsert = partial(tx.exec_driver_sql, _UPSERT, values)
    if are_new:
        write_new(tx, partial(tx.exec_driver_sql, _INSERT, values), upsert)
    else:
        upsert()


def _read_movement(row: Row[Any]) -> Movement:
    """Return the movement in the first six columns of ``row``."""
    return Movement(*tuple(row)[:6])


def _movement_arrays(movements: Iterable[Movement]) -> dict[str, str]:
    columns = zip(*movements, strict=True)
    return encode_columns(stock_movements, dict(zip(Movement._fields, columns, strict=True)))
