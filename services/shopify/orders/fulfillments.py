"""Fulfillments: which part of an order was shipped, from where, and its status."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.fields import find_text, read_count, read_id, read_instant, read_text
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.entity_spec import EntitySpec
from services.shopify.event_payload import read_event
from services.shopify.merge import EntityUpdate, rank_values
from services.shopify.payload_fields import find_id, find_list, order_gid
from services.shopify.tables import fulfillments
from services.shopify.upsert import upsert_entities

_RANKS = rank_values("pending", "open", "success", "error", "failure", "cancelled")


class Fulfillment(NamedTuple):
    """A fulfillment; ``quantity`` is that of all its lines."""

    updated_at: datetime
    order_gid: str
    status: str
    shipment_status: str
    location_id: int | None
    quantity: int
    fulfilled_at: datetime

    @property
    def version(self) -> tuple[Any, ...]:
        """The time, then the most advanced status; the rest decides between states alike in both."""
        return (self.updated_at, _RANKS.get(self.status, 0), self.status, self.shipment_status,
                self.quantity, self.location_id or 0, self.fulfilled_at, self.order_gid)  # fmt: skip


def ingest_fulfillments(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Upsert fulfillments, without address and tracking. No stock moves: the sale has taken it already."""
    return upsert_entities(tx, items, now, _SPEC, _parse)


def _parse(item: WorkItem, now: datetime) -> list[EntityUpdate[Fulfillment]]:
    del now
    source = read_event(item)
    lines = find_list(source, "line_items")
    data = Fulfillment(
        updated_at=read_instant(source, "updated_at"),
        order_gid=order_gid(read_id(source, "order_id")),
        status=read_text(source, "status"),
        shipment_status=find_text(source, "shipment_status"),
        location_id=find_id(source, "location_id"),
        quantity=sum(read_count(line, "quantity") for line in lines),
        fulfilled_at=read_instant(source, "created_at"),
    )
    return [EntityUpdate((item.shop_id, read_id(source, "id")), data)]


_SPEC = EntitySpec(
    name="fulfillment",
    table=fulfillments,
    make=Fulfillment,
    audited=("status", "shipment_status", "quantity", "order_gid"),
)
