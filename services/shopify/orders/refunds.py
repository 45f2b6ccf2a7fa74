"""Refunds: what was given back of an order, and what came back into stock."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.errors import Refused
from services.core.fields import read_set
from services.core.locks import lock_objects
from services.core.pg_arrays import instant_array, int_array, text_array
from services.ledger.describe import audit_entry, split_change
from services.ledger.work import Done, HandlerResult, NewWork, WorkItem
from services.shopify.orders.audit_text import (
    describe_refund,
    describe_refunded_sum,
    describe_settled_refunds,
    order_label,
)
from services.shopify.orders.notices import Doubts, record_doubts
from services.shopify.orders.refund_payload import FIGURES, Refund, RefundLine, join_refunds, parse_refund
from services.shopify.orders.refund_store import (
    OrderKey,
    RefundKey,
    RefundTotals,
    read_transactions,
    recount_refunds,
    transactions_json,
)
from services.shopify.stock.audit_text import LevelStep, describe_level, plan_level_steps
from services.shopify.stock.levels import Movement
from services.shopify.stock.movements import record_movements
from services.shopify.stock.push_plan import PushCause, plan_pushes

_FIND = """
select r.shop_id, r.order_gid, r.refund_id, r.currency, r.refunded_at, r.transactions, r.shipping_cents,
       r.shipping_tax_cents, r.duties_cents, r.adjustment_cents, r.adjustment_tax_cents
  from unnest(%(shop_id)s::int[], %(gid)s::text[], %(refund_id)s::bigint[]) as v(shop_id, gid, refund_id)
  join order_refunds r on r.shop_id = v.shop_id and r.order_gid = v.gid and r.refund_id = v.refund_id
"""

_UPSERT = """
insert into order_refunds as r (shop_id, refund_id, order_gid, amount_cents, currency, refunded_at,
                                transactions, shipping_cents, shipping_tax_cents, duties_cents,
                                adjustment_cents, adjustment_tax_cents)
select v.shop_id, v.refund_id, v.gid, 0, coalesce(nullif(v.currency, ''), s.currency, ''), v.at,
       v.transactions, v.shipping_cents, v.shipping_tax_cents, v.duties_cents, v.adjustment_cents,
       v.adjustment_tax_cents
  from unnest(%(shop_id)s::int[], %(refund_id)s::bigint[], %(gid)s::text[], %(currency)s::text[],
              %(at)s::timestamptz[], %(transactions)s::jsonb[], %(shipping_cents)s::bigint[],
              %(shipping_tax_cents)s::bigint[], %(duties_cents)s::bigint[], %(adjustment_cents)s::bigint[],
              %(adjustment_tax_cents)s::bigint[])
       as v(shop_id, refund_id, gid, currency, at, transactions, shipping_cents, shipping_tax_cents,
            duties_cents, adjustment_cents, adjustment_tax_cents)
  left join shops s on s.id = v.shop_id
on conflict (shop_id, order_gid, refund_id) do update set
   currency = excluded.currency, refunded_at = excluded.refunded_at, transactions = excluded.transactions,
   shipping_cents = excluded.shipping_cents, shipping_tax_cents = excluded.shipping_tax_cents,
   duties_cents = excluded.duties_cents, adjustment_cents = excluded.adjustment_cents,
   adjustment_tax_cents = excluded.adjustment_tax_cents
"""

_UPSERT_LINES = """
insert into order_refund_lines as l (shop_id, refund_line_id, refund_id, order_gid, line_id, quantity,
                                     subtotal_cents, tax_cents)
select * from unnest(%(shop_id)s::int[], %(refund_line_id)s::bigint[], %(refund_id)s::bigint[],
                     %(gid)s::text[], %(line_id)s::bigint[], %(quantity)s::int[],
                     %(subtotal_cents)s::bigint[], %(tax_cents)s::bigint[])
on conflict (shop_id, order_gid, refund_id, refund_line_id) do update set
   quantity = greatest(l.quantity, excluded.quantity),
   subtotal_cents = greatest(l.subtotal_cents, excluded.subtotal_cents),
   tax_cents = greatest(l.tax_cents, excluded.tax_cents)
 where l.quantity < excluded.quantity or l.subtotal_cents < excluded.subtotal_cents
    or l.tax_cents < excluded.tax_cents
returning shop_id, order_gid, refund_id
"""


class WrittenRefund(NamedTuple):
    """What writing a refund did: whether it is new or its parts are others, and how many of its lines."""

    is_new: bool
    is_changed: bool
    new_lines: int


def ingest_refunds(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every refund counts once in its order's figures, and what was restocked is back in stock.

    A refund may come before its order: then it waits in ``order_refunds`` and the order counts it in
    when it arrives. A copy of a refund changes nothing. Of several events about one the larger figures
    count. It counts once no payment of it is pending, and never where all failed.
    """
    read = read_set(items, parse_refund, "shopify.unreadable_refund")
    joined: dict[RefundKey, Refund] = {}
    for entry in read:
        if isinstance(entry, Refund):
            twin = joined.get(entry.key)
            joined[entry.key] = entry if twin is None else join_refunds(twin, entry)
    refunds = list(joined.values())
    told = {item.id: item for item in items}
    doubts = [_plan_doubts(told[refund.work_id], refund) for refund in refunds if refund.doubts]
    orders = {(r.shop_id, r.order_gid) for r in refunds}
    lock_objects(tx, orders | {found.lock for found in doubts})
    written = _record_refunds(tx, refunds)
    recount = recount_refunds(tx, orders)
    noted = record_doubts(tx, doubts)
    new_work, steps = _record_returns(tx, refunds, recount.test_orders, now)
    said = _say_refunds(refunds, written, recount, steps)
    for work_id, mutations in noted.items():
        said.setdefault(work_id, []).extend(mutations)
    audit = [audit_entry(told[work_id], mutations) for work_id, mutations in said.items()]
    return HandlerResult(
        [answer if isinstance(answer, Refused) else Done() for answer in read], new_work, audit
    )


def _plan_doubts(item: WorkItem, refund: Refund) -> Doubts:
    lines = [f"refunds[{refund.refund_id}].{doubt}" for doubt in refund.doubts]
    return Doubts(item, refund.order_gid, refund.refunded_at, lines)


def _record_refunds(tx: Connection, refunds: Sequence[Refund]) -> dict[RefundKey, WrittenRefund]:
    """Write what is new of ``refunds``, joined with what is known of them; the caller holds the locks."""
    if not refunds:
        return {}
    keys = {
        "shop_id": int_array(r.shop_id for r in refunds),
        "gid": text_array([r.order_gid for r in refunds]),
        "refund_id": int_array(r.refund_id for r in refunds),
    }
    known = {(row[0], row[1], row[2]): row[3:] for row in tx.exec_driver_sql(_FIND, keys)}
    written: dict[RefundKey, WrittenRefund] = {}
    changed: list[Refund] = []
    new_lines = _record_lines(tx, [(refund, line) for refund in refunds for line in refund.lines])
    for refund in refunds:
        key, now = refund.key, refund
        if row := known.get(key):
            before = _read_known(row, refund)
            now = join_refunds(before, refund)
        is_changed = not row or row[2] is None or _parts(now) != _parts(before)
        if is_changed:
            changed.append(now)
        written[key] = WrittenRefund(row is None, is_changed, new_lines[key])
    if changed:
        _write_refunds(tx, changed)
    return written


def _read_known(row: Sequence[Any], refund: Refund) -> Refund:
    """Return the stored state of ``refund``.

    A row of before its payments were kept may have another currency than the shop's: the event's counts.
    """
    currency, refunded_at, transactions, *figures = row
    return refund._replace(
        currency=currency if transactions is not None else "",
        refunded_at=refunded_at,
        payments=read_transactions(transactions or ()),
        lines=[],
        doubts=(),
        **dict(zip(FIGURES, figures, strict=True)),
    )


def _parts(refund: Refund) -> tuple[Any, ...]:
    return (
        refund.currency,
        refund.refunded_at,
        refund.payments,
        *(getattr(refund, name) for name in FIGURES),
    )


def _write_refunds(tx: Connection, refunds: Sequence[Refund]) -> None:
    values = {
        "shop_id": int_array(r.shop_id for r in refunds),
        "refund_id": int_array(r.refund_id for r in refunds),
        "gid": text_array([r.order_gid for r in refunds]),
        "currency": text_array([r.currency for r in refunds]),
        "at": instant_array(r.refunded_at for r in refunds),
        "transactions": text_array([transactions_json(r.payments) for r in refunds]),
        **{name: int_array([getattr(r, name) for r in refunds]) for name in FIGURES},
    }
    tx.exec_driver_sql(_UPSERT, values)


def _record_lines(tx: Connection, lines: Sequence[tuple[Refund, RefundLine]]) -> Counter[RefundKey]:
    """Return how many lines of each refund are new or have grown."""
    if not lines:
        return Counter()
    rows = tx.exec_driver_sql(
        _UPSERT_LINES,
        {
            "shop_id": int_array(refund.shop_id for refund, _ in lines),
            "refund_line_id": int_array(line.refund_line_id for _, line in lines),
            "refund_id": int_array(refund.refund_id for refund, _ in lines),
            "gid": text_array([refund.order_gid for refund, _ in lines]),
            "line_id": int_array(line.line_id for _, line in lines),
            "quantity": int_array(line.quantity for _, line in lines),
            "subtotal_cents": int_array(line.subtotal_cents for _, line in lines),
            "tax_cents": int_array(line.tax_cents for _, line in lines),
        },
    )
    return Counter((int(shop_id), str(gid), int(refund_id)) for shop_id, gid, refund_id in rows)


def _record_returns(
    tx: Connection, refunds: Sequence[Refund], test_orders: Collection[OrderKey], now: datetime
) -> tuple[list[NewWork], dict[int, list[LevelStep]]]:
    """What was restocked is back; return the pushes due, and per work item the steps of stock it made.

    A test order took nothing from stock, so nothing of it comes back.
    """
    owners: dict[tuple[int, int], tuple[int, str, int]] = {}
    for refund in sorted(refunds, key=lambda refund: refund.key):
        for line in refund.lines:
            owners.setdefault((refund.shop_id, line.refund_line_id), refund.key)
    restocked = [
        (refund, line)
        for refund in refunds
        if (refund.shop_id, refund.order_gid) not in test_orders
        for line in refund.lines
        if line.is_restocked and (line.sku or line.variant_id)
    ]
    returns = [
        Movement(r.shop_id, f"refund-line:{line.refund_line_id}"
                 + ("" if owners[r.shop_id, line.refund_line_id] == r.key else f":{r.refund_id}"),
                 line.sku, line.quantity, r.refunded_at, line.variant_id, line.location_id)
        for r, line in restocked
    ]  # fmt: skip
    causes = {(r.shop_id, line.sku): PushCause(r.event_id, r.request_id) for r, line in restocked}
    shifts = record_movements(tx, returns, now)
    steps = plan_level_steps(
        shifts, [(r.work_id, move) for (r, _), move in zip(restocked, returns, strict=True)]
    )
    return plan_pushes(tx, [shift.level for shift in shifts], causes, now), steps


def _say_refunds(
    refunds: Sequence[Refund],
    written: Mapping[RefundKey, WrittenRefund],
    recount: RefundTotals,
    steps: Mapping[int, Sequence[LevelStep]],
) -> dict[int, list[Mutation]]:
    """Return what to say of each work item that changed something: the refund, its order's sum, stock."""
    said: dict[int, list[Mutation]] = {}
    of_order: dict[OrderKey, list[tuple[int, int]]] = {}
    for r in refunds:
        row = written[r.key]
        given = recount.refunds[r.shop_id, r.order_gid][r.refund_id]
        if row.is_changed or row.new_lines or given.before != given.now:
            said[r.work_id] = [describe_refund(r, given, row.new_lines, is_new=row.is_new)]
        before = 0 if row.is_new else given.before.amount_cents
        of_order.setdefault((r.shop_id, r.order_gid), []).append((r.work_id, given.now.amount_cents - before))
    for order, moves in of_order.items():
        others = {n: one for n, one in recount.refunds[order].items() if (*order, n) not in written}
        if mutations := describe_settled_refunds(order[1], others):
            said.setdefault(moves[-1][0], []).extend(mutations)
    for order, sums in recount.orders.items():
        label = order_label(sums.name, order[1])
        for work_id, step in split_change(sums.change, of_order[order]).items():
            said.setdefault(work_id, []).append(describe_refunded_sum(label, order[1], sums.currency, step))
    for r in refunds:
        for level, step in steps.get(r.work_id, ()):
            said.setdefault(r.work_id, []).append(describe_level(level, step, f"refund {r.refund_id}"))
    return said
