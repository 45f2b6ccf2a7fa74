"""Orders: upserts orders with their lines, and records what they take from stock."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.errors import Refused
from services.core.fields import read_id, read_set
from services.core.locks import lock_objects
from services.ledger.describe import audit_entry
from services.ledger.work import Done, HandlerResult, Outcome, WorkItem
from services.shopify.entities import (
    UNKNOWN_ID,
    EntityKey,
    EntityState,
    describe_unknown_deletion,
    merge_states,
)
from services.shopify.orders.audit_text import (
    describe_deletion,
    describe_order,
    describe_settled_refunds,
    order_label,
)
from services.shopify.orders.customer_payload import Customer
from services.shopify.orders.customers import upsert_customers
from services.shopify.orders.notices import Doubts, is_numbered, record_doubts
from services.shopify.orders.payload import Order, OrderKey, order_version, parse_order
from services.shopify.orders.refund_store import NO_TOTALS, recount_refunds
from services.shopify.orders.sales import find_shared_lines, list_shared_doubts, record_sales
from services.shopify.orders.store import find_changed_lines, find_known, record_deletions, record_orders
from services.shopify.payload import order_gid, read_event
from services.shopify.stock.audit_text import describe_level

_EDITED = "orders/edited"
"""It describes the difference only; Shopify sends the edited order itself as ``orders/updated``."""


class OrderDeletion(NamedTuple):
    """Shopify deleted an order. The event carries the id alone."""

    key: OrderKey
    deleted_at: datetime
    work_id: int


ParsedEvent = Order | OrderDeletion | Refused


def ingest_orders(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Upsert the orders in ``items``, and record that each of their lines left stock, once.

    Events may come late, twice, in any order, and several of one order in a set: the newest by
    ``order_version`` wins; an older one is ``stale`` and changes nothing. A payload without a required field
    is refused alone. A cancellation moves no stock: Shopify sends a refund for that. A line that the newest
    state lacks is deleted, and its pieces are back in stock. A test order takes nothing from stock. Two
    orders may have a line with one id: both take stock.

    A deleted order keeps its row, its lines and its stock movements; ``deleted_at`` takes it out of revenue
    and is never undone. A deletion of an unknown order changes nothing. The newest state of each customer
    in a payload is recorded, also from a stale event. Doubts about fields are recorded in ``order_notices``.
    """
    by_id = {item.id: item for item in items}
    parsed = _parse(items, now)
    orders = [entry for entry in parsed.values() if isinstance(entry, Order)]
    newest: dict[OrderKey, Order] = {}
    for order in orders:
        if order.key not in newest or order_version(order) > order_version(newest[order.key]):
            newest[order.key] = order
    shared = find_shared_lines(
        tx, [(*order.key, line.line_id) for order in newest.values() for line in order.lines]
    )
    for key in {key[:2] for key in shared}:
        order = newest[key]
        newest[key] = order._replace(doubts=(*order.doubts, *list_shared_doubts(order, shared)))
    doubts = [
        Doubts(by_id[order.work_id], order.order_gid, order.updated_at, order.doubts)
        for order in newest.values()
        if order.doubts and is_numbered(order.order_gid)
    ]
    to_delete = {entry.key for entry in parsed.values() if isinstance(entry, OrderDeletion)}
    lock_objects(tx, newest.keys() | to_delete | {doubt.lock for doubt in doubts})
    rows = find_known(tx, newest.keys() | to_delete)
    deletions, unknown = _plan_deletions(parsed.values(), rows)
    known = {key: row for key, row in rows.items() if key in newest}
    versions = {key: order_version(row) for key, row in known.items()}
    won = [order for key, order in newest.items() if key not in known or order_version(order) > versions[key]]

    changed = find_changed_lines(tx, [order for order in won if order.key in known])
    refunded = record_orders(tx, won, known, changed) if won else []
    totals = recount_refunds(tx, refunded) if refunded else NO_TOTALS
    deleted = record_deletions(tx, {key: deletion.deleted_at for key, deletion in deletions.items()})
    won_ids = {order.work_id for order in won}
    noted = record_doubts(tx, [doubt for doubt in doubts if doubt.item.id in won_ids])
    new_work, steps = record_sales(tx, won, changed, shared, now, are_new=not known)
    # Late: two sets often share a customer, whose row stays locked from here to the commit.
    customers, sources = _merge_customers(orders)
    recorded_customers = upsert_customers(tx, customers)

    mutations: dict[int, list[Mutation]] = defaultdict(list)
    for order in won:
        key, label = order.key, order_label(order.name, order.order_gid)
        sums = totals.orders.get(key)
        mutations[order.work_id] += [
            describe_order(order, known.get(key), changed.get(key, {}), sums and sums.change),
            *(describe_level(level, step, label) for level, step in steps.get(order.work_id, ())),
            *describe_settled_refunds(order.order_gid, totals.refunds.get(key, {})),
            *noted.get(order.work_id, ()),
        ]
    for key, name in deleted.items():
        mutations[deletions[key].work_id].append(describe_deletion(name, key[1], deletions[key].deleted_at))
    for customer, mutation in recorded_customers.items():
        mutations[sources[customer]].append(mutation)
    for deletion in unknown.values():
        mutations[deletion.work_id] = [describe_unknown_deletion("orders", "order", deletion.key[1])]

    def settle(item: WorkItem) -> Outcome:
        match parsed.get(item.id):
            case Refused() as refused:
                return refused
            case Order() as order:
                current = order_version(newest[order.key])
                is_current = order_version(order) == max(current, versions.get(order.key, current))
                return Done() if is_current else Done("stale")
            case OrderDeletion():
                return Done(UNKNOWN_ID) if item.id in unknown else Done()
            case None:
                return Done("skipped_followup")

    audit = [audit_entry(by_id[work_id], entries) for work_id, entries in mutations.items()]
    return HandlerResult([settle(item) for item in items], new_work, audit)


def _parse(items: Sequence[WorkItem], now: datetime) -> dict[int, ParsedEvent]:
    """Return the events by work item, without those of edits."""

    def parse(item: WorkItem) -> Order | OrderDeletion:
        if item.event_topic != "orders/delete":
            return parse_order(item)
        gid = order_gid(read_id(read_event(item), "id"))
        return OrderDeletion((item.shop_id, gid), item.event_time(now), item.id)

    parsed_items = [item for item in items if item.event_topic != _EDITED]
    entries = read_set(parsed_items, parse, "shopify.unreadable_order")
    return {item.id: entry for item, entry in zip(parsed_items, entries, strict=True)}


def _plan_deletions(
    parsed: Iterable[ParsedEvent], recorded: Collection[OrderKey]
) -> tuple[dict[OrderKey, OrderDeletion], dict[int, OrderDeletion]]:
    """Return the earliest deletion of each order, and by work item those of unknown orders.

    An order is known if it is in ``recorded`` or if ``parsed`` has it before the deletion.
    """
    known, deletions, unknown = set(recorded), dict[OrderKey, OrderDeletion](), dict[int, OrderDeletion]()
    for entry in parsed:
        if isinstance(entry, Order):
            known.add(entry.key)
        elif isinstance(entry, OrderDeletion) and entry.key not in known:
            unknown[entry.work_id] = entry
        elif isinstance(entry, OrderDeletion):
            earliest = deletions.setdefault(entry.key, entry)
            deletions[entry.key] = min(earliest, entry, key=lambda deletion: deletion.deleted_at)
    return deletions, unknown


def _merge_customers(
    orders: Iterable[Order],
) -> tuple[dict[EntityKey, EntityState[Customer]], dict[EntityKey, int]]:
    """Return the newest state of each customer in ``orders``, and the work item that it comes from."""
    customers: dict[EntityKey, EntityState[Customer]] = {}
    sources: dict[EntityKey, int] = {}
    for order in orders:
        if order.customer is None or order.customer_id is None:
            continue
        key, state = (order.shop_id, order.customer_id), EntityState(order.customer)
        known = customers.get(key)
        if known is None or merge_states(known, state) is not known:
            customers[key], sources[key] = state, order.work_id
    return customers, sources
