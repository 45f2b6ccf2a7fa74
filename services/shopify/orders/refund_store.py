"""SQL of refunds and their lines, and the totals of an order's refunds. The caller locks each order."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from services.core.pg_arrays import array_parameters, encode_rows, find_by_key, int_array
from services.ledger.audit_text import FigureChange
from services.shopify.orders.payload import OrderKey
from services.shopify.orders.refund_settlement import (
    PARTS,
    SUCCESS,
    Refund,
    RefundChange,
    RefundedSum,
    RefundKey,
    RefundPayment,
    SettledRefund,
    StoredRefund,
    later_payment,
    merge_refunds,
    settle_refunds,
)
from services.shopify.orders.store import key_arrays
from services.shopify.orders.tables import DUTIES_REMOVED, order_refund_lines, order_refunds

_KEY = ("shop_id", "order_gid", "refund_id")
_COLUMNS = (*_KEY, "currency", "refunded_at", "transactions", *PARTS)
_LINE_AMOUNTS = ("quantity", "subtotal_cents", "tax_cents")
_OF_LINE = ("refund_line_id", "line_id", *_LINE_AMOUNTS)
_LINE_COLUMNS = (*_KEY, *_OF_LINE)
_SETTLED_COLUMNS = (*_KEY, *SettledRefund._fields)
_LINE_VALUES, _SETTLED_VALUES = attrgetter(*_OF_LINE), attrgetter(*SettledRefund._fields)
_PART_VALUES = attrgetter(*PARTS)

_UPSERT = f"""
insert into order_refunds ({", ".join(_COLUMNS)}, amount_cents)
select v.shop_id, v.order_gid, v.refund_id, coalesce(nullif(v.currency, ''), s.currency, ''),
       {", ".join(f"v.{name}" for name in _COLUMNS[4:])}, 0
  from unnest({array_parameters(order_refunds, _COLUMNS)}) as v({", ".join(_COLUMNS)})
  left join shops s on s.id = v.shop_id
on conflict (shop_id, order_gid, refund_id) do update set
   {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[3:])}
"""  # noqa: S608 - our own names

_UPSERT_LINES = f"""
insert into order_refund_lines as l ({", ".join(_LINE_COLUMNS)})
select * from unnest({array_parameters(order_refund_lines, _LINE_COLUMNS)})
on conflict (shop_id, order_gid, refund_id, refund_line_id) do update set
   {", ".join(f"{name} = greatest(l.{name}, excluded.{name})" for name in _LINE_AMOUNTS)}
 where {" or ".join(f"l.{name} < excluded.{name}" for name in _LINE_AMOUNTS)}
returning shop_id, order_gid, refund_id
"""  # noqa: S608 - our own names

# Counts also the pieces of pending refunds; an edit removed the pieces that are in no refund.
_RECOUNT_LINES = """
update order_lines l set refunded_quantity = c.quantity
  from (select r.shop_id, r.order_gid, r.line_id, sum(r.quantity) as quantity
          from unnest(%(shop_id)s::int[], %(order_gid)s::text[]) as v(shop_id, order_gid)
          join order_refund_lines r on r.shop_id = v.shop_id and r.order_gid = v.order_gid
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
  from unnest(%(shop_id)s::int[], %(order_gid)s::text[]) as v(shop_id, order_gid)
  join orders o on o.shop_id = v.shop_id and o.order_gid = v.order_gid
"""  # noqa: S608 - our own text

_FIND_PARTS = """
select r.*, l.goods_cents, l.goods_tax_cents, l.tip_line_cents, l.line_count
  from unnest(%(shop_id)s::int[], %(order_gid)s::text[]) as v(shop_id, order_gid)
  join order_refunds r on r.shop_id = v.shop_id and r.order_gid = v.order_gid
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
  from unnest(%(shop_id)s::int[], %(order_gid)s::text[]) as v(shop_id, order_gid)
  join order_transactions t on t.shop_id = v.shop_id and t.order_gid = v.order_gid and t.kind = 'refund'
"""

_SETTLE = f"""
update order_refunds r set {", ".join(f"{name} = v.{name}" for name in SettledRefund._fields)}
  from unnest({array_parameters(order_refunds, _SETTLED_COLUMNS)}) as v({", ".join(_SETTLED_COLUMNS)})
 where r.shop_id = v.shop_id and r.order_gid = v.order_gid and r.refund_id = v.refund_id
"""  # noqa: S608 - our own names

_UPDATE_ORDERS = """
update orders o set refunded_cents = v.cents
  from unnest(%(shop_id)s::int[], %(order_gid)s::text[], %(cents)s::bigint[]) as v(shop_id, order_gid, cents)
 where o.shop_id = v.shop_id and o.order_gid = v.order_gid
"""


class WrittenRefund(NamedTuple):
    """Whether a refund is new, whether its parts changed, and how many of its lines are new or larger."""

    is_new: bool
    is_changed: bool
    new_lines: int


class RefundTotals(NamedTuple):
    """The totals of the refunds of some orders.

    ``orders`` has the orders whose sum changed, ``refunds`` every refund of each order, and ``test_orders``
    the test orders.
    """

    orders: dict[OrderKey, RefundedSum]
    refunds: dict[OrderKey, dict[int, RefundChange]]
    test_orders: frozenset[OrderKey]


NO_TOTALS = RefundTotals({}, {}, frozenset())


def record_refunds(tx: Connection, refunds: Sequence[Refund]) -> dict[RefundKey, WrittenRefund]:
    """Merge ``refunds`` into their rows, and write what is new or changed."""
    known = find_by_key(tx, order_refunds, [refund.key for refund in refunds])
    new_lines = _upsert_lines(tx, refunds)
    written: dict[RefundKey, WrittenRefund] = {}
    changed: list[Refund] = []
    for refund in refunds:
        merged, is_changed = refund, True
        if row := known.get(refund.key):
            before = _load_refund(row, refund)
            merged = merge_refunds(before, refund)
            is_changed = row["transactions"] is None or merged._replace(lines=[], doubts=()) != before
        if is_changed:
            changed.append(merged)
        written[refund.key] = WrittenRefund(row is None, is_changed, new_lines[refund.key])
    if changed:
        rows = [(*r.key, r.currency, r.refunded_at, _format_payments(r), *_PART_VALUES(r)) for r in changed]
        tx.exec_driver_sql(_UPSERT, encode_rows(order_refunds, _COLUMNS, rows))
    return written


def _load_refund(row: Mapping[str, Any], refund: Refund) -> Refund:
    """Return the stored state of ``refund``, without lines.

    A row without ``transactions`` may not be in the shop's currency: then the event's currency counts.
    """
    return refund._replace(
        currency=row["currency"] if row["transactions"] is not None else "",
        refunded_at=row["refunded_at"],
        payments=_load_payments(row["transactions"] or ()),
        lines=[],
        doubts=(),
        **{name: row[name] for name in PARTS},
    )


def _upsert_lines(tx: Connection, refunds: Sequence[Refund]) -> Counter[RefundKey]:
    """Write the lines of ``refunds``; return how many of each refund are new or larger."""
    lines = [(*refund.key, *_LINE_VALUES(line)) for refund in refunds for line in refund.lines]
    if not lines:
        return Counter()
    rows = tx.exec_driver_sql(_UPSERT_LINES, encode_rows(order_refund_lines, _LINE_COLUMNS, lines))
    return Counter((row.shop_id, row.order_gid, row.refund_id) for row in rows)


def recount_refunds(tx: Connection, keys: Collection[OrderKey]) -> RefundTotals:
    """Settle the refunds of ``keys``, and write the totals of the orders and their lines; return the changes.

    Only refunds in the order's own currency are added up.
    """
    if not keys:
        return NO_TOTALS
    values = key_arrays(keys)
    tx.exec_driver_sql(_RECOUNT_LINES, values)
    orders = {(row.shop_id, row.order_gid): row for row in tx.exec_driver_sql(_FIND_ORDERS, values)}
    changes: dict[OrderKey, dict[int, RefundChange]] = defaultdict(dict)
    sums: dict[OrderKey, int] = dict.fromkeys(orders, 0)
    for (key, currency), refunds in _find_refunds(tx, values).items():
        order = orders.get(key)
        is_own = order is not None and order.currency == currency
        after = settle_refunds(order if is_own else None, refunds)
        for refund in refunds:
            number = refund.row.refund_id
            changes[key][number] = RefundChange(currency, refund.settled, after[number])
        if is_own:
            sums[key] += sum(state.amount_cents for state in after.values() if state.status == SUCCESS)
    settled = [
        (*key, number, *change.now)
        for key, refunds_of in changes.items()
        for number, change in refunds_of.items()
        if change.before != change.now
    ]
    if settled:
        tx.exec_driver_sql(_SETTLE, encode_rows(order_refunds, _SETTLED_COLUMNS, settled))
    changed = {
        key: RefundedSum(row.name, row.currency, FigureChange(row.refunded_cents, sums[key]))
        for key, row in orders.items()
        if row.refunded_cents != sums[key]
    }
    if changed:
        cents = int_array(total.change.after for total in changed.values())
        tx.exec_driver_sql(_UPDATE_ORDERS, key_arrays(changed) | {"cents": cents})
    tests = frozenset(key for key, row in orders.items() if row.is_test)
    return RefundTotals(changed, dict(changes), tests)


def _find_refunds(
    tx: Connection, values: Mapping[str, str]
) -> dict[tuple[OrderKey, str], list[StoredRefund]]:
    """Return the refunds by order and currency, with the latest status of each payment."""
    statuses = {
        (row.shop_id, row.order_gid, row.order_transaction_id): row.status
        for row in tx.exec_driver_sql(_FIND_PAYMENTS, values)
    }
    refunds: dict[tuple[OrderKey, str], list[StoredRefund]] = defaultdict(list)
    for row in tx.exec_driver_sql(_FIND_PARTS, values):
        key, payments = (row.shop_id, row.order_gid), None
        if row.transactions is not None:
            payments = {
                number: later_payment(
                    known, known._replace(status=statuses.get((*key, number), known.status))
                )
                for number, known in _load_payments(row.transactions).items()
            }
        refunds[key, row.currency].append(StoredRefund(row, payments, SettledRefund(*_SETTLED_VALUES(row))))
    return refunds


def _load_payments(transactions: Sequence[Mapping[str, Any]]) -> dict[int, RefundPayment]:
    return {
        entry["id"]: RefundPayment(entry["status"], entry["cents"], entry.get("is_foreign", False))
        for entry in transactions
    }


def _format_payments(refund: Refund) -> str:
    entries = [{"id": number, **payment._asdict()} for number, payment in sorted(refund.payments.items())]
    return orjson.dumps(entries).decode()
