"""Orders: upserts orders with their lines, and records the stock movement of each line once."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace
from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.errors import Refused
from services.core.fields import parse_items, read_id
from services.core.locks import lock_objects
from services.core.pg_arrays import arrays, int_array
from services.ledger.audit_text import audit_entry
from services.ledger.work import Done, HandlerResult, NewWork, Outcome, WorkItem
from services.shopify.entities import (
    UNKNOWN_ID,
    EntityUpdate,
    apply_updates,
    describe_unknown_deletion,
    split_unknown_deletions,
)
from services.shopify.orders.audit_text import (
    describe_deletion,
    describe_order,
    describe_settled_refunds,
    order_label,
)
from services.shopify.orders.customers import upsert_customers
from services.shopify.orders.notices import OrderDoubts, record_order_doubts
from services.shopify.orders.payload import Order, OrderKey, order_version, parse_order
from services.shopify.orders.refund_store import NO_TOTALS, recount_refunds
from services.shopify.orders.store import (
    MANY_LINES,
    LineChanges,
    find_changed_lines,
    find_known_orders,
    record_deletions,
    record_orders,
)
from services.shopify.payload import gid_number, order_gid, read_event
from services.shopify.stock.audit_text import LevelStep, describe_level, plan_level_steps
from services.shopify.stock.levels import Movement
from services.shopify.stock.movements import record_movements
from services.shopify.stock.push_plan import PushCause, list_due_pushes

LineKey = tuple[int, str, int]
"""(shop, order gid, line)."""

_FIND_SHARED = """
select v.shop_id, v.order_gid, v.line_id
  from unnest(%(shop_id)s::int[], %(order_gid)s::text[], %(line_id)s::bigint[])
       as v(shop_id, order_gid, line_id)
 cross join lateral (
   select m.order_id from stock_movements m
    where m.shop_id = v.shop_id and m.source = 'order-line:' || v.line_id offset 0) m
 where 'gid://shopify/Order/' || m.order_id <> v.order_gid
"""


_FIND_SHOP_FLOORS = """
select shop_id from shop_config where shop_id = any(%(shop_id)s::int[]) and shop_floor = 'on'
"""

_DONE, _STALE = Done(), Done("stale")


def ingest_orders(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Upsert the orders in ``items``, and record once that each of their lines left stock.

    Events may come late, twice and in any order. The newest by ``order_version`` wins; an older one is
    ``stale`` and changes nothing. Only a payload without a required field is refused. A cancellation moves
    no stock: Shopify sends a refund for that. A line that is not in the newest state is deleted, and its
    pieces are back in stock. A test order takes nothing from stock. Two orders may have a line with the same
    id: both take stock.

    A deleted order keeps its row, its lines and its stock movements. ``deleted_at`` takes it out of revenue
    and is never cleared. A deletion of an unknown order changes nothing. The newest state of each customer
    in a payload is recorded, even from a stale event. Doubts about fields are recorded in ``order_notices``.
    """
    by_id = {item.id: item for item in items}
    parsed = parse_items(items, lambda item: _parse(item, now), "shopify.unreadable_order")
    updates = [(item, e) for item, e in zip(items, parsed, strict=True) if isinstance(e, EntityUpdate)]
    newest: dict[OrderKey, Order] = {}
    for _, (key, order, _) in updates:
        if order and (key not in newest or order.version > newest[key].version):
            newest[key] = order
    shared = _find_shared_lines(
        tx, [(*key, line.line_id) for key, order in newest.items() for line in order.lines]
    )
    for key in {key[:2] for key in shared}:
        newest[key] = _add_shared_doubts(newest[key], shared)
    doubts = [
        OrderDoubts(by_id[order.work_id], order.order_gid, order.updated_at, order.doubts)
        for order in newest.values()
        if order.doubts and gid_number(order.order_gid)
    ]
    to_delete = {update.key for _, update in updates if update.data is None}
    lock_objects(tx, newest.keys() | to_delete | {doubt.lock for doubt in doubts})
    rows = find_known_orders(tx, newest.keys() | to_delete)
    accepted, unknown = split_unknown_deletions(rows, updates) if to_delete else ([], [])
    deletions: dict[OrderKey, tuple[datetime, int]] = {}
    for item, update in accepted:
        if at := update.deleted_at:
            deletions[update.key] = min(deletions.get(update.key, (at, item.id)), (at, item.id))
    known = {key: row for key, row in rows.items() if key in newest}
    versions = {key: order_version(row) for key, row in known.items()}
    applied = {k: order for k, order in newest.items() if k not in known or order.version > versions[k]}

    changed = find_changed_lines(tx, {key: applied[key] for key in known if key in applied})
    refunded = record_orders(tx, applied, known, changed) if applied else []
    totals = recount_refunds(tx, refunded) if refunded else NO_TOTALS
    deleted = record_deletions(tx, {key: at for key, (at, _) in deletions.items()})
    applied_ids = {order.work_id for order in applied.values()}
    doubt_mutations = record_order_doubts(tx, [doubt for doubt in doubts if doubt.item.id in applied_ids])
    new_work, steps = _record_sales(tx, applied, changed, shared, now, are_new=not known)
    # Late: sets of orders often share a customer, whose row stays locked until the commit.
    customers, sources = apply_updates(
        {},
        [
            (item, EntityUpdate((item.shop_id, order.customer_id), order.customer))
            for item, (_, order, _) in updates
            if order and order.customer and order.customer_id
        ],
    )
    recorded_customers = upsert_customers(tx, customers)

    mutations: dict[int, list[Mutation]] = defaultdict(list)
    for key, order in applied.items():
        label = order_label(order.name, order.order_gid)
        sums = totals.orders.get(key)
        mutations[order.work_id] += [
            describe_order(order, known.get(key), changed.get(key, {}), sums and sums.change),
            *(describe_level(level, step, label) for level, step in steps.get(order.work_id, ())),
            *describe_settled_refunds(order.order_gid, totals.refunds.get(key, {})),
            *doubt_mutations.get(order.work_id, ()),
        ]
    for key, name in deleted.items():
        at, work_id = deletions[key]
        mutations[work_id].append(describe_deletion(name, key[1], at))
    for customer, mutation in recorded_customers.items():
        mutations[sources[customer].id].append(mutation)
    current = versions | {key: order.version for key, order in applied.items()}
    unknown_ids = {item.id for item, _ in unknown}
    for item, update in unknown:
        mutations[item.id] = [describe_unknown_deletion("orders", "order", update.key[1])]

    def settle(item: WorkItem, event: EntityUpdate[Order] | Done | Refused) -> Outcome:
        if not isinstance(event, EntityUpdate):
            return event
        if event.data is None:
            return Done(UNKNOWN_ID) if item.id in unknown_ids else _DONE
        return _DONE if event.data.version == current[event.key] else _STALE

    new_work = [*new_work, *_plan_stages(tx, applied, {key: deletions[key][1] for key in deleted}, by_id)]
    audit = [audit_entry(by_id[work_id], entries) for work_id, entries in mutations.items()]
    return HandlerResult(list(map(settle, items, parsed)), new_work, audit)


def _plan_stages(
    tx: Connection,
    applied: Mapping[OrderKey, Order],
    deleted: Mapping[OrderKey, int],
    by_id: Mapping[int, WorkItem],
) -> list[NewWork]:
    """Return the work that brings new states of orders to the board, for shops with a shop floor."""
    shops = int_array(sorted({shop_id for shop_id, _ in (*applied, *deleted)}))
    with_floor = set(tx.exec_driver_sql(_FIND_SHOP_FLOORS, {"shop_id": shops}).scalars())
    sources = [(key, order.work_id, False) for key, order in applied.items()]
    sources += [(key, work_id, True) for key, work_id in deleted.items()]
    return [
        NewWork(
            shop_id=key[0],
            topic="stage_sync",
            key=key[1],
            payload={"deleted": True} if is_deleted else {},
            event_id=by_id[work_id].event_id,
            request_id=by_id[work_id].request_id,
        )
        for key, work_id, is_deleted in sources
        if key[0] in with_floor
    ]


def _parse(item: WorkItem, now: datetime) -> EntityUpdate[Order] | Done:
    if item.event_topic == "orders/edited":  # only the difference: the whole order is in orders/updated
        return Done("skipped_followup")
    if item.event_topic == "orders/delete":
        gid = order_gid(read_id(read_event(item), "id"))
        return EntityUpdate((item.shop_id, gid), deleted_at=item.event_time(now))
    order = parse_order(item)
    return EntityUpdate(order.key, order)


def _find_shared_lines(tx: Connection, lines: Sequence[LineKey]) -> frozenset[LineKey]:
    """Return those of ``lines`` whose id is also the id of another order's line with the plain source.

    Of two new ``lines`` with one id, the first by global id gets the plain source.
    """
    if not lines:
        return frozenset()
    rows = tx.exec_driver_sql(_FIND_SHARED, arrays("shop_id order_gid line_id", lines))
    shared: set[LineKey] = {(row.shop_id, row.order_gid, row.line_id) for row in rows}
    by_id: dict[tuple[int, int], list[LineKey]] = defaultdict(list)
    for key in lines:
        if key not in shared:
            by_id[key[0], key[2]].append(key)
    return frozenset(shared.union(*(sorted(keys)[1:] for keys in by_id.values() if len(keys) > 1)))


def _add_shared_doubts(order: Order, shared: Collection[LineKey]) -> Order:
    doubts = [
        f"line_items[{index}].id is also that of another order's line: both are recorded"
        for index, line in enumerate(order.lines)
        if (*order.key, line.line_id) in shared
    ]
    return replace(order, doubts=(*order.doubts, *doubts))


def _record_sales(
    tx: Connection,
    orders: Mapping[OrderKey, Order],
    changed: LineChanges,
    shared: frozenset[LineKey],
    now: datetime,
    *,
    are_new: bool,
) -> tuple[list[NewWork], dict[int, list[LevelStep]]]:
    """Record that each line with a variant or a SKU left stock when its order was placed.

    The movement of a line that was removed, or has another SKU now, is deleted. Returns the pushes to send,
    and the steps of stock levels by work item.
    """
    removed = [
        (orders[key], line.old)
        for key, lines in changed.items()
        for line in lines.values()
        if line.old and (line.new is None or line.new.sku != line.old.sku)
    ]
    shared |= _find_shared_lines(tx, [(*order.key, old.line_id) for order, old in removed])

    def source(order: Order, line_id: int) -> str:
        if shared and (*order.key, line_id) in shared:
            return f"order-line:{line_id}:{order.order_gid.rpartition('/')[2]}"
        return f"order-line:{line_id}"

    sales = [
        (order.work_id, Movement(order.shop_id, source(order, line.line_id), line.sku, -line.quantity,
                                 order.placed_at, variant_id, order.location_id, order_id))
        for order in orders.values()
        if not order.is_test
        for order_id in (gid_number(order.order_gid),)
        for line in order.lines
        for variant_id in (order.variant_ids.get(line.line_id),)
        if line.sku or variant_id
    ]  # fmt: skip
    removed_sales = [
        (order.work_id, Movement(order.shop_id, source(order, old.line_id), old.sku, -old.quantity,
                                 order.placed_at))
        for order, old in removed
    ]  # fmt: skip
    shifts = record_movements(
        tx,
        [sale for _, sale in sales],
        now,
        [sale for _, sale in removed_sales],
        are_new=are_new and len(sales) >= MANY_LINES,
    )
    if not shifts:
        return [], {}
    causes = {
        (order.shop_id, line.sku): PushCause(order.event_id, order.request_id)
        for order in orders.values()
        for line in order.lines
    }
    levels = [shift.level for shift in shifts if shift.is_stocked]
    return list_due_pushes(tx, levels, causes, now), plan_level_steps(shifts, [*removed_sales, *sales])
