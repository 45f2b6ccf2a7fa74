"""What we take from a Shopify order: picked fields, checked, nothing else. Pure."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple

import orjson

from services.core.reading import (
    LARGEST_ID,
    Unreadable,
    as_count,
    as_id,
    as_instant,
    as_money,
    as_text,
    text_or_empty,
)
from services.ledger.work import WorkItem
from services.storefront.body import find_province, id_or_none, money_or_none, shop_money_or_none
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
from services.storefront.order_shape import CustomerShape, LineShape, read_shape
from services.storefront.topic_body import WrongBody, check_kind

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

    ``variant_ids`` has a line's variant by the line's id; absent where the body does not state it. None in
    ``subtotal_cents`` and its neighbours: the event did not say. ``shipping_taxes`` is JSON. From
    ``total_cents`` on stands all that is kept of it, and what ``content_digest`` is of.
    """

    shop_id: int
    work_id: int
    event_id: int | None
    request_id: str
    updated_at: datetime
    version: Version
    customer: Customer | None
    variant_ids: dict[int, int]

    total_cents: int
    financial_status: str
    fulfillment_status: str
    cancelled_at: datetime | None

    gid: str
    name: str
    currency: str
    placed_at: datetime
    lines: list[OrderLine]
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
    source = read_shape(item.body)
    gid = text_or_empty(source.admin_graphql_api_id)
    check_kind(item.event_topic, "Order", gid)
    currency = as_text(source.currency, "currency")
    total_cents = as_money(source.total_price, "total_price", currency)
    if not gid and source.financial_status is None:  # a checkout has all else that an order has
        raise WrongBody("the body", "one without financial_status", f"that of {item.event_topic}")
    financial_status = text_or_empty(source.financial_status)
    fulfillment_status = text_or_empty(source.fulfillment_status)
    cancelled_at = None if source.cancelled_at is None else as_instant(source.cancelled_at, "cancelled_at")
    updated_at = as_instant(source.updated_at, "updated_at")
    customer = source.customer
    customer_id = _find_customer_id(customer) if customer else None
    kept = (
        gid or order_gid(as_id(source.id, "id")),
        text_or_empty(source.name),
        currency,
        as_instant(source.created_at, "created_at"),
        _read_lines(source.line_items, currency),
        money_or_none(source.subtotal_price, "subtotal_price", currency),
        money_or_none(source.total_tax, "total_tax", currency),
        shop_money_or_none(source.total_shipping_price_set, currency),
        money_or_none(source.total_discounts, "total_discounts", currency),
        source.taxes_included is True,
        read_shipping_taxes(source.shipping_lines, currency),
        customer_id,
        find_staff(source.note_attributes) or user_label(id_or_none(source.user_id, "user_id")),
        find_province(source.shipping_address or {}) or find_province(source.billing_address or {}),
        id_or_none(source.location_id, "location_id"),
    )
    told = (total_cents, financial_status, fulfillment_status, cancelled_at)
    digest = blake2b(orjson.dumps((kept, told), default=tuple), digest_size=8).hexdigest()
    return Order(
        item.shop_id,
        item.id,
        item.event_id,
        item.request_id,
        updated_at,
        order_version(updated_at, cancelled_at, financial_status, fulfillment_status, total_cents, digest),
        read_customer(customer, updated_at) if customer and customer_id and is_told(customer) else None,
        _find_variants(source.line_items),
        *(*told, *kept),
    )


def order_gid(order_id: int) -> str:
    """Return the name by which Shopify's GraphQL and this ledger know an order."""
    return f"gid://shopify/Order/{order_id}"


def _find_customer_id(customer: CustomerShape) -> int | None:
    try:
        return id_or_none(customer.get("id"), "id")
    except Unreadable as fault:
        raise fault.within("customer") from None


def _read_lines(lines: Sequence[LineShape], currency: str) -> list[OrderLine]:
    read = [_read_line(line, place, currency) for place, line in enumerate(lines)]
    ids = [line.line_id for line in read]
    if len(set(ids)) < len(ids):
        raise Unreadable("line_items", ids, "lines with an id each of its own")
    return read


def _find_variants(lines: Sequence[LineShape]) -> dict[int, int]:
    """Return the variant of each line that is of one, by the line's id. The lines are read already."""
    return {
        line.id: line.variant_id
        for line in lines
        if type(line.variant_id) is int and 0 < line.variant_id <= LARGEST_ID
    }


def _read_line(line: LineShape, place: int, currency: str) -> OrderLine:
    try:
        quantity = as_count(line.quantity, "quantity")
        if quantity < 0:
            raise Unreadable("quantity", quantity, "zero or more")
        return OrderLine(
            as_id(line.id, "id"),
            text_or_empty(line.sku),
            text_or_empty(line.title),
            quantity,
            as_money(line.price, "price", currency),
            read_discount(line, currency),
            line.taxable is not False,
            line.gift_card is True,
            taxes_json(read_taxes(line.tax_lines, currency)) if line.tax_lines else None,
            id_or_none(line.product_id, "product_id"),
            (find_staff(line.properties) if line.properties else "")
            or (find_attributed(line.attributed_staffs) if line.attributed_staffs else ""),
        )
    except Unreadable as fault:
        raise fault.within(f"line_items[{place}]") from None
