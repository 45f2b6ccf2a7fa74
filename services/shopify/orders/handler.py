"""Orders: a set of Shopify order events becomes orders, their lines, and what they take from stock."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.errors import Refused
from services.core.fields import LARGEST_ID, read_id, read_set
from services.core.locks import lock_objects
from services.ledger.describe import audit_entry
from services.ledger.work import Done, HandlerResult, NewWork, Outcome, WorkItem
from services.shopify.audit_text import describe_unknown_deletion
from services.shopify.event_payload import read_event
from services.shopify.merge import UNKNOWN_ID, EntityKey, EntityState, merge_states
from services.shopify.orders.audit_text import (
    KnownOrder,
    Lines,
    describe_deletion,
    describe_order,
    describe_settled_refunds,
    order_label,
)
from services.shopify.orders.customer_payload import Customer
from services.shopify.orders.customers import upsert_customers
from services.shopify.orders.deletions import OrderDeletion, find_recorded, plan_deletions, record_deletions
from services.shopify.orders.line_sources import (
    LineKey,
    find_shared_lines,
    format_line_source,
    list_shared_doubts,
)
from services.shopify.orders.notices import Doubts, is_numbered, record_doubts
from services.shopify.orders.payload import Order, parse_order
from services.shopify.orders.refund_store import NO_TOTALS, OrderKey, RefundedChange
from services.shopify.orders.store import MANY_LINES, find_changed_lines, find_known, record_orders
from services.shopify.payload_fields import order_gid
from services.shopify.stock.audit_text import LevelStep, describe_level, plan_level_steps
from services.shopify.stock.levels import Movement
from services.shopify.stock.movements import record_movements
from services.shopify.stock.push_plan import PushCause, plan_pushes

_FOLLOWED = "orders/edited"
"""It tells the difference only; Shopify sends the edited order itself as ``orders/updated``."""

_DONE, _STALE = Done(), Done("stale")


def ingest_orders(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every order stands as its newest event told it, and each of its lines has left stock once.

    Events may come late, twice, in any order and several of one order in a set: the newest by
    ``order_version`` wins, an older one is ``stale`` and changes nothing. A body that lacks what an
    order needs is refused alone. Cancelling moves no stock: Shopify tells of that by a refund. A line that
    the newest state lacks is gone, and its pieces are back.

    A deleted order keeps its row, its lines and the pieces it took, with ``deleted_at``: it is no revenue
    any more, and nothing undoes it. A deletion of an order that is not recorded changes nothing. Of each
    customer that a body describes, stale or not, the newest word is kept. A test order takes nothing from
    stock. Two orders may have a line of one id: both sell it. What in a body is in doubt is noted in
    ``order_notices``.
    """
    told = {item.id: item for item in items}
    answers = _read(items, now)
    newest: dict[OrderKey, Order] = {}
    to_delete = {answer.key for answer in answers.values() if isinstance(answer, OrderDeletion)}
    customers: dict[EntityKey, EntityState[Customer]] = {}
    tellers: dict[EntityKey, int] = {}
    for answer in answers.values():
        if isinstance(answer, Order):
            key = (answer.shop_id, answer.gid)
            if key not in newest or answer.version > newest[key].version:
                newest[key] = answer
            if answer.customer is not None and answer.customer_id is not None:
                _add_customer(customers, tellers, answer, answer.customer_id, answer.customer)

    shared = find_shared_lines(tx, [(*key, line.line_id) for key, o in newest.items() for line in o.lines])
    for key in {key[:2] for key in shared}:
        order = newest[key]
        newest[key] = order._replace(doubts=(*order.doubts, *list_shared_doubts(order, shared)))
    doubts = [
        Doubts(told[order.work_id], order.gid, order.updated_at, order.doubts)
        for order in newest.values()
        if order.doubts and is_numbered(order.gid)
    ]
    lock_objects(tx, newest.keys() | to_delete | {found.lock for found in doubts})
    deletions, unknown = plan_deletions(answers.values(), find_recorded(tx, to_delete))
    known = find_known(tx, newest)
    versions = {key: row.version for key, row in known.items()}
    won = [order for key, order in newest.items() if key not in versions or order.version > versions[key]]
    changed = find_changed_lines(tx, [order for order in won if (order.shop_id, order.gid) in known])
    recount = record_orders(tx, won, known, changed) if won else NO_TOTALS
    deleted = record_deletions(tx, deletions.values())
    noted = record_doubts(tx, [found for found in doubts if found.item.id in {o.work_id for o in won}])
    new_work, steps = _record_sales(tx, won, changed, shared, now, are_new=not known)
    # Late, as two sets often share a customer, whose row stays locked from here to the commit.
    people = upsert_customers(tx, customers)

    said: dict[int, list[Mutation]] = {}
    for order in won:
        key = (order.shop_id, order.gid)
        parts = (known.get(key), changed.get(key, {}), recount.orders.get(key), steps.get(order.work_id, ()))
        settled = describe_settled_refunds(order.gid, recount.refunds.get(key, {}))
        said[order.work_id] = [*_say(order, *parts), *settled, *noted.get(order.work_id, ())]
    for key, name in deleted.items():
        said.setdefault(deletions[key].work_id, []).append(
            describe_deletion(name, key[1], deletions[key].deleted_at)
        )
    for person, mutation in people.items():
        said.setdefault(tellers[person], []).append(mutation)
    for deletion in unknown.values():
        said[deletion.work_id] = [describe_unknown_deletion("orders", "order", deletion.gid)]

    def settle(item: WorkItem) -> Outcome:
        answer = answers.get(item.id)
        if isinstance(answer, Order):
            key = (answer.shop_id, answer.gid)
            is_newest = answer.version == newest[key].version
            return _DONE if is_newest and answer.version >= versions.get(key, answer.version) else _STALE
        if item.id in unknown:
            return Done(UNKNOWN_ID)
        return answer if isinstance(answer, Refused) else _DONE if answer else Done("skipped_followup")

    audit = [audit_entry(told[work_id], mutations) for work_id, mutations in said.items()]
    return HandlerResult([settle(item) for item in items], new_work, audit)


def _read(items: Sequence[WorkItem], now: datetime) -> dict[int, Order | OrderDeletion | Refused]:
    def read(item: WorkItem) -> Order | OrderDeletion:
        if item.event_topic != "orders/delete":
            return parse_order(item)
        gid = order_gid(read_id(read_event(item), "id"))
        return OrderDeletion(item.shop_id, gid, item.event_time(now), item.id)

    mine = [item for item in items if item.event_topic != _FOLLOWED]
    answers = read_set(mine, read, "shopify.unreadable_order")
    return {item.id: answer for item, answer in zip(mine, answers, strict=True)}


def _add_customer(
    customers: dict[EntityKey, EntityState[Customer]],
    tellers: dict[EntityKey, int],
    order: Order,
    number: int,
    told: Customer,
) -> None:
    """``customers`` knows of the newer of two states; ``tellers`` which item told it."""
    key = (order.shop_id, number)
    known, row = customers.get(key), EntityState(told)
    if known is None or merge_states(known, row) is not known:
        customers[key], tellers[key] = row, order.work_id


def _say(
    order: Order,
    known: KnownOrder | None,
    lines: Lines,
    refunded: RefundedChange | None,
    steps: Sequence[LevelStep],
) -> list[Mutation]:
    said = [describe_order(order, known, lines, refunded and refunded.change)]
    if steps:
        label = order_label(order.name, order.gid)
        said += [describe_level(level, step, label) for level, step in steps]
    return said


def _record_sales(
    tx: Connection,
    orders: Sequence[Order],
    changed: Mapping[OrderKey, Lines],
    shared: frozenset[LineKey],
    now: datetime,
    *,
    are_new: bool,
) -> tuple[list[NewWork], dict[int, list[LevelStep]]]:
    """Every line with a variant or a sku has left stock when its order was placed; one that is gone has not.

    Returns the pushes due, and per order's work item the steps of stock that it made.
    """
    sales = [
        (order.work_id, Movement(order.shop_id, format_line_source(order, line.line_id, shared), line.sku,
                                 -line.quantity, order.placed_at, variant_id, order.location_id, order_id))
        for order in orders
        if not order.is_test
        for order_id in (_number_of(order.gid),)
        for line in order.lines
        for variant_id in (order.variant_ids.get(line.line_id),)
        if line.sku or variant_id
    ]  # fmt: skip
    gone = [
        (order, old)
        for order in orders
        if (of := changed.get((order.shop_id, order.gid)))
        for new, old in of.values()
        if old and (new is None or new.sku != old.sku)
    ]
    shared |= find_shared_lines(tx, [(order.shop_id, order.gid, old.line_id) for order, old in gone])
    undone = [
        (order.work_id, Movement(order.shop_id, format_line_source(order, old.line_id, shared), old.sku,
                                 -old.quantity, order.placed_at))
        for order, old in gone
    ]  # fmt: skip
    are_many = len(sales) >= MANY_LINES
    moves = [sale for _, sale in sales]
    shifts = record_movements(tx, moves, now, [sale for _, sale in undone], are_new=are_new and are_many)
    if not shifts:
        return [], {}
    causes = {
        (order.shop_id, line.sku): PushCause(order.event_id, order.request_id)
        for order in orders
        for line in order.lines
    }
    levels = [shift.level for shift in shifts if shift.is_stocked]
    return plan_pushes(tx, levels, causes, now), plan_level_steps(shifts, [*undone, *sales])


def _number_of(gid: str) -> int | None:
    """Return the number at the end of an order's global id; None where it ends in none."""
    number = gid.rpartition("/")[2]
    return int(number) if number.isascii() and number.isdecimal() and int(number) <= LARGEST_ID else None
