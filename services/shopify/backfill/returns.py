"""Returns that we lack: found with the orders that changed, as Shopify lists them nowhere else."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from sqlalchemy import Connection

from services.core.pg_arrays import int_array
from services.providers.delivery import find_dict
from services.providers.shopify_pull_documents import LIST_RETURNS, READ_ORDER_RETURNS
from services.shopify.backfill.node_fields import Node, number_of
from services.shopify.backfill.pager import Pager, since_query
from services.shopify.backfill.to_webhook import PulledEvent

_TOPICS = MappingProxyType(
    {
        "REQUESTED": "returns/request",
        "OPEN": "returns/approve",
        "DECLINED": "returns/decline",
        "CANCELED": "returns/cancel",
        "CLOSED": "returns/close",
    }
)
"""Which webhook leaves a return in a status."""

MOMENT = timedelta(minutes=1)
"""What a webhook told in the last minute is not held against a list: it may be the newer of the two."""

_FIND = """
select v.id, t.order_gid, t.name, t.status, t.updated_at from unnest(%(id)s::bigint[]) as v(id)
  join order_returns t on t.shop_id = %(shop_id)s and t.return_id = v.id
"""


class Known(NamedTuple):
    """What we have of a return that its order shows too."""

    order_gid: str
    name: str
    status: str
    updated_at: datetime


def list_returns(reader: Pager, since: datetime) -> Iterator[Sequence[Node]]:
    """Yield pages of the orders changed since then, longest unchanged first, with all their returns."""
    for page in reader.pages(LIST_RETURNS, {"query": since_query(since)}, "orders"):
        yield [reader.finish(one, "returns", READ_ORDER_RETURNS, "order", one["id"]) for one in page.nodes]


def find_lacking_returns(
    tx: Connection, shop_id: int, page: Sequence[Node], *, now: datetime
) -> list[PulledEvent]:
    """Return those of the orders of ``page`` that are unknown, or nameless, or stand elsewhere than with us.

    A return has no time of its own: what is read now is how it stands now, less ``MOMENT``.
    """
    told = [(one, order) for order in page for one in order["returns"]["nodes"]]
    if not told:
        return []
    values = {"shop_id": shop_id, "id": int_array([number_of(one["id"]) for one, _ in told])}
    known = {row[0]: Known(*row[1:]) for row in tx.exec_driver_sql(_FIND, values)}
    at = now - MOMENT
    return [
        return_event(one, order, have, at)
        for one, order in told
        for have in (known.get(number_of(one["id"])),)
        if _lacks(one, have, at)
    ]


def return_event(node: Node, order: Node, have: Known | None, at: datetime) -> PulledEvent:
    """Return a return of ``order`` as the webhook of its status would tell it at ``at``.

    ``corrects`` is no field of Shopify's: it makes the correction of another state another event.
    """
    body = {
        "id": number_of(node["id"]),
        "admin_graphql_api_id": node["id"],
        "status": node["status"].lower(),
        "name": node["name"],
        "order": {"id": number_of(order["id"]), "admin_graphql_api_id": order["id"]},
        "decline": {"reason": str(find_dict(node, "decline").get("reason") or "").lower()},
        "corrects": have.updated_at.isoformat() if have else None,
    }
    return PulledEvent(_TOPICS[node["status"]], node["id"], body, at)


def _lacks(node: Node, have: Known | None, at: datetime) -> bool:
    if have is None or not (have.order_gid and have.name):
        return True
    return node["status"].lower() != have.status and have.updated_at < at
