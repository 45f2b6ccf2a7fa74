"""Orders that we lack, with their refunds, transactions and fulfilments: found in Shopify's own list."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.money import to_minor
from services.core.pg_arrays import text_array
from services.providers.delivery import find_dict, find_instant
from services.providers.shopify_pull_documents import (
    LIST_ORDERS,
    READ_ORDER,
    READ_ORDER_LINES,
    READ_REFUND,
    READ_REFUND_LINES,
)
from services.shopify.backfill.node_fields import Node, number_of
from services.shopify.backfill.pager import Pager, since_query
from services.shopify.backfill.to_webhook import (
    FULFILLMENT_STATUS,
    SHIPMENT_STATUS,
    PulledEvent,
    fulfillment_event,
    order_event,
    refund_event,
    transaction_event,
)

FIRST_CHILDREN = MappingProxyType({"transactions": 6, "refunds": 2, "fulfillments": 3})
"""How many of an order's own lists ``LIST_ORDERS`` shows: one as long as that may be longer."""

_FIND_ORDERS = """
select o.order_gid, o.updated_at, o.cancelled_at is not null, o.financial_status, o.fulfillment_status,
       o.total_cents
  from orders o where o.shop_id = %(shop_id)s and o.order_gid = any(%(gids)s::text[])
"""

# Every child of the orders in one look: what it is, whose, its id, and what of it may have changed since.
_FIND_CHILDREN = """
select 'transactions', t.order_gid, t.order_transaction_id, t.status, '', null::timestamptz, 0::bigint
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


class KnownOrder(NamedTuple):
    """What we have of an order that its listing shows too."""

    updated_at: datetime
    is_cancelled: bool
    financial_status: str
    fulfillment_status: str
    total_cents: int


class KnownChild(NamedTuple):
    """What we have of a transaction, a refund or a fulfilment that may change."""

    status: str
    shipment_status: str
    updated_at: datetime | None
    amount_cents: int


Children = Mapping[int, KnownChild]


@dataclass(frozen=True, slots=True)
class KnownOrders:
    """What we have of the orders of a page."""

    orders: Mapping[str, KnownOrder] = field(default_factory=dict)
    children: Mapping[tuple[str, str], Children] = field(default_factory=dict)

    def of(self, kind: str, gid: str) -> Children:
        """Return the children of ``kind`` that we know of the order ``gid``, by id."""
        return self.children.get((kind, gid), {})


def list_orders(reader: Pager, since: datetime) -> Iterator[Sequence[Node]]:
    """Yield pages of the orders changed since then, the longest unchanged first."""
    for page in reader.pages(LIST_ORDERS, {"query": since_query(since)}, "orders"):
        yield page.nodes


def find_known_orders(tx: Connection, shop_id: int, page: Sequence[Node]) -> KnownOrders:
    """Return what we have of the orders of ``page``. Two statements, however many there are."""
    values = {"shop_id": shop_id, "gids": text_array([order["id"] for order in page])}
    orders = {row[0]: KnownOrder(*row[1:]) for row in tx.exec_driver_sql(_FIND_ORDERS, values)}
    children: dict[tuple[str, str], dict[int, KnownChild]] = defaultdict(dict)
    for kind, gid, number, *state in tx.exec_driver_sql(_FIND_CHILDREN, values):
        children[kind, gid][number] = KnownChild(*state)
    return KnownOrders(orders, dict(children))


def read_lacking_orders(reader: Pager, page: Sequence[Node], known: KnownOrders) -> list[PulledEvent]:
    """Return what is lacking of the orders of ``page``, each read in full where anything of it may be."""
    return [
        found
        for listed in page
        if _may_lack(listed, known)
        for found in _read_lacking_order(reader, listed["id"], known)
    ]


def lacks_order(listed: Node, known: KnownOrder | None) -> bool:
    """Return whether Shopify's state of an order is newer than ours, or of the same second and another.

    Shopify's times are whole seconds, and an order is often placed and paid within one.
    """
    updated_at = find_instant(listed["updatedAt"])
    if known is None or updated_at is None or updated_at > known.updated_at:
        return True
    theirs = (
        listed["cancelledAt"] is not None,
        (listed["displayFinancialStatus"] or "").lower(),
        FULFILLMENT_STATUS.get(listed["displayFulfillmentStatus"], ""),
        _cents(listed, "totalPriceSet"),
    )
    return updated_at == known.updated_at and theirs != known[1:]


def lacks_transaction(listed: Node, known: Children) -> bool:
    """Return whether a transaction is unknown, or its status is another."""
    have = known.get(number_of(listed["id"]))
    return have is None or have.status != listed["status"].lower()


def lacks_refund(listed: Node, known: Children) -> bool:
    """Return whether a refund is unknown, or has given back more since: its money can only become more."""
    have = known.get(number_of(listed["id"]))
    return have is None or have.amount_cents < _cents(listed, "totalRefundedSet")


def lacks_fulfillment(listed: Node, known: Children) -> bool:
    """Return whether a fulfilment is unknown, newer than ours, or of the same second and another."""
    have = known.get(number_of(listed["id"]))
    updated_at = find_instant(listed["updatedAt"])
    if have is None or have.updated_at is None or updated_at is None or updated_at > have.updated_at:
        return True
    theirs = (listed["status"].lower(), SHIPMENT_STATUS.get(listed["displayStatus"] or "", ""))
    return updated_at == have.updated_at and theirs != (have.status, have.shipment_status)


_LACKS = {"transactions": lacks_transaction, "refunds": lacks_refund, "fulfillments": lacks_fulfillment}


def _may_lack(listed: Node, known: KnownOrders) -> bool:
    """Return whether to read the order in full. A list that was cut may hold anything, so it is read."""
    gid = listed["id"]
    return lacks_order(listed, known.orders.get(gid)) or any(
        len(listed[kind]) >= size or any(_LACKS[kind](one, known.of(kind, gid)) for one in listed[kind])
        for kind, size in FIRST_CHILDREN.items()
    )


def _read_lacking_order(reader: Pager, gid: str, known: KnownOrders) -> Iterator[PulledEvent]:
    """Yield what is lacking of one order, itself first: what came of it means nothing without it."""
    order = find_dict(reader.ask(READ_ORDER, {"id": gid}), "order")
    if not order:
        return  # deleted since it was listed
    if lacks_order(order, known.orders.get(gid)):
        yield order_event(reader.finish(order, "lineItems", READ_ORDER_LINES, "order", gid))
    for one in order["transactions"]:
        if lacks_transaction(one, known.of("transactions", gid)):
            yield transaction_event(one, gid)
    fulfillments = known.of("fulfillments", gid)
    for one in order["fulfillments"]:
        if lacks_fulfillment(one, fulfillments):
            yield fulfillment_event(one, gid, is_known=number_of(one["id"]) in fulfillments)
    for one in order["refunds"]:
        if lacks_refund(one, known.of("refunds", gid)):
            refund = find_dict(reader.ask(READ_REFUND, {"id": one["id"]}), "refund")
            yield refund_event(
                reader.finish(refund, "refundLineItems", READ_REFUND_LINES, "refund", one["id"]), gid
            )


def _cents(source: Mapping[str, Any], name: str) -> int:
    money = find_dict(find_dict(source, name), "shopMoney")
    return to_minor(money["amount"], money["currencyCode"])
