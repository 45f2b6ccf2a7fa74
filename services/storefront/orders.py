"""Orders: a set of Shopify order events becomes orders, their lines, and what they take from stock."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.arrays import instant_array, int_array, text_array
from services.core.errors import Refused
from services.core.locks import lock_objects
from services.core.reading import read_set
from services.ledger.said import said_by
from services.ledger.work import Done, Effects, NewWork, Outcome, WorkItem
from services.storefront.levels import Movement, record_movements
from services.storefront.order_body import Order, OrderLine, order_version, read_order
from services.storefront.push_plan import Cause, plan_pushes
from services.storefront.refunds import OrderKey, Refunded, recount_refunds
from services.storefront.said import KnownOrder, Lines, order_label, say_order
from services.storefront.said_stock import Step, plan_steps, say_level

_FIND = """
select o.shop_id, o.order_gid, o.updated_at, o.cancelled_at, o.financial_status, o.total_cents, o.currency,
       o.name, o.placed_at
  from unnest(%(shop_id)s::int[], %(gid)s::text[]) as v(shop_id, gid)
  join orders o on o.shop_id = v.shop_id and o.order_gid = v.gid
"""

# Returns those that have refunds: they are counted anew.
_UPSERT_ORDERS = """
with written as (
  insert into orders (shop_id, order_gid, name, total_cents, currency, financial_status, cancelled_at,
                      placed_at, updated_at, event_id)
  select * from unnest(%(shop_id)s::int[], %(gid)s::text[], %(name)s::text[], %(total_cents)s::bigint[],
                       %(currency)s::text[], %(financial_status)s::text[], %(cancelled_at)s::timestamptz[],
                       %(placed_at)s::timestamptz[], %(updated_at)s::timestamptz[], %(event_id)s::bigint[])
  on conflict (shop_id, order_gid) do update set
     name = excluded.name, total_cents = excluded.total_cents, currency = excluded.currency,
     financial_status = excluded.financial_status, cancelled_at = excluded.cancelled_at,
     placed_at = excluded.placed_at, updated_at = excluded.updated_at, event_id = excluded.event_id
  returning shop_id, order_gid
)
select distinct r.shop_id, r.order_gid
  from written w join order_refunds r on r.shop_id = w.shop_id and r.order_gid = w.order_gid
"""

_FIND_CHANGED_LINES = """
select v.shop_id, v.gid, v.line_id, l.sku, l.title, l.quantity, l.price_cents
  from unnest(%(shop_id)s::int[], %(line_id)s::bigint[], %(gid)s::text[], %(sku)s::text[],
              %(title)s::text[], %(quantity)s::int[], %(price_cents)s::bigint[])
       as v(shop_id, line_id, gid, sku, title, quantity, price_cents)
  left join order_lines l on l.shop_id = v.shop_id and l.order_gid = v.gid and l.line_id = v.line_id
 where (l.sku, l.title, l.quantity, l.price_cents)
       is distinct from (v.sku, v.title, v.quantity, v.price_cents)
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
    known = _find_known(tx, newest)
    versions = {key: order_version(*row[:4]) for key, row in known.items()}
    won = [order for key, order in newest.items() if key not in versions or order.version > versions[key]]
    changed = _find_changed_lines(tx, [order for order in won if (order.shop_id, order.gid) in known])
    refunded = _record_orders(tx, won, known, changed) if won else {}
    follow_on, steps = _record_sales(tx, won, now)

    def settle(item: WorkItem) -> Outcome:
        answer = answers.get(item.id)
        if answer is None:
            # A deletion carries only the id. The books keep the order; the event is kept beside it.
            return Done("kept")
        if isinstance(answer, Refused):
            return answer
        key = (answer.shop_id, answer.gid)
        best = max(newest[key].version, versions.get(key, newest[key].version))
        return Done() if answer.version == best else Done("stale")

    told = {item.id: item for item in kept}
    audit = [
        said_by(
            told[order.work_id],
            _say(
                order, known.get(key), changed.get(key, {}), refunded.get(key), steps.get(order.work_id, ())
            ),
        )
        for order in won
        for key in ((order.shop_id, order.gid),)
    ]
    return Effects([settle(item) for item in items], follow_on, audit)


def _say(
    order: Order, known: KnownOrder | None, lines: Lines, refunded: Refunded | None, steps: Iterable[Step]
) -> list[Mutation]:
    said = [say_order(order, known, lines, refunded and refunded.change)]
    label = order_label(order.name, order.gid)
    said += [say_level(level, step, label) for level, step in steps]
    return said


def _find_known(tx: Connection, keys: Collection[OrderKey]) -> dict[OrderKey, KnownOrder]:
    if not keys:
        return {}
    rows = tx.exec_driver_sql(_FIND, _key_arrays(keys))
    return {(r[0], r[1]): KnownOrder(*r[2:]) for r in rows}


def _find_changed_lines(tx: Connection, orders: Sequence[Order]) -> dict[OrderKey, Lines]:
    """Return the lines of known ``orders`` that are new or not as they were."""
    lines = {(o.shop_id, o.gid, line.line_id): line for o in orders for line in o.lines}
    if not lines:
        return {}
    rows = tx.exec_driver_sql(
        _FIND_CHANGED_LINES, _line_arrays([(o, line) for o in orders for line in o.lines])
    )
    changed: dict[OrderKey, dict[int, tuple[OrderLine, OrderLine | None]]] = {}
    for shop_id, gid, line_id, sku, *rest in rows:
        old = None if sku is None else OrderLine(line_id, sku, *rest)
        changed.setdefault((shop_id, gid), {})[line_id] = (lines[shop_id, gid, line_id], old)
    return dict(changed)


def _record_orders(
    tx: Connection,
    orders: Sequence[Order],
    known: Collection[OrderKey],
    changed: Mapping[OrderKey, Lines],
) -> dict[OrderKey, Refunded]:
    """Write ``orders`` with their lines, of a known order those ``changed``; return what is refunded now."""
    refunded = tx.exec_driver_sql(
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
    ).all()
    lines = [
        (order, line)
        for order in orders
        for key in ((order.shop_id, order.gid),)
        for line in order.lines
        if key not in known or line.line_id in changed.get(key, ())
    ]
    if lines:
        tx.exec_driver_sql(_UPSERT_LINES, _line_arrays(lines))
    return recount_refunds(tx, [(r[0], r[1]) for r in refunded])


def _record_sales(
    tx: Connection, orders: Sequence[Order], now: datetime
) -> tuple[list[NewWork], dict[int, list[Step]]]:
    """Every line with a sku has left stock at the time its order was placed.

    Returns the pushes due, and per order's work item the steps of stock that it made.
    """
    sales = [
        (order.work_id, Movement(order.shop_id, f"order-line:{line.line_id}", line.sku, -line.quantity,
                                 order.placed_at))
        for order in orders
        for line in order.lines
        if line.sku
    ]  # fmt: skip
    shifts = record_movements(tx, [sale for _, sale in sales], now)
    if not shifts:
        return [], {}
    causes = {
        (order.shop_id, line.sku): Cause(order.event_id, order.request_id)
        for order in orders
        for line in order.lines
    }
    return plan_pushes(tx, [shift.level for shift in shifts], causes), plan_steps(shifts, sales)


def _line_arrays(lines: Sequence[tuple[Order, OrderLine]]) -> dict[str, str]:
    return {
        "shop_id": int_array(order.shop_id for order, _ in lines),
        "line_id": int_array(line.line_id for _, line in lines),
        "gid": text_array([order.gid for order, _ in lines]),
        "sku": text_array([line.sku for _, line in lines]),
        "title": text_array([line.title for _, line in lines]),
        "quantity": int_array(line.quantity for _, line in lines),
        "price_cents": int_array(line.price_cents for _, line in lines),
    }


def _key_arrays(keys: Collection[OrderKey]) -> dict[str, str]:
    return {"shop_id": int_array(shop_id for shop_id, _ in keys), "gid": text_array([gid for _, gid in keys])}
