"""What we take from a Shopify order: picked fields, checked, nothing else. Pure."""

from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

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
from services.storefront.body import (
    find_id,
    find_money,
    find_object,
    find_province,
    find_shop_money,
)
from services.storefront.customer_body import Customer, is_told, read_customer
from services.storefront.order_parts import (
    find_attributed,
    find_staff,
    read_discount,
    read_shipping_taxes,
    read_taxes,
    taxes_json,
    user_label,
)

_PROGRESS = {
    status: place
    for place, status in enumerate(
        ("pending", "authorized", "partially_paid", "paid", "partially_refunded", "refunded", "expired",
         "voided"), start=1,
    )
}  # fmt: skip
_FULFILLED = {"partial": 1, "fulfilled": 2, "restocked": 3}

Version = tuple[datetime, bool, int, int, int, str]
"""What makes one state of an order newer than another; see ``order_version``."""


class OrderLine(NamedTuple):
    """A line as Shopify describes it. Named tuples here: thousands a second are made.

    ``discount_cents`` is the line's share of all discounts. ``taxes`` is JSON, None where there are none.
    ``staff_label`` is empty where the line does not say; then the order's counts.
    """

    line_id: int
    sku: str
    title: str
    quantity: int
    price_cents: int
    discount_cents: int = 0
    is_taxable: bool = True
    is_gift_card: bool = False
    taxes: str | None = None
    product_id: int | None = None
    staff_label: str = ""


class Order(NamedTuple):
    """One state of an order, as one event told it. Money is in the shop's currency, not the buyer's.

    None in ``subtotal_cents`` and its neighbours: the event did not say. ``shipping_taxes`` is JSON.
    """

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
    subtotal_cents: int | None
    tax_cents: int | None
    shipping_cents: int | None
    discount_cents: int | None
    taxes_included: bool
    shipping_taxes: str | None
    customer_id: int | None
    staff_label: str
    province: str
    location_id: int | None
    fulfillment_status: str
    customer: Customer | None

    @property
    def content_digest(self) -> str:
        """What decides between two states that are equally new and equally far on."""
        return self.version[5]


def order_version(
    updated_at: datetime,
    cancelled_at: datetime | None,
    financial_status: str,
    fulfillment_status: str,
    total_cents: int,
    content_digest: str,
) -> Version:
    """Return what orders the states of one order: the newest ``updated_at``, then the furthest on.

    Shopify's times are whole seconds, and a new order is often created and paid within one; then
    cancelled beats open, and a later status an earlier one, in whatever order they arrive. Between states
    that are alike even so, the digest of all we keep decides: no two different states are equal.
    """
    return (
        updated_at,
        cancelled_at is not None,
        _PROGRESS.get(financial_status, 0),
        _FULFILLED.get(fulfillment_status, 0),
        total_cents,
        content_digest,
    )


def read_order(item: WorkItem) -> Order:
    """Return the order that ``item``'s event tells of; raise ``Unreadable`` naming the field.

    Only id, currency, total, times and lines must be there; all else may be absent.
    """
    source = read_object(item.body)
    currency = read_text(source, "currency")
    total_cents = read_money(source, "total_price", currency)
    financial_status = find_text(source, "financial_status")
    fulfillment_status = find_text(source, "fulfillment_status")
    cancelled_at = find_instant(source, "cancelled_at")
    updated_at = read_instant(source, "updated_at")
    customer = find_object(source, "customer")
    customer_id = _find_customer_id(customer) if customer else None
    kept = (
        find_text(source, "admin_graphql_api_id") or order_gid(read_id(source, "id")),
        find_text(source, "name"),
        currency,
        read_instant(source, "created_at"),
        [_read_line(line, place, currency) for place, line in enumerate(_read_lines(source))],
        find_money(source, "subtotal_price", currency),
        find_money(source, "total_tax", currency),
        find_shop_money(source, "total_shipping_price_set", currency),
        find_money(source, "total_discounts", currency),
        source.get("taxes_included") is True,
        read_shipping_taxes(source, currency),
        customer_id,
        find_staff(source.get("note_attributes")) or user_label(find_id(source, "user_id")),
        find_province(find_object(source, "shipping_address"))
        or find_province(find_object(source, "billing_address")),
        find_id(source, "location_id"),
    )
    told = (total_cents, financial_status, fulfillment_status, cancelled_at)
    digest = blake2b(orjson.dumps((kept, told), default=tuple), digest_size=8).hexdigest()
    return Order(
        shop_id=item.shop_id,
        gid=kept[0],
        name=kept[1],
        total_cents=total_cents,
        currency=currency,
        financial_status=financial_status,
        cancelled_at=cancelled_at,
        placed_at=kept[3],
        updated_at=updated_at,
        event_id=item.event_id,
        request_id=item.request_id,
        version=order_version(
            updated_at, cancelled_at, financial_status, fulfillment_status, total_cents, digest
        ),
        lines=kept[4],
        work_id=item.id,
        subtotal_cents=kept[5],
        tax_cents=kept[6],
        shipping_cents=kept[7],
        discount_cents=kept[8],
        taxes_included=kept[9],
        shipping_taxes=kept[10],
        customer_id=customer_id,
        staff_label=kept[12],
        province=kept[13],
        location_id=kept[14],
        fulfillment_status=fulfillment_status,
        customer=read_customer(customer, updated_at) if customer_id and is_told(customer) else None,
    )


def order_gid(order_id: int) -> str:
    """Return the name by which Shopify's GraphQL and this ledger know an order."""
    return f"gid://shopify/Order/{order_id}"


def _find_customer_id(customer: Mapping[str, Any]) -> int | None:
    try:
        return find_id(customer, "id")
    except Unreadable as fault:
        raise fault.within("customer") from None


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
            read_discount(line, currency),
            line.get("taxable") is not False,
            line.get("gift_card") is True,
            taxes_json(read_taxes(line, currency)) if line.get("tax_lines") else None,
            find_id(line, "product_id"),
            (find_staff(said) if (said := line.get("properties")) else "")
            or (find_attributed(staff) if (staff := line.get("attributed_staffs")) else ""),
        )
    except Unreadable as fault:
        raise fault.within(f"line_items[{place}]") from None
