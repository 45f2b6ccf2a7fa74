"""What we take from a Shopify order: picked fields, checked, nothing else. Pure."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple

import orjson

from services.core.fields import LARGEST_ID, Unreadable, as_id, as_instant, as_text, text_or_empty
from services.ledger.work import WorkItem
from services.shopify.event_payload import WrongBody, check_kind
from services.shopify.orders.conversion import find_conversion
from services.shopify.orders.customer_payload import Customer, describes_customer, read_customer
from services.shopify.orders.line_payload import OrderLine, mark_tips, read_lines, share_taxes
from services.shopify.orders.payload_parts import (
    find_staff,
    read_shipping,
    read_taxes,
    taxes_json,
    user_label,
)
from services.shopify.orders.schema import CustomerPayload, LinePayload, OrderPayload, decode_order
from services.shopify.payload_fields import (
    find_province,
    id_or_none,
    order_gid,
    shop_money_or_none,
    take_money,
    take_money_or_none,
)

_PROGRESS = {
    status: place
    for place, status in enumerate(
        ("pending", "authorized", "partially_paid", "paid", "partially_refunded", "refunded", "expired",
         "voided"), start=1,
    )
}  # fmt: skip
_FULFILLED = {"partial": 1, "fulfilled": 2, "restocked": 3}
_GENERATION = "h"
"""Leads every digest: beyond any hexadecimal digit, so that an order whose row was written before all of its
parts were taken is written once more when the same state is received again."""

OrderVersion = tuple[datetime, bool, int, int, int, str]
"""What makes one state of an order newer than another; see ``order_version``."""


class Order(NamedTuple):
    """One state of an order, as one event told it. Money is in the shop's currency, not the buyer's.

    ``variant_ids`` has a line's variant by the line's id; absent where the body does not state it. None in
    ``subtotal_cents`` and its neighbours: the event did not say. ``shipping_taxes`` is JSON. ``doubts`` names
    each field that was not as it should be, and what is recorded. From ``total_cents`` on stands all that is
    kept of it, and what ``content_digest`` is of.
    """

    shop_id: int
    work_id: int
    event_id: int | None
    request_id: str
    updated_at: datetime
    version: OrderVersion
    customer: Customer | None
    doubts: tuple[str, ...]
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
    is_test: bool
    is_tax_exempt: bool
    tip_cents: int
    duties_cents: int
    rounding_cents: int
    refund_rounding_cents: int
    duties_included: bool
    current_duties_cents: int | None
    additional_fees_cents: int
    current_additional_fees_cents: int | None
    conversion_cents: int

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
) -> OrderVersion:
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


def parse_order(item: WorkItem) -> Order:
    """Return the order that ``item``'s event tells of; raise ``Unreadable`` naming the field.

    Only id, currency, total, times and lines must be there; all else may be absent.
    """
    source = decode_order(item.body)
    gid = text_or_empty(source.admin_graphql_api_id)
    check_kind(item.event_topic, "Order", gid)
    currency, doubts = as_text(source.currency, "currency"), list[str]()
    total_cents = take_money(source.total_price, "total_price", currency, doubts)
    if not gid and source.financial_status is None:  # a checkout has all else that an order has
        raise WrongBody("the body", "one without financial_status", f"that of {item.event_topic}")
    financial_status = text_or_empty(source.financial_status)
    fulfillment_status = text_or_empty(source.fulfillment_status)
    cancelled_at = None if source.cancelled_at is None else as_instant(source.cancelled_at, "cancelled_at")
    updated_at = as_instant(source.updated_at, "updated_at")
    placed_at = as_instant(source.created_at, "created_at")
    if source.processed_at is not None and source.processed_at != source.created_at:
        placed_at = as_instant(source.processed_at, "processed_at")
    customer = source.customer
    customer_id = _find_customer_id(customer) if customer else None
    lines, shipping_cents, shipping_taxes, tip_cents = _read_priced(source, currency, doubts)
    discount_cents = take_money_or_none(source.total_discounts, "total_discounts", currency, doubts)
    duties_cents = _find_set(source, "original_total_duties_set", currency, doubts) or 0
    fees_cents = _find_set(source, "original_total_additional_fees_set", currency, doubts) or 0
    conversion_cents = 0
    if source.presentment_currency not in (None, currency):
        conversion_cents = find_conversion(
            total_cents,
            lines,
            shipping_cents or 0,
            shipping_taxes,
            discount_cents or 0,
            tip_cents
            - sum(line.net_cents for line in lines if line.is_tip)
            + (0 if source.duties_included is True else duties_cents)
            + fees_cents,
            taxes_included=source.taxes_included is True,
        )
    kept = (
        gid or order_gid(as_id(source.id, "id")),
        text_or_empty(source.name),
        currency,
        placed_at,
        lines,
        take_money_or_none(source.subtotal_price, "subtotal_price", currency, doubts),
        take_money_or_none(source.total_tax, "total_tax", currency, doubts),
        shipping_cents,
        discount_cents,
        source.taxes_included is True,
        shipping_taxes,
        customer_id,
        find_staff(source.note_attributes) or user_label(id_or_none(source.user_id, "user_id")),
        _find_place_of_supply(source),
        id_or_none(source.location_id, "location_id"),
        source.test is True,
        source.tax_exempt is True or bool(customer and customer.get("tax_exempt") is True),
        tip_cents,
        duties_cents,
        _find_set(source, "total_cash_rounding_payment_adjustment_set", currency, doubts) or 0,
        _find_set(source, "total_cash_rounding_refund_adjustment_set", currency, doubts) or 0,
        source.duties_included is True,
        _find_set(source, "current_total_duties_set", currency, doubts),
        fees_cents,
        _find_set(source, "current_total_additional_fees_set", currency, doubts),
        conversion_cents,
    )
    told = (total_cents, financial_status, fulfillment_status, cancelled_at)
    digest = _GENERATION + blake2b(orjson.dumps((kept, told), default=tuple), digest_size=8).hexdigest()
    return Order(
        item.shop_id,
        item.id,
        item.event_id,
        item.request_id,
        updated_at,
        order_version(updated_at, cancelled_at, financial_status, fulfillment_status, total_cents, digest),
        read_customer(customer, updated_at)
        if customer and customer_id and describes_customer(customer)
        else None,
        tuple(doubts),
        _find_variants(source.line_items),
        *(*told, *kept),
    )


def _read_priced(
    source: OrderPayload, currency: str, doubts: list[str]
) -> tuple[list[OrderLine], int | None, str | None, int]:
    """Return the lines, the price of shipping, the taxes on it as JSON, and the tip."""
    lines = read_lines(source.line_items, currency, doubts)
    stated = take_money_or_none(source.total_tip_received, "total_tip_received", currency, doubts) or 0
    lines = mark_tips(lines, stated) if stated else lines
    tip_cents = max(stated, sum(line.net_cents for line in lines if line.is_tip))
    shipping_cents, taxes = read_shipping(
        source.total_shipping_price_set, source.shipping_lines, currency, doubts
    )
    if source.tax_lines and not taxes and not any(line.taxes for line in lines):
        of_order = read_taxes(source.tax_lines, currency, doubts)
        lines, shipping_taxes = share_taxes(lines, shipping_cents or 0, of_order)
        return lines, shipping_cents, shipping_taxes, tip_cents
    return lines, shipping_cents, taxes_json(taxes), tip_cents


def _find_set(source: OrderPayload, name: str, currency: str, doubts: list[str]) -> int | None:
    """Return the amount of a money bag in the shop's currency; None where there is none."""
    return shop_money_or_none(getattr(source, name), name, currency, doubts)


def _find_place_of_supply(source: OrderPayload) -> str:
    """Return the province of the shipping address; empty where the goods are handed over in the shop.

    The billing address says where a buyer lives: it counts only where there is nothing to hand over.
    """
    if source.shipping_address and (province := find_province(source.shipping_address)):
        return province
    if source.location_id is not None or any(line.requires_shipping is True for line in source.line_items):
        return ""
    return find_province(source.billing_address or {})


def _find_customer_id(customer: CustomerPayload) -> int | None:
    try:
        return id_or_none(customer.get("id"), "id")
    except Unreadable as fault:
        raise fault.within("customer") from None


def _find_variants(lines: Sequence[LinePayload]) -> dict[int, int]:
    """Return the variant of each line that is of one, by the line's id. The lines are read already."""
    return {
        line.id: line.variant_id
        for line in lines
        if type(line.variant_id) is int and 0 < line.variant_id <= LARGEST_ID
    }
