"""Orders: a set of Shopify order events becomes orders, their lines, and what they take from stock."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.core.arrays import instant_array, int_array, text_array
from services.core.errors import Refused
from services.core.locks import lock_objects
from services.core.reading import read_set
from services.ledger.work import Done, Effects, NewWork, Outcome, WorkItem
from services.storefront.levels import Movement, record_movements
from services.storefront.order_body import Order, Version, order_version, read_order
from services.storefront.push_plan import Cause, plan_pushes
from services.storefront.refunds import recount_refunds

OrderKey = tuple[int, str]
"""(shop, order gid)."""

_FIND = """
select o.shop_id, o.order_gid, o.updated_at, o.cancelled_at, o.financial_status, o.total_cents
  from unnest(%(shop_id)s::int[], %(gid)s::text[]) as v(shop_id, gid)
  join orders o on o.shop_id = v.shop_id and o.order_gid = v.gid
"""

_FIND_REFUNDED = """
select distinct r.shop_id, r.order_gid
  from unnest(%(shop_id)s::int[], %(gid)s::text[]) as v(shop_id, gid)
  join order_refunds r on r.shop_id = v.shop_id and r.order_gid = v.gid
"""

_UPSERT_ORDERS = """
insert into orders (shop_id, order_gid, name, total_cents, currency, financial_status, cancelled_at,
                    placed_at, updated_at, event_id)
select * from unnest(%(shop_id)s::int[], %(gid)s::text[], %(name)s::text[], %(total_cents)s::bigint[],
                     %(currency)s::text[], %(financial_status)s::text[], %(cancelled_at)s::timestamptz[],
                     %(placed_at)s::timestamptz[], %(updated_at)s::timestamptz[], %(event_id)s::bigint[])
on conflict (shop_id, order_gid) do update set
   name = excluded.name, total_cents = excluded.total_cents, currency = excluded.currency,
   financial_status = excluded.financial_status, cancelled_at = excluded.cancelled_at,
   placed_at = excluded.placed_at, updated_at = excluded.updated_at, event_id = excluded.event_id
"""

_UPSERT_LINES = """
insert into order_lines as l (shop_id, line_id, order_gid, sku, title, quantity, price_cents)
select * from unnest(%(shop_id)s::int[], %(line_id)s::bigint[], %(gid)s::text[], %(sku)s::text[],
                     %(title)s::text[], %(quantity)s::int[], %(price_cents)s::bigint[])
on conflict (shop_id, order_gid, line_id) do update set
   sku = excluded.sku, title = excluded.title, quantity = excluded.quantity,
   price_cents = excluded.price_cents
 where (l.sku, l.title, l.quantity, l.price_cents)
       is distinct from (excluded.sku, excluded.title, excluded.quantity, excluded.price_cents)
"""


def ingest_orders(tx: Connection, items: Sequence[WorkItem], now: datetime) -> Effects:
    """Every order stands as its newest event told it, and each of its lines has left stock once.

    Events may come late, twice, in any order and several of one order in a set: the newest by
    ``order_version`` wins, an older one is ``stale`` and changes nothing. A body that lacks what an
    order needs is refused alone. Cancelling moves no stock: Shopify tells of that by a refund.
    """
    kept = [item for item in items if item.event_topic != "orders/delete"]
    answers = dict(
        zip((item.id for item in kept), read_set(kept, read_order, "shopify.unreadable_order"), strict=True)
    )
    orders = [order for order in answers.values() if not isinstance(order, Refused)]
    newest: dict[OrderKey, Order] = {}
    for order in orders:
        rival = newest.get((order.shop_id, order.gid))
        if rival is None or order.version > rival.version:
            newest[order.shop_id, order.gid] = order

    lock_objects(tx, newest)
    known = _find_versions(tx, newest)
    won = [order for key, order in newest.items() if key not in known or order.version > known[key]]
    if won:
        _record_orders(tx, won)
    follow_on = _record_sales(tx, won, now)

    def settle(item: WorkItem) -> Outcome:
        answer = answers.get(item.id)
        if answer is None:
            # A deletion carries only the id. The books keep the order; the event is kept beside it.
            return Done("kept")
        if isinstance(answer, Refused):
            return answer
        key = (answer.shop_id, answer.gid)
        best = max(newest[key].version, known.get(key, newest[key].version))
        return Done() if answer.version == best else Done("stale")

    return Effects([settle(item) for item in items], follow_on)


def _find_versions(tx: Connection, keys: Collection[OrderKey]) -> dict[OrderKey, Version]:
    if not keys:
        return {}
    rows = tx.exec_driver_sql(_FIND, _key_arrays(keys))
    return {(r[0], r[1]): order_version(r[2], r[3], r[4], r[5]) for r in rows}


def _record_orders(tx: Connection, orders: Sequence[Order]) -> None:
    lines = [(order, line) for order in orders for line in order.lines]
    tx.exec_driver_sql(
        _UPSERT_ORDERS,
        {
            "shop_id": int_array(o.shop_id for o in orders),
            "gid": text_array([o.gid for o in orders]),
            "name": text_array([o.name for o in orders]),
            "total_cents": int_array(o.total_cents for o in orders),
            "currency": text_array([o.currency for o in orders]),
            "financial_status": text_array([o.financial_status for o in orders]),
            "cancelled_at": instant_array(o.cancelled_at for o in orders),
            "placed_at": instant_array(o.placed_at for o in orders),
            "updated_at": instant_array(o.updated_at for o in orders),
            "event_id": int_array(o.event_id for o in orders),
        },
    )
    if lines:
        tx.exec_driver_sql(
            _UPSERT_LINES,
            {
                "shop_id": int_array(order.shop_id for order, _ in lines),
                "line_id": int_array(line.line_id for _, line in lines),
                "gid": text_array([order.gid for order, _ in lines]),
                "sku": text_array([line.sku for _, line in lines]),
                "title": text_array([line.title for _, line in lines]),
                "quantity": int_array(line.quantity for _, line in lines),
                "price_cents": int_array(line.price_cents for _, line in lines),
            },
        )
    keys = [(order.shop_id, order.gid) for order in orders]
    recount_refunds(tx, [(r[0], r[1]) for r in tx.exec_driver_sql(_FIND_REFUNDED, _key_arrays(keys))])


def _record_sales(tx: Connection, orders: Sequence[Order], now: datetime) -> list[NewWork]:
    """Every line with a sku has left stock at the time its order was placed; return the pushes due."""
    sales = [
        Movement(order.shop_id, f"order-line:{line.line_id}", line.sku, -line.quantity, order.placed_at)
        for order in orders
        for line in order.lines
        if line.sku
    ]
    changed = record_movements(tx, sales, now)
    if not changed:
        return []
    causes = {
        (order.shop_id, line.sku): Cause(order.event_id, order.request_id)
        for order in orders
        for line in order.lines
    }
    return plan_pushes(tx, changed, causes)


def _key_arrays(keys: Collection[OrderKey]) -> dict[str, str]:
    return {"shop_id": int_array(shop_id for shop_id, _ in keys), "gid": text_array([gid for _, gid in keys])}
