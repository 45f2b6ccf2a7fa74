"""Finds missing orders with their refunds, transactions and fulfilments in Shopify's own list."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.core.db import transaction
from services.core.fields import find_object
from services.core.money import to_minor
from services.core.pg_arrays import find_by_key, text_array
from services.providers.delivery import find_instant
from services.providers.shopify_documents import (
    LIST_ORDERS,
    READ_ORDER,
    READ_ORDER_LINES,
    READ_REFUND,
    READ_REFUND_LINES,
)
from services.shopify.backfill.pager import Pager, PulledList, Stored
from services.shopify.backfill.webhook_payload import (
    FULFILLMENT_STATUS,
    SHIPMENT_STATUS,
    Node,
    PulledEvent,
    fulfillment_event,
    number_of,
    order_event,
    refund_event,
    transaction_event,
)
from services.shopify.orders.tables import orders

FIRST_CHILDREN = {"transactions": 6, "refunds": 2, "fulfillments": 3}
"""The length at which ``LIST_ORDERS`` cuts each list of an order: a list of that length may be longer."""

# One statement for all children of the orders: the kind, the order, the id, and the compared columns.
_FIND_CHILDREN = """
select 'transactions' as kind, t.order_gid, t.order_transaction_id as id, t.status, '' as shipment_status,
       null::timestamptz as updated_at, 0::bigint as amount_cents
  from order_transactions t where t.shop_id = %(shop_id)s and t.order_gid = any(%(gids)s::text[])
union all
select 'refunds', r.order_gid, r.refund_id, '', '', null, greatest(r.amount_cents, (
         select sum((t ->> 'cents')::bigint) from jsonb_array_elements(r.transactions) t
          where t ->> 'status' not in ('error', 'failure')))
  from order_refunds r where r.shop_id = %(shop_id)s and r.order_gid = any(%(gids)s::text[])
union all
select 'fulfillments', f.order_gid, f.fulfillment_id, f.status, f.shipment_status, f.updated_at, 0
  from fulfillments f where f.shop_id = %(shop_id)s and f.order_gid = any(%(gids)s::text[])
"""


Children = Mapping[int, Row[Any]]
"""The stored transactions, refunds or fulfilments of an order, by id."""


class StoredOrders(NamedTuple):
    """The stored orders of a page, by gid, and their children, by kind and the order's gid."""

    orders: Mapping[str, Stored]
    children: Mapping[tuple[str, str], Children]

    def of(self, kind: str, gid: str) -> Children:
        return self.children.get((kind, gid), {})


def find_stored_orders(tx: Connection, shop_id: int, page: Sequence[Node]) -> StoredOrders:
    gids = [order["id"] for order in page]
    known = find_by_key(tx, orders, [(shop_id, gid) for gid in gids])
    children: dict[tuple[str, str], dict[int, Row[Any]]] = defaultdict(dict)
    for child in tx.exec_driver_sql(_FIND_CHILDREN, {"shop_id": shop_id, "gids": text_array(gids)}):
        children[child.kind, child.order_gid][child.id] = child
    return StoredOrders({gid: row for (_, gid), row in known.items()}, children)


def _find_missing_orders(
    pager: Pager, shop_id: int, page: Sequence[Node], _now: datetime
) -> list[PulledEvent]:
    """Return events for missing parts of the orders of ``page``; reads an order with any in full."""
    with transaction() as tx:
        stored = find_stored_orders(tx, shop_id, page)
    return [
        event
        for listed in page
        if _may_be_missing(listed, stored)
        for event in _read_missing(pager, listed["id"], stored)
    ]


def is_missing_order(listed: Node, stored: Stored | None) -> bool:
    """Return whether Shopify's state of an order is newer than ours, or different in the same second.

    Shopify's times are whole seconds, and an order is often placed and paid within one.
    """
    updated_at = find_instant(listed["updatedAt"])
    if stored is None or updated_at is None or updated_at > stored["updated_at"]:
        return True
    is_same = (
        (listed["cancelledAt"] is not None) == (stored["cancelled_at"] is not None)
        and (listed["displayFinancialStatus"] or "").lower() == stored["financial_status"]
        and FULFILLMENT_STATUS.get(listed["displayFulfillmentStatus"], "") == stored["fulfillment_status"]
        and _cents(listed, "totalPriceSet") == stored["total_cents"]
    )
    return bool(updated_at == stored["updated_at"]) and not is_same


def is_missing_transaction(listed: Node, stored: Children) -> bool:
    known = stored.get(number_of(listed["id"]))
    return known is None or known.status != listed["status"].lower()


def is_missing_refund(listed: Node, stored: Children) -> bool:
    """Return whether a refund is unknown, or its money has grown (it never decreases)."""
    known = stored.get(number_of(listed["id"]))
    return known is None or known.amount_cents < _cents(listed, "totalRefundedSet")


def is_missing_fulfillment(listed: Node, stored: Children) -> bool:
    """Return whether a fulfilment is unknown, newer than ours, or different in the same second."""
    known = stored.get(number_of(listed["id"]))
    updated_at = find_instant(listed["updatedAt"])
    if known is None or known.updated_at is None or updated_at is None or updated_at > known.updated_at:
        return True
    state = (listed["status"].lower(), SHIPMENT_STATUS.get(listed["displayStatus"] or "", ""))
    return updated_at == known.updated_at and state != (known.status, known.shipment_status)


_IS_MISSING = {
    "transactions": is_missing_transaction,
    "refunds": is_missing_refund,
    "fulfillments": is_missing_fulfillment,
}


def _may_be_missing(listed: Node, stored: StoredOrders) -> bool:
    """Return whether to read the order in full, as it must be if one of its lists was cut."""
    gid = listed["id"]
    return is_missing_order(listed, stored.orders.get(gid)) or any(
        len(listed[kind]) >= size
        or any(_IS_MISSING[kind](child, stored.of(kind, gid)) for child in listed[kind])
        for kind, size in FIRST_CHILDREN.items()
    )


def _read_missing(pager: Pager, gid: str, stored: StoredOrders) -> Iterator[PulledEvent]:
    """Yield events for the missing parts of one order, the order first."""
    order = find_object(pager.query(READ_ORDER, {"id": gid}), "order")
    if not order:
        return  # deleted since it was listed

    def missing(kind: str) -> list[Node]:
        return [child for child in order[kind] if _IS_MISSING[kind](child, stored.of(kind, gid))]

    if is_missing_order(order, stored.orders.get(gid)):
        yield order_event(pager.complete(order, "lineItems", READ_ORDER_LINES, "order"))
    for child in missing("transactions"):
        yield transaction_event(child, gid)
    for child in missing("fulfillments"):
        is_known = number_of(child["id"]) in stored.of("fulfillments", gid)
        yield fulfillment_event(child, gid, is_known=is_known)
    for child in missing("refunds"):
        refund = find_object(pager.query(READ_REFUND, {"id": child["id"]}), "refund")
        yield refund_event(pager.complete(refund, "refundLineItems", READ_REFUND_LINES, "refund"), gid)


def _cents(node: Node, name: str) -> int:
    money = find_object(find_object(node, name), "shopMoney")
    return to_minor(money["amount"], money["currencyCode"])


ORDERS = PulledList(
    name="orders", document=LIST_ORDERS, path=("orders",), find_missing=_find_missing_orders, is_sorted=True
)


def open_orders(before: datetime) -> PulledList:
    """Return the list of open orders last changed before ``before``; Shopify needs ``read_all_orders``."""
    changed = f"updated_at:<'{before:%Y-%m-%dT%H:%M:%SZ}'"
    return replace(ORDERS, name="open_orders", search=f"status:open AND {changed}")
