"""Parses a Shopify order into ``Order``. Pure.

Source: https://shopify.dev/docs/api/admin-rest/latest/resources/order
"""

from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec
import orjson
from msgspec.structs import astuple

from services.core.fields import (
    LARGEST_ID,
    Unreadable,
    as_id,
    as_instant,
    as_text,
    id_or_none,
    read_list,
    read_object,
    text_or_empty,
)
from services.ledger.work import WorkItem
from services.shopify.entities import rank_values
from services.shopify.orders.customers import Customer, describes_customer, parse_customer
from services.shopify.orders.line_payload import OrderLine, find_staff, format_staff, load_taxes, parse_priced
from services.shopify.orders.payload_types import OrderPayload
from services.shopify.payload import MoneyReader, WrongBody, check_gid_type, find_province, order_gid

OrderKey = tuple[int, str]
"""(shop, order gid)."""

_FINANCIAL_RANK = rank_values(
    "pending", "authorized", "partially_paid", "paid", "partially_refunded", "refunded", "expired", "voided"
)
_FULFILLMENT_RANK = rank_values("partial", "fulfilled", "restocked")
_GENERATION = "h"
"""The first character of every digest. It is greater than any hexadecimal digit, so an order whose row was
written before all its parts were recorded is written again when the same state is received."""


class Order(msgspec.Struct, kw_only=True):
    """The state of an order in one event. Money is in the shop's currency, not the buyer's.

    ``version`` is of ``order_version``. ``variant_ids`` has the variants in the payload by line id.
    ``subtotal_cents``, ``tax_cents``, ``shipping_cents`` and ``discount_cents`` are None if the payload does
    not contain them. ``shipping_taxes`` is JSON. ``doubts`` names each field that is not as documented, and
    the recorded value. ``content_digest`` is of all fields from ``order_gid`` on. A struct: making a named
    tuple of so many keyword arguments and replacing some of them takes 2 us more.
    """

    shop_id: int
    work_id: int
    event_id: int | None
    request_id: str
    updated_at: datetime
    version: tuple[Any, ...] = ()
    content_digest: str = ""
    customer: Customer | None
    doubts: tuple[str, ...] = ()
    variant_ids: dict[int, int]

    order_gid: str
    name: str
    currency: str
    placed_at: datetime
    total_cents: int
    financial_status: str
    fulfillment_status: str
    cancelled_at: datetime | None
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
    conversion_cents: int = 0

    @property
    def key(self) -> OrderKey:
        return self.shop_id, self.order_gid


_decode = msgspec.json.Decoder(OrderPayload).decode
_FIRST_OF_CONTENT = Order.__struct_fields__.index("order_gid")

COMPARED = (
    "name", "financial_status", "currency", "total_cents", "cancelled_at", "placed_at", "fulfillment_status",
    "subtotal_cents", "tax_cents", "shipping_cents", "discount_cents", "customer_id", "content_digest",
)  # fmt: skip
"""The columns of an order's row that are compared with a new state."""


def order_version(order: Any) -> tuple[Any, ...]:
    """Return the sort key of a state of an order (a row or an ``Order``): its time, then its status.

    Shopify's times are whole seconds, and a new order is often created and paid in the same second. Then
    cancelled wins over open, and a later status over an earlier one. If all of these are equal the digest
    decides, so two different states never have the same version.
    """
    return (
        order.updated_at,
        order.cancelled_at is not None,
        _FINANCIAL_RANK.get(order.financial_status, 0),
        _FULFILLMENT_RANK.get(order.fulfillment_status, 0),
        order.total_cents,
        order.content_digest,
    )


def _decode_order(body: bytes) -> Any:
    """Return the order in ``body``; raise ``Unreadable`` naming the field of a wrong type."""
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        source = read_object(body)
        read_list(source, "line_items")
        for name in ("customer", "shipping_address", "billing_address"):
            if source.get(name) is not None and type(source[name]) is not dict:
                raise Unreadable(name, source[name], "an object") from None
        raise Unreadable("the body", body[:40], f"an order ({fault})") from None


def parse_order(item: WorkItem) -> Order:
    """Return the order in ``item``'s event; raise ``Unreadable`` naming the field.

    Only id, currency, total, times and lines are required.
    """
    source = _decode_order(item.body)
    check_gid_type(item.event_topic, "Order", text_or_empty(source.admin_graphql_api_id))
    with MoneyReader(as_text(source.currency, "currency")) as money:
        order = _parse(item, source, money)
    if source.presentment_currency not in (None, money.currency):
        order.conversion_cents = _find_conversion(order)
    content = astuple(order)[_FIRST_OF_CONTENT:]
    digest = blake2b(orjson.dumps(content, default=tuple), digest_size=8).hexdigest()
    order.content_digest = _GENERATION + digest
    order.version, order.doubts = order_version(order), tuple(money.doubts)
    return order


def _parse(item: WorkItem, source: Any, money: MoneyReader) -> Order:
    """Return the order without its digest, its version, its doubts and the rounding of a conversion."""
    gid = text_or_empty(source.admin_graphql_api_id)
    total_cents = money.amount(source.total_price, "total_price")
    if not gid and source.financial_status is None:  # a checkout has all other fields of an order
        raise WrongBody("the body", "one without financial_status", f"that of {item.event_topic}")
    updated_at = as_instant(source.updated_at, "updated_at")
    placed_at = as_instant(source.created_at, "created_at")
    if source.processed_at is not None and source.processed_at != source.created_at:
        placed_at = as_instant(source.processed_at, "processed_at")
    customer = source.customer
    customer_id = id_or_none(customer.get("id"), "customer.id") if customer else None
    lines, shipping_cents, shipping_taxes, tip_cents = parse_priced(source, money)

    def parse_set(name: str) -> int | None:
        return money.shop_amount(bag, name) if (bag := getattr(source, name)) else None

    return Order(
        shop_id=item.shop_id,
        work_id=item.id,
        event_id=item.event_id,
        request_id=item.request_id,
        updated_at=updated_at,
        customer=parse_customer(customer, updated_at)
        if customer and customer_id and describes_customer(customer)
        else None,
        variant_ids={  # the ids of the lines are checked already
            line.id: line.variant_id
            for line in source.line_items
            if type(line.variant_id) is int and 0 < line.variant_id <= LARGEST_ID
        },
        order_gid=gid or order_gid(as_id(source.id, "id")),
        name=text_or_empty(source.name),
        currency=money.currency,
        placed_at=placed_at,
        total_cents=total_cents,
        financial_status=text_or_empty(source.financial_status),
        fulfillment_status=text_or_empty(source.fulfillment_status),
        cancelled_at=None if source.cancelled_at is None else as_instant(source.cancelled_at, "cancelled_at"),
        lines=lines,
        subtotal_cents=money.amount_or_none(source.subtotal_price, "subtotal_price"),
        tax_cents=money.amount_or_none(source.total_tax, "total_tax"),
        shipping_cents=shipping_cents,
        discount_cents=money.amount_or_none(source.total_discounts, "total_discounts"),
        taxes_included=source.taxes_included is True,
        shipping_taxes=shipping_taxes,
        customer_id=customer_id,
        staff_label=find_staff(source.note_attributes) or format_staff(id_or_none(source.user_id, "user_id")),
        province=_find_place_of_supply(source),
        location_id=id_or_none(source.location_id, "location_id"),
        is_test=source.test is True,
        is_tax_exempt=source.tax_exempt is True or bool(customer and customer.get("tax_exempt") is True),
        tip_cents=tip_cents,
        duties_cents=parse_set("original_total_duties_set") or 0,
        rounding_cents=parse_set("total_cash_rounding_payment_adjustment_set") or 0,
        refund_rounding_cents=parse_set("total_cash_rounding_refund_adjustment_set") or 0,
        duties_included=source.duties_included is True,
        current_duties_cents=parse_set("current_total_duties_set"),
        additional_fees_cents=parse_set("original_total_additional_fees_set") or 0,
        current_additional_fees_cents=parse_set("current_total_additional_fees_set"),
    )


def _find_conversion(order: Order) -> int:
    """Return the total less the order's parts; 0 if the difference is too large for rounding.

    Shopify converts the total, the price of a piece, and each discount, tax and charge separately, and rounds
    each by at most half a minor unit.
    """
    shipping_cents = order.shipping_cents or 0
    on_lines = sum(line.discount_cents for line in order.lines)
    off_shipping = max(0, min(shipping_cents, (order.discount_cents or 0) - on_lines))
    parts = sum(line.net_cents for line in order.lines if not line.is_tip) + order.tip_cents
    parts += shipping_cents - off_shipping + order.additional_fees_cents
    if not order.duties_included:
        parts += order.duties_cents
    if not order.taxes_included:
        all_taxes = [*(line.taxes for line in order.lines), order.shipping_taxes]
        parts += sum(sum(load_taxes(taxes).values()) for taxes in all_taxes)
    limit = sum(line.quantity + 3 for line in order.lines) // 2 + 4
    difference = order.total_cents - parts
    return difference if abs(difference) <= limit else 0


def _find_place_of_supply(source: Any) -> str:
    """Return the province of the shipping address; empty if the items are handed over in the shop.

    The billing address is the buyer's home: it counts only if nothing is handed over or shipped.
    """
    if source.shipping_address and (province := find_province(source.shipping_address)):
        return province
    if source.location_id is not None or any(line.requires_shipping is True for line in source.line_items):
        return ""
    return find_province(source.billing_address or {})
