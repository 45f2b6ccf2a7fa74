"""SQL of orders and their lines. The caller locks each order."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter, itemgetter
from typing import Any

from msgspec.structs import astuple
from sqlalchemy import Connection, CursorResult, Row

from services.core.pg_arrays import (
    array_parameters,
    encode_rows,
    instant_array,
    int_array,
    text_array,
    upsert_statement,
)
from services.core.pg_copy import copy_rows, write_new
from services.shopify.orders import tables
from services.shopify.orders.line_payload import LineChange, OrderLine
from services.shopify.orders.payload import COMPARED, Order, OrderKey

_ORDER_COLUMNS = tuple(
    column.name for column in tables.orders.columns if column.name in Order.__struct_fields__
)
_LINE_COLUMNS = ("shop_id", "order_gid", *OrderLine._fields)
_ORDER_VALUES = itemgetter(*map(Order.__struct_fields__.index, _ORDER_COLUMNS))

# One index probe per key: a plain join would scan a table that has grown since it was analyzed.
_FIND = f"""
select o.shop_id, o.order_gid, o.updated_at, {", ".join(f"o.{name}" for name in COMPARED)}
  from unnest(%(shop_id)s::int[], %(order_gid)s::text[]) as v(shop_id, order_gid)
 cross join lateral (
   select * from orders o where o.shop_id = v.shop_id and o.order_gid = v.order_gid offset 0) o
"""  # noqa: S608 - our own names

# Returns the orders with refunds, which may come before their order: their totals must be computed.
_UPSERT_ORDERS = f"""
with written as ({upsert_statement(tables.orders, _ORDER_COLUMNS)} returning shop_id, order_gid)
select distinct r.shop_id, r.order_gid
  from written w join order_refunds r on r.shop_id = w.shop_id and r.order_gid = w.order_gid
"""  # noqa: S608 - our own names

_FIND_REFUNDED = """
select v.shop_id, v.order_gid
  from unnest(%(shop_id)s::int[], %(order_gid)s::text[]) as v(shop_id, order_gid)
 where exists (
   select from order_refunds r where r.shop_id = v.shop_id and r.order_gid = v.order_gid offset 0)
"""

# A full join: an edit removed a line that has a row and is not in the event.
_FIND_CHANGED_LINES = f"""
select coalesce(v.shop_id, l.shop_id) as shop_id, coalesce(v.order_gid, l.order_gid) as order_gid,
       coalesce(v.line_id, l.line_id) as line_id, v.line_id is null as is_gone, l.line_id is null as is_new,
       l.sku, l.title, l.quantity, l.price_cents
  from unnest({array_parameters(tables.order_lines, _LINE_COLUMNS)}) as v({", ".join(_LINE_COLUMNS)})
  full join (
    select l.* from unnest(%(known_shop_id)s::int[], %(known_gid)s::text[]) as o(shop_id, order_gid)
     cross join lateral (
       select * from order_lines l
        where l.shop_id = o.shop_id and l.order_gid = o.order_gid offset 0) l
  ) l on l.shop_id = v.shop_id and l.order_gid = v.order_gid and l.line_id = v.line_id
 where ({", ".join(f"l.{name}" for name in OrderLine._fields)})
       is distinct from ({", ".join(f"v.{name}" for name in OrderLine._fields)})
"""  # noqa: S608 - our own names

_DELETE_LINES = """
delete from order_lines l
 using unnest(%(shop_id)s::int[], %(order_gid)s::text[], %(line_id)s::bigint[])
       as v(shop_id, order_gid, line_id)
 where l.shop_id = v.shop_id and l.order_gid = v.order_gid and l.line_id = v.line_id
"""

_DELETE = """
update orders o set deleted_at = v.deleted_at
  from unnest(%(shop_id)s::int[], %(order_gid)s::text[], %(deleted_at)s::timestamptz[])
       as v(shop_id, order_gid, deleted_at)
 where o.shop_id = v.shop_id and o.order_gid = v.order_gid
   and (o.deleted_at is null or o.deleted_at > v.deleted_at)
returning o.shop_id, o.order_gid, o.name
"""

_SHOWN = attrgetter("line_id", "sku", "title", "quantity", "price_cents")

MANY_ORDERS = MANY_LINES = 50
"""With this many new rows or more, COPY in a savepoint is faster than an upsert."""

LineChanges = dict[OrderKey, dict[int, LineChange]]
"""The changed lines of each order, by line id."""


def key_arrays(keys: Iterable[OrderKey]) -> dict[str, str]:
    keys = list(keys)
    return {
        "shop_id": int_array([shop_id for shop_id, _ in keys]),
        "order_gid": text_array([gid for _, gid in keys]),
    }


def find_known_orders(tx: Connection, keys: Collection[OrderKey]) -> dict[OrderKey, Row[Any]]:
    rows = tx.exec_driver_sql(_FIND, key_arrays(keys)) if keys else ()
    return {(row.shop_id, row.order_gid): row for row in rows}


def find_changed_lines(tx: Connection, orders: Mapping[OrderKey, Order]) -> LineChanges:
    """Return the lines of known ``orders`` that are new, removed or changed."""
    if not orders:
        return {}
    lines = {(*key, line.line_id): line for key, order in orders.items() for line in order.lines}
    keys = key_arrays(orders)
    values = {"known_shop_id": keys["shop_id"], "known_gid": keys["order_gid"]}
    rows = [(*key, *line) for key, order in orders.items() for line in order.lines]
    values |= encode_rows(tables.order_lines, _LINE_COLUMNS, rows)
    changed: LineChanges = defaultdict(dict)
    for row in tx.exec_driver_sql(_FIND_CHANGED_LINES, values):
        key = (row.shop_id, row.order_gid)
        changed[key][row.line_id] = LineChange(
            new=None if row.is_gone else lines[*key, row.line_id],
            old=None if row.is_new else OrderLine(*_SHOWN(row)),
        )
    return dict(changed)


def record_orders(
    tx: Connection, orders: Mapping[OrderKey, Order], known: Collection[OrderKey], changed: LineChanges
) -> list[OrderKey]:
    """Write ``orders`` with their lines (of known orders the ``changed`` ones); return those with refunds."""
    rows = [_ORDER_VALUES(astuple(order)) for order in orders.values()]

    def copy() -> CursorResult[Any]:
        copy_rows(tx, "orders", _ORDER_COLUMNS, rows)
        return tx.exec_driver_sql(_FIND_REFUNDED, key_arrays(orders))

    def upsert() -> CursorResult[Any]:
        return tx.exec_driver_sql(_UPSERT_ORDERS, encode_rows(tables.orders, _ORDER_COLUMNS, rows))

    found = write_new(tx, copy, upsert) if len(orders) >= MANY_ORDERS and not known else upsert()
    refunded = [(row.shop_id, row.order_gid) for row in found]
    new = [(*key, *line) for key, order in orders.items() if key not in known for line in order.lines]
    altered = [(*key, *line.new) for key, lines in changed.items() for line in lines.values() if line.new]
    if len(new) >= MANY_LINES:
        write_new(
            tx, lambda: copy_rows(tx, "order_lines", _LINE_COLUMNS, new), lambda: _upsert_lines(tx, new)
        )
    else:
        altered += new
    if altered:
        _upsert_lines(tx, altered)
    removed = [
        (key, line_id)
        for key, lines in changed.items()
        for line_id, line in lines.items()
        if line.new is None
    ]
    if removed:
        values = key_arrays(key for key, _ in removed) | {"line_id": int_array(line for _, line in removed)}
        tx.exec_driver_sql(_DELETE_LINES, values)
    return refunded


def record_deletions(tx: Connection, deleted_at: Mapping[OrderKey, datetime]) -> dict[OrderKey, str]:
    """Record the earliest time of each deletion; return the names of the orders that changed."""
    if not deleted_at:
        return {}
    values = key_arrays(deleted_at) | {"deleted_at": instant_array(deleted_at.values())}
    return {(row.shop_id, row.order_gid): row.name for row in tx.exec_driver_sql(_DELETE, values)}


def _upsert_lines(tx: Connection, lines: Sequence[tuple[Any, ...]]) -> None:
    tx.exec_driver_sql(
        upsert_statement(tables.order_lines, _LINE_COLUMNS),
        encode_rows(tables.order_lines, _LINE_COLUMNS, lines),
    )
