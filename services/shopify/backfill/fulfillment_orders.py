"""Fulfilment orders that we lack, or whose order we do not know: found in Shopify's own list."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.core.pg_arrays import int_array
from services.providers.delivery import find_dict, find_instant
from services.providers.shopify_pull_documents import LIST_FULFILLMENT_ORDERS
from services.shopify.backfill.node_fields import Node, number_of
from services.shopify.backfill.pager import Pager, since_query
from services.shopify.backfill.to_webhook import PulledEvent

TOPIC = "fulfillment_orders/order_routing_complete"
"""What a found one enters as: of all its topics the one that says no more than where it stands."""

_FIND = """
select v.id, t.order_gid, t.status, t.request_status, t.location_id, t.is_on_hold, t.updated_at
  from unnest(%(id)s::bigint[]) as v(id)
  join fulfillment_orders t on t.shop_id = %(shop_id)s and t.fulfillment_order_id = v.id
"""


class Known(NamedTuple):
    """What we have of a fulfilment order that the list shows too."""

    order_gid: str
    status: str
    request_status: str
    location_id: int | None
    is_on_hold: bool
    updated_at: datetime


def list_fulfillment_orders(reader: Pager, since: datetime) -> Iterator[Sequence[Node]]:
    """Yield pages of the fulfilment orders changed since then, the longest unchanged first."""
    for page in reader.pages(LIST_FULFILLMENT_ORDERS, {"query": since_query(since)}, "fulfillmentOrders"):
        yield page.nodes


def find_lacking_fulfillment_orders(tx: Connection, shop_id: int, page: Sequence[Node]) -> list[PulledEvent]:
    """Return those of ``page`` that are unknown, of an order we were not told, or older and another with us.

    Shopify's time is that of the change and ours that of its webhook, a moment later: so one that differs
    and is not newer is a state that a webhook has overtaken since the list was made.
    """
    values = {"shop_id": shop_id, "id": int_array([number_of(one["id"]) for one in page])}
    known = {row[0]: Known(*row[1:]) for row in tx.exec_driver_sql(_FIND, values)}
    return [fulfillment_order_event(one) for one in page if _lacks(one, known.get(number_of(one["id"])))]


def fulfillment_order_event(node: Node) -> PulledEvent:
    """Return a fulfilment order as a webhook that tells all of it would."""
    body = {
        "fulfillment_order": {
            "id": node["id"],
            "order_id": number_of(node["orderId"]),
            "status": node["status"].lower(),
            "request_status": node["requestStatus"].lower(),
            "assigned_location_id": _location_of(node),
            "fulfill_at": node["fulfillAt"],
            "fulfillment_holds": [
                {"id": hold["id"], "reason": hold["reason"].lower()} for hold in node["fulfillmentHolds"]
            ],
            "updated_at": node["updatedAt"],
        }
    }
    return PulledEvent(TOPIC, node["id"], body, find_instant(node["updatedAt"]))


def _lacks(node: Node, have: Known | None) -> bool:
    if have is None or not have.order_gid:
        return True
    status = node["status"].lower()
    theirs = (status, node["requestStatus"].lower(), _location_of(node), status == "on_hold")
    updated_at = find_instant(node["updatedAt"])
    return theirs != have[1:5] and (updated_at is None or updated_at > have.updated_at)


def _location_of(node: Node) -> int | None:
    return number_of(find_dict(find_dict(node, "assignedLocation"), "location").get("id")) or None
