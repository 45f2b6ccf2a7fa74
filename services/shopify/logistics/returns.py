"""Returns: what a customer asked to send back, and how far it is. The money is told by ``refunds/create``.

Four of Shopify's bodies name the order as an object, three as ``order_id``, ``returns/update`` names it not
at all and no more than the lines that were removed; of ``returns/process`` there is no sample, so only an id
and a status are read of it, where it has them. None has a time. Source: the sample payloads of 2026-07.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

from services.core.fields import find_text, read_count, read_list
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.event_payload import read_event
from services.shopify.merge import EntityState, EntityUpdate
from services.shopify.orders.payload import order_gid
from services.shopify.partial_updates import FieldVersions, upsert_field_updates
from services.shopify.payload_fields import find_gid, find_object, read_gid
from services.shopify.upsert import EntitySpec

_FURTHER = ("requested", "open", "declined", "canceled", "closed")
_SHIPPED = "reverse_deliveries/attach_deliverable"


class OrderReturn(FieldVersions):
    """A return as the events told it."""

    __slots__ = ()
    further = MappingProxyType({word: place for place, word in enumerate(_FURTHER, start=1)})

    @property
    def order_gid(self) -> str:
        """Whose it is; empty where nobody told it yet."""
        return self.text("order_gid")

    @property
    def name(self) -> str:
        """What people call it: ``#1001-R1``."""
        return self.text("name")

    @property
    def status(self) -> str:
        """Shopify's: ``requested``, ``open``, ``declined``, ``canceled``, ``closed``."""
        return self.text("status")

    @property
    def decline_reason(self) -> str:
        """Shopify's word for why it was declined; the note to it is not kept."""
        return self.text("decline_reason")

    @property
    def line_count(self) -> int | None:
        """How many lines of the order are to come back, as it was asked for or approved."""
        return self.number("line_count")

    @property
    def quantity(self) -> int | None:
        """How many pieces those are, where every line said it."""
        return self.number("quantity")

    @property
    def shipping_attached_at(self) -> datetime | None:
        """When a label or a tracking number for the way back was last attached."""
        return self.moment("shipping_attached_at")


def ingest_returns(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every return stands, field by field, as its newest event told it.

    Moves neither stock nor money: Shopify tells those in ``inventory_levels/update`` and
    ``refunds/create``. Notes, labels and tracking numbers are not kept. An event without a return in it,
    which only ``returns/process`` may be, is ``ignored``.
    """
    return upsert_field_updates(tx, items, _KIND, lambda item: _read(item, now))


def _read(item: WorkItem, now: datetime) -> list[EntityUpdate[OrderReturn]]:
    source = read_event(item)
    at = item.event_time(now)
    if item.event_topic == _SHIPPED:
        of_return = find_object(source, "return")
        values: dict[str, str | int | None] = {"shipping_attached_at": at.isoformat()}
        return [_told(item, _id_of(of_return), OrderReturn.tell(at, values))]
    if item.event_topic == "returns/process" and not find_gid(source, "admin_graphql_api_id"):
        return []
    order_id = find_gid(source, "order_id") or find_gid(find_object(source, "order"), "id")
    values = {
        "changed": 1,
        "status": find_text(source, "status").lower(),
        "order_gid": order_gid(order_id) if order_id else None,
        "name": find_text(source, "name"),
        "decline_reason": find_text(find_object(source, "decline"), "reason").lower(),
        **_count(source),
    }
    return [_told(item, _id_of(source), OrderReturn.tell(at, values))]


def _told(item: WorkItem, number: int, state: OrderReturn) -> EntityUpdate[OrderReturn]:
    return EntityUpdate((item.shop_id, number), EntityState(state))


def _id_of(source: Mapping[str, Any]) -> int:
    return _id_of_any(source) or read_gid(source, "id")


def _id_of_any(source: Mapping[str, Any]) -> int | None:
    return find_gid(source, "id") or find_gid(source, "admin_graphql_api_id")


def _count(source: Mapping[str, Any]) -> dict[str, int]:
    """Return what a whole telling counts; ``returns/update`` has an object of changes in the same place."""
    if source.get("total_return_line_items") is None:
        return {}
    counted = {"line_count": read_count(source, "total_return_line_items")}
    lines = read_list(source, "return_line_items") if source.get("return_line_items") else []
    is_whole = len(lines) == counted["line_count"] > 0
    if is_whole and all(line.get("quantity") is not None for line in lines):
        counted["quantity"] = sum(read_count(line, "quantity") for line in lines)
    return counted


_FIND = """
select t.shop_id, t.return_id, null::timestamptz, t.updated_at, t.told
  from unnest(%(shop_id)s::int[], %(id)s::bigint[]) as v(shop_id, id)
  join order_returns t on t.shop_id = v.shop_id and t.return_id = v.id
"""

_WRITE = """
insert into order_returns (shop_id, return_id, event_id, updated_at, told, order_gid, name, status,
                           decline_reason, line_count, quantity, shipping_attached_at)
select * from unnest(%(shop_id)s::int[], %(id)s::bigint[], %(event_id)s::bigint[],
                     %(updated_at)s::timestamptz[], %(told)s::jsonb[], %(order_gid)s::text[],
                     %(name)s::text[], %(status)s::text[], %(decline_reason)s::text[], %(line_count)s::int[],
                     %(quantity)s::bigint[], %(shipping_attached_at)s::timestamptz[])
on conflict (shop_id, return_id) do update set
   event_id = excluded.event_id, updated_at = excluded.updated_at, told = excluded.told,
   order_gid = excluded.order_gid, name = excluded.name, status = excluded.status,
   decline_reason = excluded.decline_reason, line_count = excluded.line_count,
   quantity = excluded.quantity, shipping_attached_at = excluded.shipping_attached_at
"""

_KIND = EntitySpec(
    table="order_returns",
    noun="return",
    code="shopify.unreadable_return",
    find=_FIND,
    make=OrderReturn.make,
    write=_WRITE,
    columns={
        "updated_at": "timestamptz", "told": "text", "order_gid": "text", "name": "text", "status": "text",
        "decline_reason": "text", "line_count": "bigint", "quantity": "bigint",
        "shipping_attached_at": "timestamptz",
    },
    blank=OrderReturn({}),
    shown=("status", "decline_reason", "line_count", "quantity", "shipping_attached_at", "order_gid"),
    lock=lambda number: f"return:{number}",
)  # fmt: skip
