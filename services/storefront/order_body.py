"""What we take from a Shopify order: picked fields, checked, nothing else. Pure."""

from datetime import datetime
from typing import Any, NamedTuple

from services.core.reading import (
    Unreadable,
    find_instant,
    find_text,
    read_count,
    read_id,
    read_instant,
    read_list,
    read_money,
    read_object,
    read_text,
)
from services.ledger.work import WorkItem

_PROGRESS = {
    status: place
    for place, status in enumerate(
        ("pending", "authorized", "partially_paid", "paid", "partially_refunded", "refunded", "expired",
         "voided"), start=1,
    )
}  # fmt: skip

Version = tuple[datetime, bool, int, int]
"""What makes one state of an order newer than another; see ``order_version``."""


class OrderLine(NamedTuple):
    """A line as Shopify describes it. Named tuples here: thousands a second are made."""

    line_id: int
    sku: str
    title: str
    quantity: int
    price_cents: int


class Order(NamedTuple):
    """One state of an order, as one event told it."""

    shop_id: int
    gid: str
    name: str
    total_cents: int
    currency: str
    financial_status: str
    cancelled_at: datetime | None
    placed_at: datetime
    updated_at: datetime
    event_id: int | None
    request_id: str
    version: Version
    lines: list[OrderLine]
    work_id: int


def order_version(
    updated_at: datetime, cancelled_at: datetime | None, financial_status: str, total_cents: int
) -> Version:
    """Return what orders the states of one order: the newest ``updated_at``, then the furthest on.

    Shopify's times are whole seconds, and a new order is often created and paid within one; then
    cancelled beats open, and a later financial status an earlier one, in whatever order they arrive.
    """
    return (updated_at, cancelled_at is not None, _PROGRESS.get(financial_status, 0), total_cents)


def read_order(item: WorkItem) -> Order:
    """Return the order that ``item``'s event tells of; raise ``Unreadable`` naming the field."""
    source = read_object(item.body)
    currency = read_text(source, "currency")
    total_cents = read_money(source, "total_price", currency)
    financial_status = find_text(source, "financial_status")
    cancelled_at = find_instant(source, "cancelled_at")
    updated_at = read_instant(source, "updated_at")
    return Order(
        shop_id=item.shop_id,
        gid=find_text(source, "admin_graphql_api_id") or order_gid(read_id(source, "id")),
        name=find_text(source, "name"),
        total_cents=total_cents,
        currency=currency,
        financial_status=financial_status,
        cancelled_at=cancelled_at,
        placed_at=read_instant(source, "created_at"),
        updated_at=updated_at,
        event_id=item.event_id,
        request_id=item.request_id,
        version=order_version(updated_at, cancelled_at, financial_status, total_cents),
        lines=[_read_line(line, place, currency) for place, line in enumerate(_read_lines(source))],
        work_id=item.id,
    )


def order_gid(order_id: int) -> str:
    """Return the name by which Shopify's GraphQL and this ledger know an order."""
    return f"gid://shopify/Order/{order_id}"


def _read_lines(source: dict[str, Any]) -> list[dict[str, Any]]:
    lines = read_list(source, "line_items")
    if len({line.get("id") for line in lines}) < len(lines):
        raise Unreadable("line_items", [line.get("id") for line in lines], "lines with an id each of its own")
    return lines


def _read_line(line: dict[str, Any], place: int, currency: str) -> OrderLine:
    try:
        quantity = read_count(line, "quantity")
        if quantity < 0:
            raise Unreadable("quantity", quantity, "zero or more")
        return OrderLine(
            read_id(line, "id"),
            find_text(line, "sku"),
            find_text(line, "title"),
            quantity,
            read_money(line, "price", currency),
        )
    except Unreadable as fault:
        raise fault.within(f"line_items[{place}]") from None
