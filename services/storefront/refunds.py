"""Refunds: what was given back of an order, and what came back into stock."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.arrays import instant_array, int_array, text_array
from services.core.errors import Refused
from services.core.locks import lock_objects
from services.core.reading import read_set
from services.ledger.said import Change, plan_path, said_by
from services.ledger.work import Done, Effects, NewWork, WorkItem
from services.storefront.levels import Movement
from services.storefront.movements import record_movements
from services.storefront.push_plan import Cause, plan_pushes
from services.storefront.refund_body import Refund, RefundLine, join_refunds, read_refund
from services.storefront.said import order_label, say_refund, say_refunded
from services.storefront.said_stock import Step, plan_steps, say_level

OrderKey = tuple[int, str]
"""(shop, order gid)."""

RefundKey = tuple[int, int]
"""(shop, refund)."""

_UPSERT_REFUNDS = """
with told as (
  select v.shop_id, v.refund_id, v.gid, v.amount_cents, coalesce(nullif(v.currency, ''), s.currency, '')
         as currency, v.at, v.shipping_cents, v.shipping_tax_cents, r.amount_cents as known_cents,
         r.shipping_cents as known_shipping
    from unnest(%(shop_id)s::int[], %(refund_id)s::bigint[], %(gid)s::text[], %(amount_cents)s::bigint[],
                %(currency)s::text[], %(at)s::timestamptz[], %(shipping_cents)s::bigint[],
                %(shipping_tax_cents)s::bigint[])
         as v(shop_id, refund_id, gid, amount_cents, currency, at, shipping_cents, shipping_tax_cents)
    left join shops s on s.id = v.shop_id
    left join order_refunds r on r.shop_id = v.shop_id and r.refund_id = v.refund_id
), written as (
  insert into order_refunds as r (shop_id, refund_id, order_gid, amount_cents, currency, refunded_at,
                                  shipping_cents, shipping_tax_cents)
  select shop_id, refund_id, gid, amount_cents, currency, at, shipping_cents, shipping_tax_cents from told
  on conflict (shop_id, refund_id) do update set
     amount_cents = greatest(r.amount_cents, excluded.amount_cents),
     -- A telling that named no money was counted in the shop's currency; the money's own is the truth.
     currency = case when r.amount_cents < excluded.amount_cents then excluded.currency else r.currency end,
     shipping_cents = greatest(r.shipping_cents, excluded.shipping_cents),
     shipping_tax_cents = greatest(r.shipping_tax_cents, excluded.shipping_tax_cents)
   where r.amount_cents < excluded.amount_cents or r.shipping_cents < excluded.shipping_cents
      or r.shipping_tax_cents < excluded.shipping_tax_cents
)
select shop_id, refund_id, known_cents, greatest(amount_cents, known_cents), currency,
       greatest(shipping_cents, known_shipping) is distinct from known_shipping from told
"""
# A refund carries no version. Its money can only become more: a transaction that was pending succeeds.

_UPSERT_LINES = """
insert into order_refund_lines as l (shop_id, refund_line_id, refund_id, order_gid, line_id, quantity,
                                     subtotal_cents, tax_cents)
select * from unnest(%(shop_id)s::int[], %(refund_line_id)s::bigint[], %(refund_id)s::bigint[],
                     %(gid)s::text[], %(line_id)s::bigint[], %(quantity)s::int[],
                     %(subtotal_cents)s::bigint[], %(tax_cents)s::bigint[])
on conflict (shop_id, refund_line_id) do update set
   quantity = greatest(l.quantity, excluded.quantity),
   subtotal_cents = greatest(l.subtotal_cents, excluded.subtotal_cents),
   tax_cents = greatest(l.tax_cents, excluded.tax_cents)
 where l.quantity < excluded.quantity or l.subtotal_cents < excluded.subtotal_cents
    or l.tax_cents < excluded.tax_cents
returning shop_id, refund_id
"""

_RECOUNT_ORDERS = """
update orders o set refunded_cents = c.cents
  from (select v.shop_id, v.gid, k.refunded_cents as before, (
          select coalesce(sum(r.amount_cents), 0) from order_refunds r
           where r.shop_id = v.shop_id and r.order_gid = v.gid and r.currency = k.currency) as cents
          from unnest(%(shop_id)s::int[], %(gid)s::text[]) as v(shop_id, gid)
          join orders k on k.shop_id = v.shop_id and k.order_gid = v.gid) c
 where o.shop_id = c.shop_id and o.order_gid = c.gid and o.refunded_cents <> c.cents
returning o.shop_id, o.order_gid, o.name, o.currency, c.before, o.refunded_cents
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


class Refunded(NamedTuple):
    """What is refunded of an order became another sum."""

    name: str
    currency: str
    change: Change


class Written(NamedTuple):
    """What writing a refund changed; ``known_cents`` None where it is new."""

    known_cents: int | None
    amount_cents: int
    currency: str
    is_shipping_new: bool
    new_lines: int

    @property
    def is_changed(self) -> bool:
        """Whether the row or its lines are other than they were."""
        return self.known_cents != self.amount_cents or self.new_lines > 0 or self.is_shipping_new


def ingest_refunds(tx: Connection, items: Sequence[WorkItem], now: datetime) -> Effects:
    """Every refund counts once in its order's figures, and what was restocked is back in stock.

    A refund may come before its order: then it waits in ``order_refunds`` and the order counts it in
    when it arrives. A copy of a refund changes nothing. Of several tellings the larger figures count.
    """
    read = read_set(items, read_refund, "shopify.unreadable_refund")
    joined: dict[RefundKey, Refund] = {}
    for entry in read:
        if isinstance(entry, Refund):
            twin = joined.get((entry.shop_id, entry.refund_id))
            joined[entry.shop_id, entry.refund_id] = entry if twin is None else join_refunds(twin, entry)
    refunds = list(joined.values())
    written: dict[RefundKey, Written] = {}
    refunded: dict[OrderKey, Refunded] = {}
    if refunds:
        lock_objects(tx, {(r.shop_id, r.order_gid) for r in refunds})
        written = _record_refunds(tx, refunds)
        refunded = recount_refunds(tx, {(r.shop_id, r.order_gid) for r in refunds})
    follow_on, steps = _record_returns(tx, refunds, now)
    told = {item.id: item for item in items}
    said = _say_refunds(refunds, written, refunded, steps)
    audit = [said_by(told[work_id], mutations) for work_id, mutations in said.items()]
    return Effects([answer if isinstance(answer, Refused) else Done() for answer in read], follow_on, audit)


def recount_refunds(tx: Connection, orders: Collection[OrderKey]) -> dict[OrderKey, Refunded]:
    """``orders`` and their lines show what their refunds come to; return the sums that changed.

    The caller holds their lock. Only refunds in the order's own currency are added up.
    """
    if not orders:
        return {}
    keys = {"shop_id": int_array(s for s, _ in orders), "gid": text_array([gid for _, gid in orders])}
    rows = tx.exec_driver_sql(_RECOUNT_ORDERS, keys).all()
    tx.exec_driver_sql(_RECOUNT_LINES, keys)
    return {(r[0], r[1]): Refunded(r[2], r[3], Change(r[4], r[5])) for r in rows}


def _record_refunds(tx: Connection, refunds: Sequence[Refund]) -> dict[RefundKey, Written]:
    rows = tx.exec_driver_sql(
        _UPSERT_REFUNDS,
        {
            "shop_id": int_array(r.shop_id for r in refunds),
            "refund_id": int_array(r.refund_id for r in refunds),
            "gid": text_array([r.order_gid for r in refunds]),
            "amount_cents": int_array(r.amount_cents for r in refunds),
            "currency": text_array([r.currency for r in refunds]),
            "at": instant_array(r.refunded_at for r in refunds),
            "shipping_cents": int_array(r.shipping_cents for r in refunds),
            "shipping_tax_cents": int_array(r.shipping_tax_cents for r in refunds),
        },
    ).all()
    new_lines = _record_lines(tx, [(refund, line) for refund in refunds for line in refund.lines])
    return {(r[0], r[1]): Written(r[2], r[3], r[4], r[5], new_lines[r[0], r[1]]) for r in rows}


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
    return Counter((int(shop_id), int(refund_id)) for shop_id, refund_id in rows)


def _record_returns(
    tx: Connection, refunds: Sequence[Refund], now: datetime
) -> tuple[list[NewWork], dict[int, list[Step]]]:
    """What was restocked is back; return the pushes due, and per work item the steps of stock it made."""
    restocked = [
        (refund, line)
        for refund in refunds
        for line in refund.lines
        if line.is_restocked and (line.sku or line.variant_id)
    ]
    returns = [
        Movement(r.shop_id, f"refund-line:{line.refund_line_id}", line.sku, line.quantity, r.refunded_at,
                 line.variant_id, line.location_id)
        for r, line in restocked
    ]  # fmt: skip
    causes = {(r.shop_id, line.sku): Cause(r.event_id, r.request_id) for r, line in restocked}
    shifts = record_movements(tx, returns, now)
    steps = plan_steps(shifts, [(r.work_id, move) for (r, _), move in zip(restocked, returns, strict=True)])
    return plan_pushes(tx, [shift.level for shift in shifts], causes, now), steps


def _say_refunds(
    refunds: Sequence[Refund],
    written: Mapping[RefundKey, Written],
    refunded: Mapping[OrderKey, Refunded],
    steps: Mapping[int, Sequence[Step]],
) -> dict[int, list[Mutation]]:
    """Return what to say of each work item that changed something: the refund, its order's sum, stock."""
    said: dict[int, list[Mutation]] = {}
    of_order: dict[OrderKey, list[tuple[int, int]]] = {}
    for r in refunds:
        row = written[r.shop_id, r.refund_id]
        if row.is_changed:
            money = None if row.known_cents is None else Change(row.known_cents, row.amount_cents)
            said[r.work_id] = [say_refund(r, money, row.currency, row.new_lines)]
        of_order.setdefault((r.shop_id, r.order_gid), []).append(
            (r.work_id, row.amount_cents - (row.known_cents or 0))
        )
    for key, sums in refunded.items():
        label = order_label(sums.name, key[1])
        for work_id, step in plan_path(sums.change, of_order[key]).items():
            said.setdefault(work_id, []).append(say_refunded(label, key[1], sums.currency, step))
    for r in refunds:
        for level, step in steps.get(r.work_id, ()):
            said.setdefault(r.work_id, []).append(say_level(level, step, f"refund {r.refund_id}"))
    return said
