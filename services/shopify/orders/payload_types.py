"""The parts of a Shopify order that are decoded; msgspec skips all others.

A payload of 4 kB has 200 fields, of which 30 are used: decoding only those takes 40% of the time. Only lists
and objects are checked here; ``parse_order`` checks the other types. In a line and an order None is an absent
or a null field; in a customer and an address an absent key stays absent.
"""

from typing import Any, TypedDict

import msgspec


def _fields(names: str) -> list[tuple[str, Any, Any]]:
    return [(name, Any, None) for name in names.split()]


LinePayload = msgspec.defstruct(
    "LinePayload",
    _fields("""
        id sku title quantity price total_discount discount_allocations taxable gift_card tax_lines product_id
        variant_id properties attributed_staffs current_quantity is_removed requires_shipping
        tip_payment_gateway tip_payment_method
    """),
    gc=False,
)

_CUSTOMER = "id first_name last_name email phone updated_at tax_exempt"
_ADDRESS = "country_code country province_code province"
_CustomerPayload = TypedDict("_CustomerPayload", dict.fromkeys(_CUSTOMER.split(), Any), total=False)  # type: ignore[misc]
_AddressPayload = TypedDict("_AddressPayload", dict.fromkeys(_ADDRESS.split(), Any), total=False)  # type: ignore[misc]

OrderPayload = msgspec.defstruct(
    "OrderPayload",
    [
        ("line_items", list[LinePayload]),  # type: ignore[valid-type]
        *_fields("""
            id admin_graphql_api_id name currency presentment_currency created_at processed_at updated_at
            cancelled_at financial_status fulfillment_status total_price subtotal_price total_tax
            total_discounts total_shipping_price_set shipping_lines taxes_included tax_lines tax_exempt test
            total_tip_received duties_included original_total_duties_set current_total_duties_set
            original_total_additional_fees_set current_total_additional_fees_set
            total_cash_rounding_payment_adjustment_set total_cash_rounding_refund_adjustment_set
            note_attributes user_id location_id
        """),
        ("customer", _CustomerPayload | None, None),
        ("shipping_address", _AddressPayload | None, None),
        ("billing_address", _AddressPayload | None, None),
    ],
    gc=False,
)
