"""Refunds: what was given back of an order, and what came back into stock."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.core.arrays import instant_array, int_array, text_array
from services.core.errors import Refused
from services.core.locks import lock_objects
from services.core.reading import read_set
from services.ledger.work import Done, Effects, NewWork, WorkItem
from services.storefront.levels import Movement, record_movements
from services.storefront.push_plan import Cause, plan_pushes
from services.storefront.refund_body import Refund, read_refund

_UPSERT_REFUNDS = """
insert into order_refunds as r (shop_id, refund_id, order_gid, amount_cents, currency, refunded_at)
select v.shop_id, v.refund_id, v.gid, v.amount_cents, coalesce(nullif(v.currency, ''), s.currency, ''), v.at
  from unnest(%(shop_id)s::int[], %(refund_id)s::bigint[], %(gid)s::text[], %(amount_cents)s::bigint[],
              %(currency)s::text[], %(at)s::timestamptz[])
       as v(shop_id, refund_id, gid, amount_cents, currency, at)
  left join shops s on s.id = v.shop_id
on conflict (shop_id, refund_id) do update set amount_cents = excluded.amount_cents
 where r.amount_cents < excluded.amount_cents
"""
# A refund carries no version. Its money can only become more: a transaction that was pending succeeds.

_INSERT_LINES = """
insert into order_refund_lines (shop_id, refund_line_id, refund_id, order_gid, line_id, quantity)
select * from unnest(%(shop_id)s::int[], %(refund_line_id)s::bigint[], %(refund_id)s::bigint[],
                     %(gid)s::text[], %(line_id)s::bigint[], %(quantity)s::int[])
on conflict (shop_id, refund_line_id) do nothing
"""

_RECOUNT_ORDERS = """
update orders o set refunded_cents = c.cents
  from (select v.shop_id, v.gid, (
          select coalesce(sum(r.amount_cents), 0) from order_refunds r
            join orders k on k.shop_id = r.shop_id and k.order_gid = r.order_gid and k.currency = r.currency
           where r.shop_id = v.shop_id and r.order_gid = v.gid) as cents
          from unnest(%(shop_id)s::int[], %(gid)s::text[]) as v(shop_id, gid)) c
 where o.shop_id = c.shop_id and o.order_gid = c.gid and o.refunded_cents <> c.cents
"""

_RECOUNT_LINES = """
update order_lines l set refunded_quantity = c.quantity
  from (select r.shop_id, r.order_gid, r.line_id, sum(r.quantity) as quantity
          from unnest(%(shop_id)s::int[], %(gid)s::text[]) as v(shop_id, gid)
          join order_refund_lines r on r.shop_id = v.shop_id and r.order_gid = v.gid
         group by r.shop_id, r.order_gid, r.line_id) c
 where l.shop_id = c.shop_id and l.order_gid = c.order_gid and l.line_id = c.line_id
   and l.refunded_quantity <> c.quantity
"""


def ingest_refunds(tx: Connection, items: Sequence[WorkItem], now: datetime) -> Effects:
    """Every refund counts once in its order's figures, and what was restocked is back in stock.

    A refund may come before its order: then it waits in ``order_refunds`` and the order counts it in
    when it arrives. A copy of a refund changes nothing.
    """
    read = read_set(items, read_refund, "shopify.unreadable_refund")
    refunds = {(r.shop_id, r.refund_id): r for r in read if isinstance(r, Refund)}
    if refunds:
        lock_objects(tx, {(r.shop_id, r.order_gid) for r in refunds.values()})
        _record_refunds(tx, list(refunds.values()))
    follow_on = _record_returns(tx, list(refunds.values()), now)
    return Effects([answer if isinstance(answer, Refused) else Done() for answer in read], follow_on)


def recount_refunds(tx: Connection, orders: Collection[tuple[int, str]]) -> None:
    """``orders`` (shop, gid) and their lines show what their refunds come to. The caller holds their lock.

    Only refunds in the order's own currency are added up.
    """
    if orders:
        keys = {"shop_id": int_array(s for s, _ in orders), "gid": text_array([gid for _, gid in orders])}
        tx.exec_driver_sql(_RECOUNT_ORDERS, keys)
        tx.exec_driver_sql(_RECOUNT_LINES, keys)


def _record_refunds(tx: Connection, refunds: Sequence[Refund]) -> None:
    tx.exec_driver_sql(
        _UPSERT_REFUNDS,
        {
            "shop_id": int_array(r.shop_id for r in refunds),
            "refund_id": int_array(r.refund_id for r in refunds),
            "gid": text_array([r.order_gid for r in refunds]),
            "amount_cents": int_array(r.amount_cents for r in refunds),
            "currency": text_array([r.currency for r in refunds]),
            "at": instant_array(r.refunded_at for r in refunds),
        },
    )
    lines = [(refund, line) for refund in refunds for line in refund.lines]
    if lines:
        tx.exec_driver_sql(
            _INSERT_LINES,
            {
                "shop_id": int_array(refund.shop_id for refund, _ in lines),
                "refund_line_id": int_array(line.refund_line_id for _, line in lines),
                "refund_id": int_array(refund.refund_id for refund, _ in lines),
                "gid": text_array([refund.order_gid for refund, _ in lines]),
                "line_id": int_array(line.line_id for _, line in lines),
                "quantity": int_array(line.quantity for _, line in lines),
            },
        )
    recount_refunds(tx, {(r.shop_id, r.order_gid) for r in refunds})


def _record_returns(tx: Connection, refunds: Sequence[Refund], now: datetime) -> list[NewWork]:
    restocked = [
        (refund, line) for refund in refunds for line in refund.lines if line.is_restocked and line.sku
    ]
    returns = [
        Movement(r.shop_id, f"refund-line:{line.refund_line_id}", line.sku, line.quantity, r.refunded_at)
        for r, line in restocked
    ]
    causes = {(r.shop_id, line.sku): Cause(r.event_id, r.request_id) for r, line in restocked}
    return plan_pushes(tx, record_movements(tx, returns, now), causes)
