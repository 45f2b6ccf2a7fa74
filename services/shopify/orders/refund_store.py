"""The rows of refunds: what is known, writing it, and what the refunds of an order come to."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from services.core.pg_arrays import int_array, text_array
from services.ledger.describe import Change
from services.shopify.orders.refund_settlement import (
    SUCCESS,
    OrderMoney,
    RefundChange,
    RefundParts,
    RefundPayment,
    SettledRefund,
    later_payment,
    settle_refunds,
)
from services.shopify.orders.tables import DUTIES_REMOVED

OrderKey = tuple[int, str]
"""(shop, order gid)."""

RefundKey = tuple[int, str, int]
"""(shop, order gid, refund)."""

# Refunds name pieces before they are booked, and a piece that no refund names was removed by an edit.
_RECOUNT_LINES = """
update order_lines l set refunded_quantity = c.quantity
  from (select r.shop_id, r.order_gid, r.line_id, sum(r.quantity) as quantity
          from unnest(%(shop_id)s::int[], %(gid)s::text[]) as v(shop_id, gid)
          join order_refund_lines r on r.shop_id = v.shop_id and r.order_gid = v.gid
         group by r.shop_id, r.order_gid, r.line_id) c
 where l.shop_id = c.shop_id and l.order_gid = c.order_gid and l.line_id = c.line_id
   and l.refunded_quantity <> c.quantity
"""

_FIND_ORDERS = f"""
select o.shop_id, o.order_gid, o.name, o.currency, o.refunded_cents, o.is_test, o.taxes_included,
       o.duties_included, o.tip_cents,
       o.additional_fees_cents - coalesce(o.current_additional_fees_cents, 0) as fees_cents,
       o.refund_rounding_cents, (
  select coalesce(sum(round((l.price_cents * l.quantity - l.discount_cents
                             + case when o.taxes_included then 0 else t.cents end)
                            * least(l.quantity, l.quantity - l.current_quantity - l.refunded_quantity)
                            / l.quantity)), 0)::bigint
    from order_lines l
   cross join lateral (
     select coalesce(sum((t ->> 'cents')::numeric), 0) as cents from jsonb_array_elements(l.taxes) t) t
   where l.shop_id = o.shop_id and l.order_gid = o.order_gid and l.quantity > 0
     and l.quantity - l.current_quantity - l.refunded_quantity > 0)
       + case when o.duties_included then 0 else {DUTIES_REMOVED} end as removed_cents
  from unnest(%(shop_id)s::int[], %(gid)s::text[]) as v(shop_id, gid)
  join orders o on o.shop_id = v.shop_id and o.order_gid = v.gid
"""  # noqa: S608 - the text joined in is a constant of our own

_FIND_PARTS = """
select r.shop_id, r.order_gid, r.currency, r.refund_id, r.refunded_at, r.transactions, l.goods_cents,
       l.goods_tax_cents, l.tip_line_cents, r.shipping_cents, r.shipping_tax_cents, r.duties_cents,
       r.adjustment_cents, r.adjustment_tax_cents, l.line_count, r.status, r.amount_cents, r.tip_cents,
       r.unexplained_cents, r.rounding_cents, r.additional_fees_cents
  from unnest(%(shop_id)s::int[], %(gid)s::text[]) as v(shop_id, gid)
  join order_refunds r on r.shop_id = v.shop_id and r.order_gid = v.gid
 cross join lateral (
  select coalesce(sum(f.subtotal_cents) filter (where l.is_tip is not true), 0)::bigint as goods_cents,
         coalesce(sum(f.tax_cents) filter (where l.is_tip is not true), 0)::bigint as goods_tax_cents,
         coalesce(sum(f.subtotal_cents) filter (where l.is_tip), 0)::bigint as tip_line_cents,
         count(*) as line_count
    from order_refund_lines f
    left join order_lines l on l.shop_id = f.shop_id and l.order_gid = f.order_gid and l.line_id = f.line_id
   where f.shop_id = r.shop_id and f.order_gid = r.order_gid and f.refund_id = r.refund_id) l
"""

_FIND_PAYMENTS = """
select t.shop_id, t.order_gid, t.order_transaction_id, t.status
  from unnest(%(shop_id)s::int[], %(gid)s::text[]) as v(shop_id, gid)
  join order_transactions t on t.shop_id = v.shop_id and t.order_gid = v.gid and t.kind = 'refund'
"""

_SETTLE = """
update order_refunds r set status = v.status, amount_cents = v.amount_cents, tip_cents = v.tip_cents,
       unexplained_cents = v.unexplained_cents, rounding_cents = v.rounding_cents,
       additional_fees_cents = v.additional_fees_cents
  from unnest(%(shop_id)s::int[], %(gid)s::text[], %(refund_id)s::bigint[], %(status)s::text[],
              %(amount_cents)s::bigint[], %(tip_cents)s::bigint[], %(unexplained_cents)s::bigint[],
              %(rounding_cents)s::bigint[], %(additional_fees_cents)s::bigint[])
       as v(shop_id, gid, refund_id, status, amount_cents, tip_cents, unexplained_cents, rounding_cents,
            additional_fees_cents)
 where r.shop_id = v.shop_id and r.order_gid = v.gid and r.refund_id = v.refund_id
"""

_RECOUNT_ORDERS = """
update orders o set refunded_cents = v.cents
  from unnest(%(shop_id)s::int[], %(gid)s::text[], %(cents)s::bigint[]) as v(shop_id, gid, cents)
 where o.shop_id = v.shop_id and o.order_gid = v.gid
"""


class RefundedChange(NamedTuple):
    """What is refunded of an order became another sum."""

    name: str
    currency: str
    change: Change


class RefundTotals(NamedTuple):
    """What counting the refunds of some orders came to.

    ``orders`` has those whose sum changed, ``refunds`` every refund of each order, and ``test_orders`` those
    of the orders that are tests.
    """

    orders: dict[OrderKey, RefundedChange]
    refunds: dict[OrderKey, dict[int, RefundChange]]
    test_orders: frozenset[OrderKey]


NO_TOTALS = RefundTotals({}, {}, frozenset())
"""What counting no orders comes to."""


def recount_refunds(tx: Connection, keys: Collection[OrderKey]) -> RefundTotals:
    """The orders, their lines and their refunds show what the refunds come to; return what changed.

    The caller holds the lock of each order. Only refunds in the order's own currency are added up.
    """
    if not keys:
        return NO_TOTALS
    values = {"shop_id": int_array(s for s, _ in keys), "gid": text_array([gid for _, gid in keys])}
    tx.exec_driver_sql(_RECOUNT_LINES, values)
    orders = {(row[0], row[1]): row for row in tx.exec_driver_sql(_FIND_ORDERS, values)}
    statuses: dict[OrderKey, dict[int, str]] = defaultdict(dict)
    for shop_id, gid, number, status in tx.exec_driver_sql(_FIND_PAYMENTS, values):
        statuses[shop_id, gid][number] = status
    of_order: dict[tuple[OrderKey, str], list[RefundParts]] = defaultdict(list)
    for shop_id, gid, currency, *parts in tx.exec_driver_sql(_FIND_PARTS, values):
        of_order[(shop_id, gid), currency].append(_read_parts(parts, statuses[shop_id, gid]))
    given: dict[OrderKey, dict[int, RefundChange]] = defaultdict(dict)
    refunded: dict[OrderKey, int] = dict.fromkeys(orders, 0)
    for (key, currency), parts_of in of_order.items():
        is_own = key in orders and orders[key].currency == currency
        after = settle_refunds(OrderMoney(*orders[key][6:]) if is_own else None, parts_of)
        for one in parts_of:
            given[key][one.refund_id] = RefundChange(currency, one.settled, after[one.refund_id])
        if is_own:
            refunded[key] += sum(one.amount_cents for one in after.values() if one.status == SUCCESS)
    _write_settled(
        tx,
        {
            (*order, number): one.now
            for order, refunds in given.items()
            for number, one in refunds.items()
            if one.before != one.now
        },
    )
    changed = {
        key: RefundedChange(row.name, row.currency, Change(row.refunded_cents, refunded[key]))
        for key, row in orders.items()
        if row.refunded_cents != refunded[key]
    }
    _write_refunded(tx, changed)
    return RefundTotals(changed, dict(given), frozenset(key for key, row in orders.items() if row.is_test))


def _read_parts(row: Sequence[Any], statuses: Mapping[int, str]) -> RefundParts:
    settled = len(SettledRefund._fields)
    refund_id, refunded_at, transactions, *parts = row[:-settled]
    payments = None if transactions is None else read_transactions(transactions)
    if payments is not None:
        payments = {
            number: later_payment(payment, payment._replace(status=statuses.get(number, payment.status)))
            for number, payment in payments.items()
        }
    return RefundParts(refund_id, refunded_at, payments, *[*parts, SettledRefund(*row[-settled:])])


def read_transactions(transactions: Iterable[Mapping[str, Any]]) -> dict[int, RefundPayment]:
    """Return what the column ``transactions`` holds."""
    return {
        entry["id"]: RefundPayment(entry["status"], entry["cents"], entry.get("is_foreign", False))
        for entry in transactions
    }


def transactions_json(payments: Mapping[int, RefundPayment]) -> str:
    """Return the column ``transactions``."""
    return orjson.dumps(
        [{"id": number, **payment._asdict()} for number, payment in sorted(payments.items())]
    ).decode()


def _write_settled(tx: Connection, settled: Mapping[RefundKey, SettledRefund]) -> None:
    if not settled:
        return
    statuses, *columns = zip(*settled.values(), strict=True)
    values = {
        "shop_id": int_array(shop_id for shop_id, _, _ in settled),
        "gid": text_array([gid for _, gid, _ in settled]),
        "refund_id": int_array(number for _, _, number in settled),
        "status": text_array(statuses),
        **dict(zip(SettledRefund._fields[1:], map(int_array, columns), strict=True)),
    }
    tx.exec_driver_sql(_SETTLE, values)


def _write_refunded(tx: Connection, refunded: Mapping[OrderKey, RefundedChange]) -> None:
    if not refunded:
        return
    values = {
        "shop_id": int_array(shop_id for shop_id, _ in refunded),
        "gid": text_array([gid for _, gid in refunded]),
        "cents": int_array(one.change.after for one in refunded.values()),
    }
    tx.exec_driver_sql(_RECOUNT_ORDERS, values)
