"""Converts orders and their parts, as Shopify's GraphQL returns them, to webhook payloads. Pure.

A missed webhook is recorded as if it had come: in the REST shape that the handlers parse, money in the shop's
currency, ids as whole numbers. Only the modules of this package know GraphQL's shape.
Sources: the 2026-07 schema of the Admin API, and the sample payloads of the same version.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

import orjson

from services.core.fields import find_object
from services.providers.delivery import find_instant

Node = Mapping[str, Any]
"""An object of a GraphQL answer."""

FULFILLMENT_STATUS = {"FULFILLED": "fulfilled", "PARTIALLY_FULFILLED": "partial", "RESTOCKED": "restocked"}
"""An order's; every other display status is null in REST: nothing of it was sent."""

SHIPMENT_STATUS = {
    status: status.lower()
    for status in (
        "ATTEMPTED_DELIVERY", "CONFIRMED", "DELAYED", "DELIVERED", "FAILURE", "IN_TRANSIT",
        "LABEL_PRINTED", "LABEL_PURCHASED", "OUT_FOR_DELIVERY", "READY_FOR_PICKUP",
    )
}  # fmt: skip
"""A fulfilment's; the others (``FULFILLED``, ``SUBMITTED``...) are not about the parcel: null in REST."""


class PulledEvent(NamedTuple):
    """An object of one of Shopify's lists as a webhook. ``gid`` is the object's."""

    topic: str
    gid: str
    body: Mapping[str, Any]
    occurred_at: datetime | None


def make_event(topic: str, node: Node, body: Mapping[str, Any], at: str = "updatedAt") -> PulledEvent:
    """Return ``node`` as an event of ``topic``; its time is the field ``at``."""
    return PulledEvent(topic, node["id"], body, find_instant(node[at]))


def number_of(gid: str | None) -> int:
    """Return the id at the end of ``gid://shopify/Order/123`` as a whole number; 0 where there is none.

    The ids of refund line items and inventory levels have a query after the number.
    """
    number = (gid or "").partition("?")[0].rpartition("/")[2]
    return int(number) if number.isdecimal() else 0


def ids_of(node: Node) -> dict[str, Any]:
    """Return the id of ``node`` as REST has it: the number, and the GraphQL id."""
    return {"id": number_of(node["id"]), "admin_graphql_api_id": node["id"]}


def id_of(node: Node, name: str) -> int | None:
    """Return the id of the object ``name`` as a whole number; None where there is no such object."""
    return number_of(find_object(node, name).get("id")) or None


def pick(node: Node, *names: str) -> dict[str, Any]:
    """Return the fields with these REST names: ``created_at`` is GraphQL's ``createdAt``."""
    return {name: node[_camel(name)] for name in names}


def pick_amounts(node: Node, *names: str) -> dict[str, str | None]:
    """Return amounts in the shop's currency by REST name: ``total_price`` is in ``totalPriceSet``."""
    return {name: amount_of(node, f"{_camel(name)}Set") for name in names}


def pick_sets(node: Node, *names: str) -> dict[str, dict[str, Any] | None]:
    """Return money bags by REST name, with the shop's own currency alone; None where there is none."""
    return {name: money_set_of(node, _camel(name)) for name in names}


@cache
def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def money_set_of(node: Node, name: str) -> dict[str, Any] | None:
    """Return the money bag ``name`` with the shop's own currency alone; None where there is none."""
    money = find_object(find_object(node, name), "shopMoney")
    if not money:
        return None
    return {"shop_money": {"amount": money["amount"], "currency_code": money["currencyCode"]}}


def amount_of(node: Node, name: str) -> str | None:
    """Return the decimal text of the money bag ``name`` in the shop's currency; None where there is none."""
    amount = find_object(find_object(node, name), "shopMoney").get("amount")
    return amount if isinstance(amount, str) else None


def moved_of(node: Node, name: str) -> Node:
    """Return the amount and currency that moved, the buyer's in a foreign sale; empty where there is none."""
    bag = find_object(node, name)
    return find_object(bag, "presentmentMoney") or find_object(bag, "shopMoney")


def order_event(order: Node) -> PulledEvent:
    """Return ``orders/updated`` for an order of ``READ_ORDER`` with all its lines."""
    rounding = find_object(order, "totalCashRoundingAdjustment")
    body = {
        **ids_of(order),
        **pick(order, "name", "created_at", "processed_at", "updated_at", "cancelled_at", "test",
               "tax_exempt", "taxes_included", "duties_included"),
        "currency": order["currencyCode"],
        "presentment_currency": order["presentmentCurrencyCode"],
        "financial_status": (order["displayFinancialStatus"] or "").lower() or None,
        "fulfillment_status": FULFILLMENT_STATUS.get(order["displayFulfillmentStatus"]),
        **pick_amounts(order, "total_price", "subtotal_price", "total_tax", "total_discounts",
                       "total_tip_received"),
        **pick_sets(order, "total_shipping_price_set", "original_total_duties_set",
                    "current_total_duties_set", "original_total_additional_fees_set",
                    "current_total_additional_fees_set"),
        "total_cash_rounding_payment_adjustment_set": money_set_of(rounding, "paymentSet"),
        "total_cash_rounding_refund_adjustment_set": money_set_of(rounding, "refundSet"),
        "tax_lines": _taxes(order["taxLines"]),
        "location_id": id_of(order, "retailLocation"),
        "customer": _customer(order.get("customer")),
        "shipping_address": _address(order.get("shippingAddress")),
        "billing_address": _address(order.get("billingAddress")),
        "note_attributes": _attributes(order["customAttributes"]),
        "line_items": [_line(line) for line in order["lineItems"]["nodes"]],
        "shipping_lines": [_shipping_line(line) for line in order["shippingLines"]["nodes"]],
    }  # fmt: skip
    return make_event("orders/updated", order, body)


def transaction_event(transaction: Node, order_gid: str) -> PulledEvent:
    """Return ``order_transactions/create`` for a transaction of the order ``order_gid``."""
    at = "processedAt" if transaction.get("processedAt") else "createdAt"
    return make_event("order_transactions/create", transaction, _transaction(transaction, order_gid), at)


def fulfillment_event(fulfillment: Node, order_gid: str, *, is_known: bool) -> PulledEvent:
    """Return ``fulfillments/update``, or ``fulfillments/create`` for an unknown one."""
    body = {
        **ids_of(fulfillment),
        "order_id": number_of(order_gid),
        "status": fulfillment["status"].lower(),
        "shipment_status": SHIPMENT_STATUS.get(fulfillment["displayStatus"] or ""),
        "location_id": id_of(fulfillment, "location"),
        **pick(fulfillment, "created_at", "updated_at"),
        "line_items": [{"quantity": fulfillment["totalQuantity"]}],
    }
    return make_event("fulfillments/update" if is_known else "fulfillments/create", fulfillment, body)


def refund_event(refund: Node, order_gid: str) -> PulledEvent:
    """Return ``refunds/create`` for a refund of ``READ_REFUND`` with all its lines."""
    body = {
        **ids_of(refund),
        "order_id": number_of(order_gid),
        **pick(refund, "created_at", "processed_at"),
        "total_duties_set": _duties(refund),
        "refund_line_items": [_refund_line(line) for line in refund["refundLineItems"]["nodes"]],
        "refund_shipping_lines": [
            pick_sets(line, "subtotal_amount_set", "tax_amount_set")
            for line in refund["refundShippingLines"]["nodes"]
        ],
        "order_adjustments": [
            {  # without a kind: refunded shipping is a line of the refund
                "id": number_of(one["id"]) or None,
                "reason": one["reason"],
                **pick_sets(one, "amount_set", "tax_amount_set"),
            }
            for one in refund["orderAdjustments"]["nodes"]
        ],
        "transactions": [_transaction(paid, order_gid) for paid in refund["transactions"]["nodes"]],
    }
    return make_event("refunds/create", refund, body, "createdAt")


def _line(line: Node) -> dict[str, Any]:
    return {
        **ids_of(line),
        **pick(line, "sku", "title", "quantity", "current_quantity", "taxable", "requires_shipping"),
        "price": amount_of(line, "originalUnitPriceSet"),
        "total_discount": amount_of(line, "totalDiscountSet"),
        "gift_card": line["isGiftCard"],
        "product_id": id_of(line, "product"),
        "variant_id": id_of(line, "variant"),
        "properties": _attributes(line["customAttributes"]),
        "tax_lines": _taxes(line["taxLines"]),
        "discount_allocations": [
            {
                "amount": amount_of(share, "allocatedAmountSet"),
                "amount_set": money_set_of(share, "allocatedAmountSet"),
            }
            for share in line["discountAllocations"]
        ],
    }


def _shipping_line(line: Node) -> dict[str, Any]:
    return {
        "id": number_of(line["id"]),
        **pick(line, "title", "is_removed"),
        "price": amount_of(line, "originalPriceSet"),
        "discounted_price": amount_of(line, "discountedPriceSet"),
        "tax_lines": _taxes(line["taxLines"]),
    }


def _taxes(lines: Sequence[Node]) -> list[dict[str, Any]]:
    return [
        {
            **pick(line, "title", "rate", "channel_liable"),
            "price": amount_of(line, "priceSet"),
            "price_set": money_set_of(line, "priceSet"),
        }
        for line in lines
    ]


def _attributes(attributes: Sequence[Node]) -> list[dict[str, Any]]:
    return [{"name": entry["key"], "value": entry["value"]} for entry in attributes]


def _transaction(transaction: Node, order_gid: str) -> dict[str, Any]:
    money = moved_of(transaction, "amountSet")
    return {
        **ids_of(transaction),
        "order_id": number_of(order_gid),
        "kind": transaction["kind"].lower(),
        "status": transaction["status"].lower(),
        **pick(transaction, "gateway", "created_at", "processed_at", "test"),
        "authorization": transaction.get("authorizationCode"),
        "payment_id": transaction.get("paymentId"),
        "receipt": _receipt(transaction.get("receiptJson")),
        "amount": money.get("amount"),
        "currency": money.get("currencyCode"),
        "amount_set": money_set_of(transaction, "amountSet"),
        "parent_id": id_of(transaction, "parentTransaction"),
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
        "location_id": id_of(line, "location"),
        **pick_sets(line, "subtotal_set", "total_tax_set"),
        "line_item": {"id": number_of(sold["id"]), "sku": sold["sku"], "variant_id": id_of(sold, "variant")},
    }


def _duties(refund: Node) -> dict[str, Any]:
    """Return the money bag of a refund's duties; 0 in the shop's currency where it has none."""
    amounts = [amount_of(duty, "amountSet") for duty in refund["duties"]]
    total = sum((Decimal(amount) for amount in amounts if amount), Decimal(0))
    currency = find_object(find_object(refund, "totalRefundedSet"), "shopMoney").get("currencyCode") or ""
    return {"shop_money": {"amount": format(total, "f"), "currency_code": str(currency)}}


def _customer(customer: Node | None) -> dict[str, Any] | None:
    if not customer:
        return None
    names = ("first_name", "last_name", "email", "phone", "updated_at", "tax_exempt")
    return {"id": int(customer["legacyResourceId"]), **pick(customer, *names)}


def _address(address: Node | None) -> dict[str, Any] | None:
    if not address:
        return None
    code = address["countryCodeV2"]
    return {"country_code": code, **pick(address, "country", "province_code", "province")}
