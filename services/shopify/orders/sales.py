"""Stock that orders take: one movement for each line, whatever comes twice or late."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.core.pg_arrays import int_array, text_array
from services.ledger.work import NewWork
from services.shopify.orders.payload import Order
from services.shopify.orders.store import MANY_LINES, LineChanges
from services.shopify.payload import gid_number
from services.shopify.stock.audit_text import LevelStep, plan_level_steps
from services.shopify.stock.levels import Movement
from services.shopify.stock.movements import record_movements
from services.shopify.stock.push_plan import PushCause, plan_pushes

LineKey = tuple[int, str, int]
"""(shop, order gid, line)."""

# The movement of a line's id belongs to the order that recorded it first.
_FIND_SHARED = """
select v.shop_id, v.order_gid, v.line_id
  from unnest(%(shop_id)s::int[], %(order_gid)s::text[], %(line_id)s::bigint[])
       as v(shop_id, order_gid, line_id)
 cross join lateral (
   select m.order_id from stock_movements m
    where m.shop_id = v.shop_id and m.source = 'order-line:' || v.line_id offset 0) m
 where 'gid://shopify/Order/' || m.order_id <> v.order_gid
"""


def find_shared_lines(tx: Connection, lines: Sequence[LineKey]) -> frozenset[LineKey]:
    """Return those of ``lines`` whose id another order's line has, which keeps its movement's source.

    Of two new ``lines`` with one id the first by global id keeps it.
    """
    if not lines:
        return frozenset()
    values = {
        "shop_id": int_array(shop_id for shop_id, _, _ in lines),
        "order_gid": text_array([gid for _, gid, _ in lines]),
        "line_id": int_array(line_id for _, _, line_id in lines),
    }
    rows = tx.exec_driver_sql(_FIND_SHARED, values)
    shared: set[LineKey] = {(row.shop_id, row.order_gid, row.line_id) for row in rows}
    by_id: dict[tuple[int, int], list[LineKey]] = defaultdict(list)
    for key in lines:
        if key not in shared:
            by_id[key[0], key[2]].append(key)
    return frozenset(shared.union(*(sorted(keys)[1:] for keys in by_id.values() if len(keys) > 1)))


def list_shared_doubts(order: Order, shared: frozenset[LineKey]) -> Iterable[str]:
    """Yield a doubt for each line of ``order`` that is ``shared``."""
    for index, line in enumerate(order.lines):
        if (*order.key, line.line_id) in shared:
            yield f"line_items[{index}].id is that of a line of another order: both are recorded"


def record_sales(
    tx: Connection,
    orders: Sequence[Order],
    changed: LineChanges,
    shared: frozenset[LineKey],
    now: datetime,
    *,
    are_new: bool,
) -> tuple[list[NewWork], dict[int, list[LevelStep]]]:
    """Record that each line with a variant or a SKU left stock when its order was placed.

    The movement of a line that is gone, or has another SKU now, is taken back. Returns the pushes due, and
    the steps of stock levels by work item.
    """
    gone = [
        (order, line.old)
        for order in orders
        for line in changed.get(order.key, {}).values()
        if line.old and (line.new is None or line.new.sku != line.old.sku)
    ]
    shared |= find_shared_lines(tx, [(*order.key, old.line_id) for order, old in gone])

    def source(order: Order, line_id: int) -> str:
        number = order.order_gid.rpartition("/")[2]
        return f"order-line:{line_id}" + (f":{number}" if (*order.key, line_id) in shared else "")

    sales = [
        (order.work_id, Movement(order.shop_id, source(order, line.line_id), line.sku, -line.quantity,
                                 order.placed_at, variant_id, order.location_id, gid_number(order.order_gid)))
        for order in orders
        if not order.is_test
        for line in order.lines
        for variant_id in (order.variant_ids.get(line.line_id),)
        if line.sku or variant_id
    ]  # fmt: skip
    undone = [
        (order.work_id, Movement(order.shop_id, source(order, old.line_id), old.sku, -old.quantity,
                                 order.placed_at))
        for order, old in gone
    ]  # fmt: skip
    shifts = record_movements(
        tx,
        [sale for _, sale in sales],
        now,
        [sale for _, sale in undone],
        are_new=are_new and len(sales) >= MANY_LINES,
    )
    if not shifts:
        return [], {}
    causes = {
        (order.shop_id, line.sku): PushCause(order.event_id, order.request_id)
        for order in orders
        for line in order.lines
    }
    levels = [shift.level for shift in shifts if shift.is_stocked]
    return plan_pushes(tx, levels, causes, now), plan_level_steps(shifts, [*undone, *sales])
