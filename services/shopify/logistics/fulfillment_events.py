"""Fulfillment events: where a carrier scanned a parcel, and its status there."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.fields import find_instant, read_id, read_instant, read_text
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.entity_spec import EntitySpec
from services.shopify.event_payload import read_event
from services.shopify.logistics.tables import fulfillment_events
from services.shopify.merge import EPOCH, EntityUpdate
from services.shopify.payload_fields import find_order_gid
from services.shopify.upsert import upsert_entities


class FulfillmentEvent(NamedTuple):
    """One scan of a parcel. ``status`` is Shopify's: ``in_transit``, ``delivered``, ``failure``..."""

    updated_at: datetime
    fulfillment_id: int
    order_gid: str
    status: str
    happened_at: datetime
    delivery_expected_at: datetime | None

    @property
    def version(self) -> tuple[Any, ...]:
        """The time; the rest decides between two states of the same second."""
        return (self.updated_at, self.happened_at, self.status, self.delivery_expected_at or EPOCH,
                self.fulfillment_id, self.order_gid)  # fmt: skip


def ingest_fulfillment_events(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Record every fulfillment event, without city and coordinates, which show where a person lives.

    ``fulfillment_events/delete`` is ``ignored``: its payload is that of ``create``, and nothing follows from
    a header alone. The fulfillment's own row follows ``fulfillments/update``.
    """
    return upsert_entities(tx, items, now, _SPEC, _parse)


def _parse(item: WorkItem, now: datetime) -> list[EntityUpdate[FulfillmentEvent]]:
    del now
    source = read_event(item)
    number = read_id(source, "id")
    if item.event_topic == "fulfillment_events/delete":
        return []
    happened_at = read_instant(source, "happened_at")
    data = FulfillmentEvent(
        updated_at=find_instant(source, "updated_at") or happened_at,
        fulfillment_id=read_id(source, "fulfillment_id"),
        order_gid=find_order_gid(source),
        status=read_text(source, "status"),
        happened_at=happened_at,
        delivery_expected_at=find_instant(source, "estimated_delivery_at"),
    )
    return [EntityUpdate((item.shop_id, number), data)]


_SPEC = EntitySpec(
    name="fulfillment_event",
    table=fulfillment_events,
    make=FulfillmentEvent,
    audited=("fulfillment_id", "status", "happened_at", "delivery_expected_at", "order_gid"),
)
