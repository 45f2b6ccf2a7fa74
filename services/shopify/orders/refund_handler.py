"""Handler of refunds: records the refunded money of an order, and the restocked items."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.errors import Refused
from services.core.fields import parse_items
from services.core.locks import lock_objects
from services.ledger.audit_text import audit_entry, split_change
from services.ledger.work import Done, HandlerResult, NewWork, WorkItem
from services.shopify.orders.audit_text import (
    describe_refund,
    describe_refunded_sum,
    describe_settled_refunds,
)
from services.shopify.orders.notices import OrderDoubts, record_order_doubts
from services.shopify.orders.payload import OrderKey
from services.shopify.orders.refund_payload import parse_refund
from services.shopify.orders.refund_settlement import Refund, RefundKey, merge_refunds
from services.shopify.orders.refund_store import RefundTotals, WrittenRefund, record_refunds, recount_refunds
from services.shopify.stock.audit_text import LevelStep, describe_level, plan_level_steps
from services.shopify.stock.levels import Movement
from services.shopify.stock.movements import record_movements
from services.shopify.stock.push_plan import PushCause, list_due_pushes


def ingest_refunds(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Record the refunds in ``items``, settle them against their orders, and return restocked items to stock.

    A refund may arrive before its order. A copy of a refund changes nothing; of several events of one refund
    the larger amounts count. A refund counts when none of its payments is pending, and never if all failed.
    """
    by_id = {item.id: item for item in items}
    parsed = parse_items(items, parse_refund, "shopify.unreadable_refund")
    merged: dict[RefundKey, Refund] = {}
    for refund in parsed:
        if isinstance(refund, Refund):
            known = merged.get(refund.key)
            merged[refund.key] = merge_refunds(known, refund) if known else refund
    refunds = list(merged.values())
    doubts = [
        OrderDoubts(by_id[refund.work_id], refund.order_gid, refund.refunded_at, refund.doubts)
        for refund in refunds
        if refund.doubts
    ]
    orders = {refund.order_key for refund in refunds}
    lock_objects(tx, orders | {doubt.lock for doubt in doubts})
    written = record_refunds(tx, refunds)
    totals = recount_refunds(tx, orders)
    doubt_mutations = record_order_doubts(tx, doubts)
    new_work, steps = _record_returns(tx, refunds, totals.test_orders, now)
    mutations = _describe(refunds, written, totals, steps)
    for work_id, entries in doubt_mutations.items():
        mutations[work_id] += entries
    audit = [audit_entry(by_id[work_id], entries) for work_id, entries in mutations.items()]
    return HandlerResult(
        [entry if isinstance(entry, Refused) else Done() for entry in parsed], new_work, audit
    )


def _record_returns(
    tx: Connection, refunds: Sequence[Refund], test_orders: Collection[OrderKey], now: datetime
) -> tuple[list[NewWork], dict[int, list[LevelStep]]]:
    """Record restocked items; return the pushes to send, and the steps of levels by work item.

    A test order took nothing from stock, so it returns nothing. Of two refunds with the same line id, the
    first by key has the plain source.
    """
    owners: dict[tuple[int, int], RefundKey] = {}
    for refund in sorted(refunds, key=lambda refund: refund.key):
        for line in refund.lines:
            owners.setdefault((refund.shop_id, line.refund_line_id), refund.key)
    returns: list[tuple[int, Movement]] = []
    causes: dict[tuple[int, str], PushCause] = {}
    for refund in refunds:
        for line in refund.lines if refund.order_key not in test_orders else ():
            if not line.is_restocked or not (line.sku or line.variant_id):
                continue
            is_owner = owners[refund.shop_id, line.refund_line_id] == refund.key
            source = f"refund-line:{line.refund_line_id}" + ("" if is_owner else f":{refund.refund_id}")
            movement = Movement(refund.shop_id, source, line.sku, line.quantity, refund.refunded_at,
                                line.variant_id, line.location_id)  # fmt: skip
            returns.append((refund.work_id, movement))
            causes[refund.shop_id, line.sku] = PushCause(refund.event_id, refund.request_id)
    shifts = record_movements(tx, [movement for _, movement in returns], now)
    return list_due_pushes(tx, [shift.level for shift in shifts], causes, now), plan_level_steps(
        shifts, returns
    )


def _describe(
    refunds: Sequence[Refund],
    written: Mapping[RefundKey, WrittenRefund],
    totals: RefundTotals,
    steps: Mapping[int, Sequence[LevelStep]],
) -> defaultdict[int, list[Mutation]]:
    """Return the mutations by work item: of its refund, the order's sum, and stock levels."""
    mutations: defaultdict[int, list[Mutation]] = defaultdict(list)
    of_order: dict[OrderKey, list[tuple[int, int]]] = defaultdict(list)
    for refund in refunds:
        row, change = written[refund.key], totals.refunds[refund.order_key][refund.refund_id]
        if row.is_changed or row.new_lines or change.before != change.now:
            mutations[refund.work_id].append(
                describe_refund(refund.refund_id, refund.order_gid, change, row.new_lines, is_new=row.is_new)
            )
        before = 0 if row.is_new else change.before.amount_cents
        of_order[refund.order_key].append((refund.work_id, change.now.amount_cents - before))
    for key, moves in of_order.items():
        others = {n: change for n, change in totals.refunds[key].items() if (*key, n) not in written}
        if settled := describe_settled_refunds(key[1], others):
            mutations[moves[-1][0]] += settled
    for key, refunded in totals.orders.items():
        for work_id, share in split_change(refunded.change, of_order[key]).items():
            mutations[work_id].append(describe_refunded_sum(key[1], refunded, share))
    for refund in refunds:
        for level, step in steps.get(refund.work_id, ()):
            mutations[refund.work_id].append(describe_level(level, step, f"refund {refund.refund_id}"))
    return mutations
