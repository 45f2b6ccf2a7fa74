"""Fulfilment orders: who is to send what of an order, whether he may yet, and whether it is held.

Shopify's ``fulfillment_orders/*`` name a fulfilment order by its global id with the few fields that the event
is about; some name several (moved, split, held in part, replaced), and none has a time or names the order.
``fulfillment_holds/added`` and ``released`` have one and the same body, so they have no effect: status and
holds are in ``fulfillment_orders/*``. Source: the sample payloads of version 2026-07.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

from services.core.fields import Unreadable, find_instant, find_text
from services.ledger.work import HandlerResult, NewWork, WorkItem
from services.shopify.event_payload import WrongBody, read_event
from services.shopify.merge import EPOCH, EntityState, EntityUpdate
from services.shopify.orders.payload import order_gid
from services.shopify.partial_updates import FieldVersions, record_field_updates
from services.shopify.payload_fields import find_gid, find_object, read_gid
from services.shopify.stock.audit_text import describe_level_change
from services.shopify.stock.levels import SkuKey
from services.shopify.stock.movements import recount_routed_orders
from services.shopify.stock.push_plan import PushCause, plan_pushes
from services.shopify.upsert import EntitySpec, UpsertResult

_PREPARED = "fulfillment_orders/line_items_prepared_for"
_FURTHER = (
    "scheduled", "open", "on_hold", "in_progress", "incomplete", "closed", "cancelled",
    "unsubmitted", "submitted", "rejected", "accepted", "cancellation_requested", "cancellation_rejected",
    "cancellation_accepted",
)  # fmt: skip


class FulfillmentOrder(FieldVersions):
    """A fulfilment order as the events told it. A hold is a part of its own, by its id."""

    __slots__ = ()
    further = MappingProxyType({word: place for place, word in enumerate(_FURTHER, start=1)})

    @property
    def order_gid(self) -> str:
        """Whose it is; empty where nobody told it."""
        return self.text("order_gid")

    @property
    def status(self) -> str:
        """Shopify's: ``scheduled``, ``open``, ``on_hold``, ``in_progress``, ``closed``, ``cancelled``..."""
        return self.text("status")

    @property
    def request_status(self) -> str:
        """How far the request to a fulfilment service is."""
        return self.text("request_status")

    @property
    def location_id(self) -> int | None:
        """Where it is to be sent from."""
        return self.number("location_id")

    @property
    def is_on_hold(self) -> bool:
        """Its status says so, or a hold was put on it after its status was told."""
        return self.status == "on_hold" or bool(self._holds())

    @property
    def hold_reason(self) -> str:
        """Shopify's word for why, of the newest hold that stands."""
        return max(((part.at, str(part.value)) for part in self._holds()), default=(EPOCH, ""))[1]

    @property
    def fulfill_at(self) -> datetime | None:
        """When it becomes due, where it was scheduled."""
        return self.moment("fulfill_at")

    @property
    def prepared_at(self) -> datetime | None:
        """When its goods were made ready for pickup or local delivery."""
        return self.moment("prepared_at")

    def _holds(self) -> list[Any]:
        holds = list(self.each("hold:").values())
        status = self.parts.get("status")
        if status is None or status.value == "on_hold":
            return holds
        return [part for part in holds if part.at > status.at]


def ingest_fulfillment_orders(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every fulfilment order stands, field by field, as its newest event told it; see
    ``record_field_updates``.

    Where it names the location of an order's sale, the counted levels of the order's items are counted again.
    Messages and notes, which may name the customer, are not kept.
    """
    ingested = record_field_updates(tx, items, _KIND, lambda item: _read(item, now))
    return ingested.effects(items, _count_routed(tx, ingested, now))


def _count_routed(tx: Connection, ingested: UpsertResult[FulfillmentOrder], now: datetime) -> list[NewWork]:
    """The sales of the orders that were routed elsewhere count there; return the pushes due."""
    routed: dict[tuple[int, str], WorkItem] = {}
    for key, item in ingested.changed.items():
        state, known = ingested.rows[key].state, ingested.known.get(key)
        before = known.state if known else None
        if state and state.order_gid and (before is None or _route(before) != _route(state)):
            routed[key[0], state.order_gid] = item
    shifts = recount_routed_orders(tx, routed, now)
    causes: dict[SkuKey, PushCause] = {}
    for gid, found in shifts.items():
        item = routed[gid]
        said = ingested.said.setdefault(item.id, [])
        for shift in found:
            said.append(describe_level_change(shift, f"the location of order {gid[1].rpartition('/')[2]}"))
            causes[shift.level.shop_id, shift.level.sku] = PushCause(item.event_id, item.request_id)
    levels = [shift.level for found in shifts.values() for shift in found]
    return plan_pushes(tx, levels, causes, now)


def _route(order: FulfillmentOrder) -> tuple[str, int | None, bool]:
    return order.order_gid, order.location_id, order.status == "cancelled"


def _read(item: WorkItem, now: datetime) -> list[EntityUpdate[FulfillmentOrder]]:
    source = read_event(item)
    at = item.event_time(now)
    more = dict[str, str | int | None]()
    if item.event_topic.startswith(_PREPARED):
        # No other topic of a fulfilment order describes how its goods reach the customer.
        if not find_object(find_object(source, "fulfillment_order"), "delivery_method"):
            raise WrongBody("fulfillment_order", "without delivery_method", f"that of {item.event_topic}")
        more["prepared_at"] = at.isoformat()
    told = [
        EntityUpdate(
            (item.shop_id, read_gid(one, "id")),
            EntityState(FulfillmentOrder.tell(at, {**_values(one), **more})),
        )
        for one in _named(source)
    ]
    if not told:
        raise Unreadable("fulfillment_order", source.get("fulfillment_order"), "an object with its id")
    return [one for one in told if one.row.state and one.row.state.parts]


def _named(source: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield every fulfilment order that a body names: as ``moved_fulfillment_order``, and so on."""
    for name, value in source.items():
        if name.endswith("fulfillment_order") and isinstance(value, dict):
            yield value
    merges = source.get("fulfillment_order_merges")
    for merge in merges if isinstance(merges, list) else [merges]:
        if isinstance(merge, dict):
            yield from _named(merge)


def _values(source: Mapping[str, Any]) -> dict[str, str | int | None]:
    order_id, fulfill_at = find_gid(source, "order_id"), find_instant(source, "fulfill_at")
    holds = source.get("fulfillment_holds")
    return {
        "order_gid": order_gid(order_id) if order_id else None,
        "status": find_text(source, "status").lower(),
        "request_status": find_text(source, "request_status").lower(),
        "location_id": find_gid(source, "assigned_location_id"),
        "fulfill_at": fulfill_at.isoformat() if fulfill_at else None,
        **{
            f"hold:{read_gid(hold, 'id')}": _reason(hold)
            for hold in (holds if isinstance(holds, list) else [])
            if isinstance(hold, dict)
        },
    }


def _reason(hold: Mapping[str, Any]) -> str:
    return find_text(hold, "reason").lower() or "other"


_FIND = """
select t.shop_id, t.fulfillment_order_id, null::timestamptz, t.updated_at, t.told
  from unnest(%(shop_id)s::int[], %(id)s::bigint[]) as v(shop_id, id)
  join fulfillment_orders t on t.shop_id = v.shop_id and t.fulfillment_order_id = v.id
"""

_WRITE = """
insert into fulfillment_orders (shop_id, fulfillment_order_id, event_id, updated_at, told, order_gid, status,
                                request_status, location_id, is_on_hold, hold_reason, fulfill_at, prepared_at)
select * from unnest(%(shop_id)s::int[], %(id)s::bigint[], %(event_id)s::bigint[],
                     %(updated_at)s::timestamptz[], %(told)s::jsonb[], %(order_gid)s::text[],
                     %(status)s::text[], %(request_status)s::text[], %(location_id)s::bigint[],
                     %(is_on_hold)s::boolean[], %(hold_reason)s::text[], %(fulfill_at)s::timestamptz[],
                     %(prepared_at)s::timestamptz[])
on conflict (shop_id, fulfillment_order_id) do update set
   event_id = excluded.event_id, updated_at = excluded.updated_at, told = excluded.told,
   order_gid = excluded.order_gid, status = excluded.status, request_status = excluded.request_status,
   location_id = excluded.location_id, is_on_hold = excluded.is_on_hold,
   hold_reason = excluded.hold_reason, fulfill_at = excluded.fulfill_at, prepared_at = excluded.prepared_at
"""

_KIND = EntitySpec(
    table="fulfillment_orders",
    noun="fulfilment order",
    code="shopify.unreadable_fulfillment_order",
    find=_FIND,
    make=FulfillmentOrder.make,
    write=_WRITE,
    columns={
        "updated_at": "timestamptz", "told": "text", "order_gid": "text", "status": "text",
        "request_status": "text", "location_id": "bigint", "is_on_hold": "boolean", "hold_reason": "text",
        "fulfill_at": "timestamptz", "prepared_at": "timestamptz",
    },
    blank=FulfillmentOrder({}),
    shown=("status", "request_status", "location_id", "is_on_hold", "hold_reason", "fulfill_at",
           "prepared_at", "order_gid"),
    lock=lambda number: f"fulfillment-order:{number}",
)  # fmt: skip
