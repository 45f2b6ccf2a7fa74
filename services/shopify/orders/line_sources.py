"""Sources of stock movements: which lines share their id with a line of another order."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from services.core.pg_arrays import int_array, text_array
from services.shopify.orders.payload import Order

LineKey = tuple[int, str, int]
"""(shop, order gid, line)."""

# The movement of a line's id belongs to the order that recorded it first.
_FIND = """
select v.shop_id, v.gid, v.line_id
  from unnest(%(shop_id)s::int[], %(gid)s::text[], %(line_id)s::bigint[]) as v(shop_id, gid, line_id)
 cross join lateral (
   select m.order_id from stock_movements m
    where m.shop_id = v.shop_id and m.source = 'order-line:' || v.line_id offset 0) m
 where 'gid://shopify/Order/' || m.order_id <> v.gid
"""


def find_shared_lines(tx: Connection, lines: Sequence[LineKey]) -> frozenset[LineKey]:
    """Return those of ``lines`` whose id is that of another order's line, which keeps its source.

    Of two in ``lines`` that are both new, the first by global id keeps it.
    """
    if not lines:
        return frozenset()
    values = {
        "shop_id": int_array(shop_id for shop_id, _, _ in lines),
        "gid": text_array([gid for _, gid, _ in lines]),
        "line_id": int_array(line_id for _, _, line_id in lines),
    }
    shared = {(row[0], row[1], row[2]) for row in tx.exec_driver_sql(_FIND, values)}
    by_id: dict[tuple[int, int], list[LineKey]] = defaultdict(list)
    for key in lines:
        if key not in shared:
            by_id[key[0], key[2]].append(key)
    return frozenset(shared.union(*(sorted(keys)[1:] for keys in by_id.values() if len(keys) > 1)))


def list_shared_doubts(order: Order, shared: frozenset[LineKey]) -> Iterable[str]:
    """Yield a doubt for each line of ``order`` that is ``shared``."""
    for place, line in enumerate(order.lines):
        if (order.shop_id, order.gid, line.line_id) in shared:
            yield f"line_items[{place}].id is that of a line of another order: both are recorded"


def format_line_source(order: Order, line_id: int, shared: frozenset[LineKey]) -> str:
    """Return the source of the movement of a line; of a ``shared`` one it names the order too."""
    if (order.shop_id, order.gid, line_id) in shared:
        return f"order-line:{line_id}:{order.gid.rpartition('/')[2]}"
    return f"order-line:{line_id}"
