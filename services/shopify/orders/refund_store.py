"""SQL of refunds and their lines, and the totals of an order's refunds. The caller locks each order."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, RowMapping

from services.core.pg_arrays import array_parameters, encode_columns, find_by_key, int_array
from services.ledger.describe import Change
from services.shopify.orders.payload import OrderKey
from services.shopify.orders.refund_settlement import (
    PARTS,
    SUCCESS,
    OrderMoney,
    Refund,
    RefundChange,
    RefundedSum,
    RefundKey,
    RefundLine,
    RefundParts,
    RefundPayment,
    SettledRefund,
    later_payment,
    merge_refunds,
    settle_refunds,
)
from services.shopify.orders.store import key_arrays
from services.shopify.orders.tables import DUTIES_REMOVED, order_refund_lines, order_refunds

_KEY = ("shop_id", "order_gid", "refund_id")
_COLUMNS = (*_KEY, "currency", "refunded_at", "transactions", *PARTS)
_LINE_AMOUNTS = ("quantity", "subtotal_cents", "tax_cents")
_LINE_COLUMNS = (*_KEY, "refund_line_id", "line_id", *_LINE_AMOUNTS)
_SETTLED_COLUMNS = (*_KEY, *SettledRefund._fields)

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

# Refunds name pieces before they are booked, and a piece that no refund names was removed by an edit.
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
select r.shop_id, r.order_gid, r.currency, r.refund_id, r.refunded_at, r.transactions, l.goods_cents,
       l.goods_tax_cents, l.tip_line_cents, r.shipping_cents, r.shipping_tax_cents, r.duties_cents,
       r.adjustment_cents, r.adjustment_tax_cents, l.line_count, r.status, r.amount_cents, r.tip_cents,
       r.unexplained_cents, r.rounding_cents, r.additional_fees_cents
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
    """Whether a refund is new, whether its parts changed, and how many of its lines are new or have grown."""

    is_new: bool
    is_changed: bool
    new_lines: int


class RefundTotals(NamedTuple):
    """The totals of the refunds of some orders.

    ``orders`` has those whose sum changed, ``refunds`` every refund of each order, and ``test_orders`` those
    that are tests.
    """

    orders: dict[OrderKey, RefundedSum]
    refunds: dict[OrderKey, dict[int, RefundChange]]
    test_orders: frozenset[OrderKey]


NO_TOTALS = RefundTotals({}, {}, frozenset())


def record_refunds(tx: Connection, refunds: Sequence[Refund]) -> dict[RefundKey, WrittenRefund]:
    """Merge ``refunds`` into their rows, and write what is new or changed."""
    known = find_by_key(tx, order_refunds, [refund.key for refund in refunds])
    new_lines = _upsert_lines(tx, [(refund, line) for refund in refunds for line in refund.lines])
    written: dict[RefundKey, WrittenRefund] = {}
    changed: list[Refund] = []
    for refund in refunds:
        merged, is_changed = refund, True
        if row := known.get(refund.key):
            before = _read_known(row, refund)
            merged = merge_refunds(before, refund)
            is_changed = row["transactions"] is None or _state(merged) != _state(before)
        if is_changed:
            changed.append(merged)
        written[refund.key] = WrittenRefund(row is None, is_changed, new_lines[refund.key])
    if changed:
        columns: dict[str, list[Any]] = {"transactions": [format_payments(r.payments) for r in changed]}
        for name in (*_KEY, "currency", "refunded_at", *PARTS):
            columns[name] = [getattr(refund, name) for refund in changed]
        tx.exec_driver_sql(_UPSERT, encode_columns(order_refunds, columns))
    return written


def _read_known(row: Mapping[str, Any], refund: Refund) -> Refund:
    """Return the stored state of ``refund``.

    A row without ``transactions`` may have another currency than the shop's: the event's counts.
    """
    return refund._replace(
        currency=row["currency"] if row["transactions"] is not None else "",
        refunded_at=row["refunded_at"],
        payments=load_payments(row["transactions"] or ()),
        lines=[],
        doubts=(),
        **{name: row[name] for name in PARTS},
    )


def _state(refund: Refund) -> tuple[Any, ...]:
    parts = (getattr(refund, name) for name in PARTS)
    return (refund.currency, refund.refunded_at, refund.payments, *parts)


def _upsert_lines(tx: Connection, lines: Sequence[tuple[Refund, RefundLine]]) -> Counter[RefundKey]:
    """Write ``lines``; return how many of each refund are new or have grown."""
    if not lines:
        return Counter()
    columns = {name: [getattr(refund, name) for refund, _ in lines] for name in _KEY}
    columns |= {name: [getattr(line, name) for _, line in lines] for name in _LINE_COLUMNS[3:]}
    rows = tx.exec_driver_sql(_UPSERT_LINES, encode_columns(order_refund_lines, columns))
    return Counter((row.shop_id, row.order_gid, row.refund_id) for row in rows)


def recount_refunds(tx: Connection, keys: Collection[OrderKey]) -> RefundTotals:
    """Settle the refunds of ``keys``, and write the totals of the orders and their lines; return the changes.

    Only refunds in the order's own currency are added up.
    """
    if not keys:
        return NO_TOTALS
    values = key_arrays(keys)
    tx.exec_driver_sql(_RECOUNT_LINES, values)
    orders = {
        (row["shop_id"], row["order_gid"]): row for row in tx.exec_driver_sql(_FIND_ORDERS, values).mappings()
    }
    changes: dict[OrderKey, dict[int, RefundChange]] = defaultdict(dict)
    sums: dict[OrderKey, int] = dict.fromkeys(orders, 0)
    for (key, currency), refunds in _find_parts(tx, values).items():
        order = orders.get(key)
        is_own = order is not None and order["currency"] == currency
        money = OrderMoney(**{name: order[name] for name in OrderMoney._fields}) if order and is_own else None
        after = settle_refunds(money, refunds)
        for one in refunds:
            changes[key][one.refund_id] = RefundChange(currency, one.settled, after[one.refund_id])
        if is_own:
            sums[key] += sum(one.amount_cents for one in after.values() if one.status == SUCCESS)
    _write_settled(tx, changes)
    changed = {
        key: RefundedSum(row["name"], row["currency"], Change(row["refunded_cents"], sums[key]))
        for key, row in orders.items()
        if row["refunded_cents"] != sums[key]
    }
    if changed:
        cents = int_array(one.change.after for one in changed.values())
        tx.exec_driver_sql(_UPDATE_ORDERS, key_arrays(changed) | {"cents": cents})
    tests = frozenset(key for key, row in orders.items() if row["is_test"])
    return RefundTotals(changed, dict(changes), tests)


def _find_parts(tx: Connection, values: Mapping[str, str]) -> dict[tuple[OrderKey, str], list[RefundParts]]:
    """Return the refunds by order and currency, with the latest status of each payment."""
    statuses: dict[OrderKey, dict[int, str]] = defaultdict(dict)
    for row in tx.exec_driver_sql(_FIND_PAYMENTS, values):
        statuses[row.shop_id, row.order_gid][row.order_transaction_id] = row.status
    refunds: dict[tuple[OrderKey, str], list[RefundParts]] = defaultdict(list)
    for part in tx.exec_driver_sql(_FIND_PARTS, values).mappings():
        key = (part["shop_id"], part["order_gid"])
        refunds[key, part["currency"]].append(_read_parts(part, statuses[key]))
    return refunds


def _read_parts(row: RowMapping, statuses: Mapping[int, str]) -> RefundParts:
    payments = None
    if row["transactions"] is not None:
        payments = {
            number: later_payment(payment, payment._replace(status=statuses.get(number, payment.status)))
            for number, payment in load_payments(row["transactions"]).items()
        }
    names = [name for name in RefundParts._fields if name not in ("payments", "settled")]
    settled = SettledRefund(**{name: row[name] for name in SettledRefund._fields})
    return RefundParts(payments=payments, settled=settled, **{name: row[name] for name in names})


def load_payments(transactions: Iterable[Mapping[str, Any]]) -> dict[int, RefundPayment]:
    """Return the payments in the column ``transactions``."""
    return {
        entry["id"]: RefundPayment(entry["status"], entry["cents"], entry.get("is_foreign", False))
        for entry in transactions
    }


def format_payments(payments: Mapping[int, RefundPayment]) -> str:
    """Return the JSON of the column ``transactions``."""
    entries = [{"id": number, **payment._asdict()} for number, payment in sorted(payments.items())]
    return orjson.dumps(entries).decode()


def _write_settled(tx: Connection, changes: Mapping[OrderKey, Mapping[int, RefundChange]]) -> None:
    settled = [
        ((*order, number), change.now)
        for order, refunds in changes.items()
        for number, change in refunds.items()
        if change.before != change.now
    ]
    if settled:
        columns = dict(zip(_KEY, zip(*(key for key, _ in settled), strict=True), strict=True))
        columns |= {
            name: tuple(getattr(state, name) for _, state in settled) for name in SettledRefund._fields
        }
        tx.exec_driver_sql(_SETTLE, encode_columns(order_refunds, columns))
