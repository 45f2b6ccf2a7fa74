"""Bodies of webhooks, made of what Shopify's GraphQL says of the same objects. Pure.

A webhook that never came is entered as if it had: in the REST shape that the effects read, money in the
shop's currency, ids as whole numbers. Told apart from GraphQL's own shape here and nowhere else.
Sources: the 2026-07 schema of the Admin API, and the sample payloads of the same version.
"""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from services.providers.delivery import find_dict, find_instant
from services.shopify.backfill.node_fields import (
    Node,
    amount_of,
    duties_of,
    money_set_of,
    moved_of,
    named_of,
    number_of,
    taxes_of,
)

FULFILLMENT_STATUS = MappingProxyType(
    {"FULFILLED": "fulfilled", "PARTIALLY_FULFILLED": "partial", "RESTOCKED": "restocked"}
)
"""An order's; every other display status is null in REST: nothing of it was sent."""

SHIPMENT_STATUS = MappingProxyType(
    {
        word: word.lower()
        for word in (
            "ATTEMPTED_DELIVERY", "CONFIRMED", "DELAYED", "DELIVERED", "FAILURE", "IN_TRANSIT",
            "LABEL_PRINTED", "LABEL_PURCHASED", "OUT_FOR_DELIVERY", "READY_FOR_PICKUP",
        )
    }
)  # fmt: skip
"""A fulfilment's; the others (``FULFILLED``, ``SUBMITTED``...) say nothing of the parcel: null in REST."""


class PulledEvent(NamedTuple):
    """What a list of Shopify's says, as the webhook that would have said it. ``gid`` names the object."""

    topic: str
    gid: str
    body: Mapping[str, Any]
    occurred_at: datetime | None


def order_event(order: Node) -> PulledEvent:
    """Return ``orders/updated`` for an order as ``READ_ORDER`` found it, with all its lines."""
    currency, rounding = order["currencyCode"], find_dict(order, "totalCashRoundingAdjustment")
    body = {
        "id": int(order["legacyResourceId"]),
        "admin_graphql_api_id": order["id"],
        "name": order["name"],
        "currency": currency,
        "presentment_currency": order["presentmentCurrencyCode"],
        "created_at": order["createdAt"],
        "processed_at": order["processedAt"],
        "updated_at": order["updatedAt"],
        "test": order["test"],
        "tax_exempt": order["taxExempt"],
        "cancelled_at": order["cancelledAt"],
        "financial_status": (order["displayFinancialStatus"] or "").lower() or None,
        "fulfillment_status": FULFILLMENT_STATUS.get(order["displayFulfillmentStatus"]),
        "taxes_included": order["taxesIncluded"],
        "total_price": amount_of(order, "totalPriceSet"),
        "subtotal_price": amount_of(order, "subtotalPriceSet"),
        "total_tax": amount_of(order, "totalTaxSet"),
        "total_discounts": amount_of(order, "totalDiscountsSet"),
        "total_shipping_price_set": money_set_of(order, "totalShippingPriceSet"),
        "total_tip_received": amount_of(order, "totalTipReceivedSet"),
        "duties_included": order["dutiesIncluded"],
        "original_total_duties_set": money_set_of(order, "originalTotalDutiesSet"),
        "current_total_duties_set": money_set_of(order, "currentTotalDutiesSet"),
        "original_total_additional_fees_set": money_set_of(order, "originalTotalAdditionalFeesSet"),
        "current_total_additional_fees_set": money_set_of(order, "currentTotalAdditionalFeesSet"),
        "total_cash_rounding_payment_adjustment_set": money_set_of(rounding, "paymentSet"),
        "total_cash_rounding_refund_adjustment_set": money_set_of(rounding, "refundSet"),
        "tax_lines": taxes_of(order["taxLines"]),
        "location_id": number_of(find_dict(order, "retailLocation").get("id")) or None,
        "customer": _customer(order.get("customer")),
        "shipping_address": _address(order.get("shippingAddress")),
        "billing_address": _address(order.get("billingAddress")),
        "note_attributes": named_of(order["customAttributes"]),
        "line_items": [_line(line) for line in order["lineItems"]["nodes"]],
        "shipping_lines": [_shipping_line(line) for line in order["shippingLines"]["nodes"]],
    }
    return PulledEvent("orders/updated", order["id"], body, find_instant(order["updatedAt"]))


def transaction_event(transaction: Node, order_gid: str) -> PulledEvent:
    """Return ``order_transactions/create`` for a transaction of the order ``order_gid``."""
    at = transaction.get("processedAt") or transaction.get("createdAt")
    body = _transaction(transaction, order_gid)
    return PulledEvent("order_transactions/create", transaction["id"], body, find_instant(at))


def fulfillment_event(fulfillment: Node, order_gid: str, *, is_known: bool) -> PulledEvent:
    """Return ``fulfillments/update``, or ``fulfillments/create`` for one that we do not know."""
    body = {
        "id": number_of(fulfillment["id"]),
        "admin_graphql_api_id": fulfillment["id"],
        "order_id": number_of(order_gid),
        "status": fulfillment["status"].lower(),
        "shipment_status": SHIPMENT_STATUS.get(fulfillment["displayStatus"] or ""),
        "location_id": number_of(find_dict(fulfillment, "location").get("id")) or None,
        "created_at": fulfillment["createdAt"],
        "updated_at": fulfillment["updatedAt"],
        "line_items": [{"quantity": fulfillment["totalQuantity"]}],
    }
    topic = "fulfillments/update" if is_known else "fulfillments/create"
    return PulledEvent(topic, fulfillment["id"], body, find_instant(fulfillment["updatedAt"]))


def refund_event(refund: Node, order_gid: str) -> PulledEvent:
    """Return ``refunds/create`` for a refund as ``READ_REFUND`` found it, with all its lines."""
    body = {
        "id": int(refund["legacyResourceId"]),
        "admin_graphql_api_id": refund["id"],
        "order_id": number_of(order_gid),
        "created_at": refund["createdAt"],
        "processed_at": refund["processedAt"],
        "total_duties_set": duties_of(refund),
        "refund_line_items": [_refund_line(line) for line in refund["refundLineItems"]["nodes"]],
        "refund_shipping_lines": [
            {
                "subtotal_amount_set": money_set_of(line, "subtotalAmountSet"),
                "tax_amount_set": money_set_of(line, "taxAmountSet"),
            }
            for line in refund["refundShippingLines"]["nodes"]
        ],
        "order_adjustments": [_adjustment(one) for one in refund["orderAdjustments"]["nodes"]],
        "transactions": [_transaction(paid, order_gid) for paid in refund["transactions"]["nodes"]],
    }
    return PulledEvent("refunds/create", refund["id"], body, find_instant(refund["createdAt"]))


def _line(line: Node) -> dict[str, Any]:
    return {
        "id": number_of(line["id"]),
        "admin_graphql_api_id": line["id"],
        "sku": line["sku"],
        "title": line["title"],
        "quantity": line["quantity"],
        "current_quantity": line["currentQuantity"],
        "price": amount_of(line, "originalUnitPriceSet"),
        "total_discount": amount_of(line, "totalDiscountSet"),
        "taxable": line["taxable"],
        "gift_card": line["isGiftCard"],
        "requires_shipping": line["requiresShipping"],
        "product_id": number_of(find_dict(line, "product").get("id")) or None,
        "variant_id": number_of(find_dict(line, "variant").get("id")) or None,
        "properties": named_of(line["customAttributes"]),
        "tax_lines": taxes_of(line["taxLines"]),
        "discount_allocations": [
            {
                "amount": amount_of(part, "allocatedAmountSet"),
                "amount_set": money_set_of(part, "allocatedAmountSet"),
            }
            for part in line["discountAllocations"]
        ],
    }


def _shipping_line(line: Node) -> dict[str, Any]:
    return {
        "id": number_of(line["id"]),
        "title": line["title"],
        "price": amount_of(line, "originalPriceSet"),
        "discounted_price": amount_of(line, "discountedPriceSet"),
        "is_removed": line["isRemoved"],
        "tax_lines": taxes_of(line["taxLines"]),
    }


def _transaction(transaction: Node, order_gid: str) -> dict[str, Any]:
    money = moved_of(transaction, "amountSet")
    return {
        "id": number_of(transaction["id"]),
        "admin_graphql_api_id": transaction["id"],
        "order_id": number_of(order_gid),
        "kind": transaction["kind"].lower(),
        "status": transaction["status"].lower(),
        "gateway": transaction["gateway"],
        "authorization": transaction.get("authorizationCode"),
        "payment_id": transaction.get("paymentId"),
        "receipt": _receipt(transaction.get("receiptJson")),
        "created_at": transaction["createdAt"],
        "processed_at": transaction["processedAt"],
        "amount": money.get("amount"),
        "currency": money.get("currencyCode"),
        "amount_set": money_set_of(transaction, "amountSet"),
        "test": transaction["test"],
        "parent_id": number_of(find_dict(transaction, "parentTransaction").get("id")) or None,
    }


def _receipt(receipt: object) -> dict[str, Any]:
    """Return a gateway's receipt. The scalar ``JSON`` is text in some answers, an object in others."""
    if isinstance(receipt, str):
        try:
            receipt = orjson.loads(receipt)
        except orjson.JSONDecodeError:
            return {}
    return receipt if isinstance(receipt, dict) else {}


def _refund_line(line: Node) -> dict[str, Any]:
    sold = line["lineItem"]
    return {
        "id": number_of(line["id"]) or None,
        "line_item_id": number_of(sold["id"]),
        "quantity": line["quantity"],
        "restock_type": line["restockType"].lower(),
        "location_id": number_of(find_dict(line, "location").get("id")) or None,
        "subtotal_set": money_set_of(line, "subtotalSet"),
        "total_tax_set": money_set_of(line, "totalTaxSet"),
        "line_item": {
            "id": number_of(sold["id"]),
            "sku": sold["sku"],
            "variant_id": number_of(find_dict(sold, "variant").get("id")) or None,
        },
    }


def _adjustment(one: Node) -> dict[str, Any]:
    """Return an adjustment, its sign as it is. It has no kind: refunded shipping is a line of the refund."""
    return {
        "id": number_of(one["id"]) or None,
        "reason": one["reason"],
        "amount_set": money_set_of(one, "amountSet"),
        "tax_amount_set": money_set_of(one, "taxAmountSet"),
    }


def _customer(customer: Node | None) -> dict[str, Any] | None:
    if not customer:
        return None
    return {
        "id": int(customer["legacyResourceId"]),
        "first_name": customer["firstName"],
        "last_name": customer["lastName"],
        "email": customer["email"],
        "phone": customer["phone"],
        "updated_at": customer["updatedAt"],
        "tax_exempt": customer["taxExempt"],
    }


def _address(address: Node | None) -> dict[str, Any] | None:
    if not address:
        return None
    return {
        "country_code": address["countryCodeV2"],
        "country": address["country"],
        "province_code": address["provinceCode"],
        "province": address["province"],
    }
