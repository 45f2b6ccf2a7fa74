"""Fulfillments (the shipped items of an order, and their location), scans of parcels, and locations.

Address, tracking, city and coordinates are not stored: they show where a person lives.
"""

from datetime import datetime
from typing import Any

from services.core.fields import (
    find_id,
    find_instant,
    find_list,
    find_text,
    read_count,
    read_id,
    read_instant,
    read_text,
)
from services.ledger.work import WorkItem
from services.shopify.entities import EPOCH, EntityHandler, EntitySpec, EntityUpdate, rank_values
from services.shopify.logistics.tables import fulfillment_events, fulfillments
from services.shopify.payload import (
    find_order_gid,
    find_province,
    order_gid,
    read_event,
    updated_at_or_event_time,
)
from services.shopify.tables import data_class, locations

_Fulfillment = data_class(
    fulfillments, rank_values("pending", "open", "success", "error", "failure", "cancelled")
)
_FulfillmentEvent = data_class(fulfillment_events)
_Location = data_class(locations, {False: 1}, ranked="is_active")


def _parse_fulfillment(item: WorkItem, _now: datetime) -> list[EntityUpdate[Any]]:
    source = read_event(item)
    data = _Fulfillment(
        updated_at=read_instant(source, "updated_at"),
        order_gid=order_gid(read_id(source, "order_id")),
        status=read_text(source, "status"),
        shipment_status=find_text(source, "shipment_status"),
        location_id=find_id(source, "location_id"),
        quantity=sum(read_count(line, "quantity") for line in find_list(source, "line_items")),
        fulfilled_at=read_instant(source, "created_at"),
    )
    return [EntityUpdate((item.shop_id, read_id(source, "id")), data)]


def _parse_fulfillment_event(item: WorkItem, _now: datetime) -> list[EntityUpdate[Any]]:
    source = read_event(item)
    number = read_id(source, "id")
    if item.event_topic == "fulfillment_events/delete":
        return []
    happened_at = read_instant(source, "happened_at")
    data = _FulfillmentEvent(
        updated_at=find_instant(source, "updated_at") or happened_at,
        fulfillment_id=read_id(source, "fulfillment_id"),
        order_gid=find_order_gid(source),
        status=read_text(source, "status"),
        happened_at=happened_at,
        delivery_expected_at=find_instant(source, "estimated_delivery_at"),
    )
    return [EntityUpdate((item.shop_id, number), data)]


def _parse_location(item: WorkItem, now: datetime) -> list[EntityUpdate[Any]]:
    source = read_event(item)
    key = (item.shop_id, read_id(source, "id"))
    if item.event_topic == "locations/delete":
        return [EntityUpdate(key, deleted_at=item.event_time(now))]
    data = _Location(
        updated_at=updated_at_or_event_time(source, item, now),
        name=find_text(source, "name"),
        province=find_province(source),
        is_active=source["active"] is not False,
    )
    return [EntityUpdate(key, data)]


_FULFILLMENTS = EntitySpec(
    name="fulfillment",
    table=fulfillments,
    make=_Fulfillment,
    audited=("status", "shipment_status", "quantity", "order_gid"),
)

_EVENTS = EntitySpec(
    name="fulfillment_event",
    table=fulfillment_events,
    make=_FulfillmentEvent,
    audited=("fulfillment_id", "status", "happened_at", "delivery_expected_at", "order_gid"),
)

ingest_fulfillments = EntityHandler(_FULFILLMENTS, _parse_fulfillment)
"""Changes no stock: the sale has already done so."""

ingest_fulfillment_events = EntityHandler(_EVENTS, _parse_fulfillment_event)
"""``fulfillment_events/delete`` is ``ignored``: it has the payload of ``create``, and its topic is only in an
unsigned header. ``fulfillments/update`` updates the fulfillment itself."""

_LOCATIONS = EntitySpec(
    name="location",
    table=locations,
    make=_Location,
    audited=("name", "province", "is_active"),
    blank=_Location("", "", True, EPOCH),
)

ingest_locations = EntityHandler(_LOCATIONS, _parse_location)
"""Whether a location is open is in the payload, not in the topic."""
