"""The parts of a Shopify order that are decoded; msgspec skips all others."""

from typing import Any, TypedDict

import msgspec


class LinePayload(msgspec.Struct, gc=False):
    """A decoded line, see ``OrderPayload``."""

    id: Any = None
    sku: Any = None
    title: Any = None
    quantity: Any = None
    price: Any = None
    total_discount: Any = None
    discount_allocations: Any = None
    taxable: Any = None
    gift_card: Any = None
    tax_lines: Any = None
    product_id: Any = None
    variant_id: Any = None
    properties: Any = None
    attributed_staffs: Any = None
    current_quantity: Any = None
    is_removed: Any = None
    requires_shipping: Any = None
    tip_payment_gateway: Any = None
    tip_payment_method: Any = None


class _CustomerPayload(TypedDict, total=False):
    """The fields of a customer that are decoded; an absent key stays absent."""

    id: Any
    first_name: Any
    last_name: Any
    email: Any
    phone: Any
    updated_at: Any
    tax_exempt: Any


class _AddressPayload(TypedDict, total=False):
    """The fields of an address that are decoded."""

    country_code: Any
    country: Any
    province_code: Any
    province: Any


class OrderPayload(msgspec.Struct, gc=False):
    """The fields of an order that are decoded; all others are skipped. None: absent or null.

    A payload of 4 kB has 200 fields, of which 30 are used: decoding only those takes 40% of the time. Only
    lists and objects are checked here; ``parse_order`` checks the other types.
    """

    line_items: list[LinePayload]
    id: Any = None
    admin_graphql_api_id: Any = None
    name: Any = None
    currency: Any = None
    presentment_currency: Any = None
    created_at: Any = None
    processed_at: Any = None
    updated_at: Any = None
    cancelled_at: Any = None
    financial_status: Any = None
    fulfillment_status: Any = None
    total_price: Any = None
    subtotal_price: Any = None
    total_tax: Any = None
    total_discounts: Any = None
    total_shipping_price_set: Any = None
    shipping_lines: Any = None
    taxes_included: Any = None
    tax_lines: Any = None
    tax_exempt: Any = None
    test: Any = None
    total_tip_received: Any = None
    duties_included: Any = None
    original_total_duties_set: Any = None
    current_total_duties_set: Any = None
    original_total_additional_fees_set: Any = None
    current_total_additional_fees_set: Any = None
    total_cash_rounding_payment_adjustment_set: Any = None
    total_cash_rounding_refund_adjustment_set: Any = None
    note_attributes: Any = None
    user_id: Any = None
    location_id: Any = None
    customer: _CustomerPayload | None = None
    shipping_address: _AddressPayload | None = None
    billing_address: _AddressPayload | None = None
