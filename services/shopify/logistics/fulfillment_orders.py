"""Fulfillment orders: which location ships which part of an order, when, and whether it is on hold.

A payload of ``fulfillment_orders/*`` contains a fulfillment order by its global id with only the fields of
the event. Some contain several (moved, split, held in part, replaced). None has a time or the order.
``fulfillment_holds/added`` and ``released`` have the same payload, so they have no effect: status and holds
are in ``fulfillment_orders/*``. Source: the sample payloads of version 2026-07.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.core.fields import Unreadable, find_instant, find_object, find_text, parse_items
from services.ledger.work import HandlerResult, NewWork, WorkItem
from services.shopify.entities import EPOCH, EntityUpdate, UpsertResult, rank_values, upsert_parsed
from services.shopify.logistics.tables import fulfillment_orders
from services.shopify.partial_updates import FieldVersion, FieldVersions, PartialEntitySpec
from services.shopify.payload import WrongBody, find_gid, order_gid, read_event, read_gid
from services.shopify.stock.audit_text import describe_level
from services.shopify.stock.levels import Level, SkuKey
from services.shopify.stock.movements import recount_routed_orders
from services.shopify.stock.push_plan import PushCause, list_due_pushes, push_cause

_PREPARED = "fulfillment_orders/line_items_prepared_for"


class FulfillmentOrder(FieldVersions):
    """A fulfillment order. Each hold is a separate field, by its id."""

    ranks = rank_values(
        "scheduled", "open", "on_hold", "in_progress", "incomplete", "closed", "cancelled",
        "unsubmitted", "submitted", "rejected", "accepted", "cancellation_requested",
        "cancellation_rejected", "cancellation_accepted",
    )  # fmt: skip

    def columns(self) -> dict[str, Any]:
        """Return the columns; ``hold_reason`` is that of the newest active hold."""
        status, holds = self.text("status"), self._active_holds()
        reason = max(((hold.at, str(hold.value)) for hold in holds), default=(EPOCH, ""))[1]
        return {
            "order_gid": self.text("order_gid"),
            "status": status,
            "request_status": self.text("request_status"),
            "location_id": self.number("location_id"),
            "is_on_hold": status == "on_hold" or bool(holds),
            "hold_reason": reason,
            "fulfill_at": self.time("fulfill_at"),
            "prepared_at": self.time("prepared_at"),
        }

    def _active_holds(self) -> list[FieldVersion]:
        """Return the holds. Those older than the newest status are released, unless that is ``on_hold``."""
        holds = self.with_prefix("hold:")
        status = self.fields.get("status")
        if status is None or status.value == "on_hold":
            return holds
        return [hold for hold in holds if hold.at > status.at]


def ingest_fulfillment_orders(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Upsert the fields of fulfillment orders, except messages and notes, which may name the customer.

    A fulfillment order with its order determines the location of the order's sales: the counted levels of the
    order's items are computed again.
    """
    parsed = parse_items(items, lambda item: _parse(item, now), _SPEC.unreadable)
    result = upsert_parsed(tx, items, parsed, _SPEC)
    return result.to_handler_result(items, _move_sales(tx, result, now))


def _move_sales(tx: Connection, result: UpsertResult[FulfillmentOrder], now: datetime) -> list[NewWork]:
    """Move the sales of orders with a new location to it; return the pushes to send."""
    moved: dict[tuple[int, str], WorkItem] = {}
    for key, item in result.changed.items():
        before, after = result.before.get(key), result.after[key].data
        gid = after.text("order_gid") if after else ""
        if after and gid and _sales_location(before.data if before else None) != _sales_location(after):
            moved[key[0], gid] = item
    causes: dict[SkuKey, PushCause] = {}
    levels: list[Level] = []
    for order, change in recount_routed_orders(tx, moved, now):
        item = moved[order]
        text = f"the location of order {order[1].rpartition('/')[2]}"
        result.mutations[item.id].append(describe_level(change.level, change, text))
        causes[change.level.sku_key] = push_cause(item)
        levels.append(change.level)
    return list_due_pushes(tx, levels, causes, now)


def _sales_location(order: FulfillmentOrder | None) -> tuple[str, int | None, bool] | None:
    """Return the values that determine the location of an order's sales."""
    if order is None:
        return None
    return order.text("order_gid"), order.number("location_id"), order.text("status") == "cancelled"


def _parse(item: WorkItem, now: datetime) -> list[EntityUpdate[FulfillmentOrder]]:
    source, at = read_event(item), item.event_time(now)
    more = dict[str, str]()
    if item.event_topic.startswith(_PREPARED):
        # No other topic of a fulfillment order contains its delivery method.
        if not find_object(find_object(source, "fulfillment_order"), "delivery_method"):
            raise WrongBody("fulfillment_order", "without delivery_method", f"that of {item.event_topic}")
        more["prepared_at"] = at.isoformat()
    updates = [
        EntityUpdate(
            (item.shop_id, read_gid(order, "id")), FulfillmentOrder.from_event(at, _read_values(order) | more)
        )
        for order in _list_orders(source)
    ]
    if not updates:
        raise Unreadable("fulfillment_order", source.get("fulfillment_order"), "an object with its id")
    return [update for update in updates if update.data and update.data.fields]


def _list_orders(source: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield each fulfillment order in a payload: ``moved_fulfillment_order`` and so on."""
    for name, value in source.items():
        if name.endswith("fulfillment_order") and isinstance(value, dict):
            yield value
    merges = source.get("fulfillment_order_merges")
    for merge in merges if isinstance(merges, list) else [merges]:
        if isinstance(merge, dict):
            yield from _list_orders(merge)


def _read_values(source: Mapping[str, Any]) -> dict[str, str | int | None]:
    order_id, fulfill_at = find_gid(source, "order_id"), find_instant(source, "fulfill_at")
    holds = source.get("fulfillment_holds")
    return {
        "order_gid": order_gid(order_id) if order_id else None,
        "status": find_text(source, "status").lower(),
        "request_status": find_text(source, "request_status").lower(),
        "location_id": find_gid(source, "assigned_location_id"),
        "fulfill_at": fulfill_at.isoformat() if fulfill_at else None,
        **{
            f"hold:{read_gid(hold, 'id')}": find_text(hold, "reason").lower() or "other"
            for hold in (holds if isinstance(holds, list) else [])
            if isinstance(hold, dict)
        },
    }


_SPEC = PartialEntitySpec(
    name="fulfillment_order",
    table=fulfillment_orders,
    make=FulfillmentOrder.from_row,
    audited=("status", "request_status", "location_id", "is_on_hold", "hold_reason", "fulfill_at",
             "prepared_at", "order_gid"),
)  # fmt: skip
