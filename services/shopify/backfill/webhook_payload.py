"""Converts orders and their parts, as Shopify's GraphQL returns them, to webhook payloads. Pure.

A missed webhook is recorded in the REST format that the handlers parse, with money in the shop's currency and
ids as whole numbers. Only the modules of this package use the GraphQL format.
Sources: the 2026-07 schema of the Admin API, and the sample payloads of the same version.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from services.core.fields import find_object
from services.providers.delivery import find_instant, parse_object

Node = Mapping[str, Any]
"""An object in a GraphQL answer."""

FULFILLMENT_STATUS = {"FULFILLED": "fulfilled", "PARTIALLY_FULFILLED": "partial", "RESTOCKED": "restocked"}
"""REST status of an order by GraphQL status; every other one is null in REST: nothing was shipped."""

SHIPMENT_STATUS = {
    status: status.lower()
    for status in (
        "ATTEMPTED_DELIVERY", "CONFIRMED", "DELAYED", "DELIVERED", "FAILURE", "IN_TRANSIT",
        "LABEL_PRINTED", "LABEL_PURCHASED", "OUT_FOR_DELIVERY", "READY_FOR_PICKUP",
    )
}  # fmt: skip
"""REST status of a fulfilment's parcel by GraphQL status; others (``FULFILLED``...) are null in REST."""

_REFERENCES = {
    "inventoryItem": "inventory_item_id",
    "location": "location_id",
    "parentTransaction": "parent_id",
    "product": "product_id",
    "retailLocation": "location_id",
    "variant": "variant_id",
}
"""The objects of which REST has only the id."""

_NAMES = {
    "allocatedAmountSet": "amount_set",
    "countryCodeV2": "country_code",
    "currencyCode": "currency",
    "defaultEmailAddress": "email",
    "defaultPhoneNumber": "phone",
    "displayFinancialStatus": "financial_status",
    "isActive": "active",
    "isGiftCard": "gift_card",
    "originalPriceSet": "price_set",
    "originalUnitPriceSet": "price_set",
    "presentmentCurrencyCode": "presentment_currency",
    **_REFERENCES,
}
"""The REST names of fields that are named differently."""

_CONTACTS = {"defaultEmailAddress": "emailAddress", "defaultPhoneNumber": "phoneNumber"}
"""The objects that are one text in REST, with the field of the text."""

_ENUMS = frozenset({"displayFinancialStatus", "kind", "restockType", "status"})
"""Fields that are lower case in REST."""

_CONVERTED_SEPARATELY = frozenset(
    {
        "address", "customAttributes", "displayFulfillmentStatus", "displayStatus", "duties", "fulfillments",
        "legacyResourceId", "receiptJson", "refunds", "totalCashRoundingAdjustment", "totalQuantity",
        "totalRefundedSet", "transactions", "unitCost",
    }
)  # fmt: skip
"""Fields of another format in REST, and the parts of an order, which are separate events."""


class PulledEvent(NamedTuple):
    """An object of one of Shopify's lists as a webhook. ``gid`` is the object's."""

    topic: str
    gid: str
    body: Mapping[str, Any]
    occurred_at: datetime | None


def make_pulled_event(topic: str, node: Node, body: Mapping[str, Any], at: str = "updatedAt") -> PulledEvent:
    return PulledEvent(topic, node["id"], body, find_instant(node[at]))


def number_of(gid: str | None) -> int:
    """Return the id at the end of ``gid://shopify/Order/123`` as a whole number; 0 without one.

    The ids of refund line items and inventory levels have a query after the number.
    """
    number = (gid or "").partition("?")[0].rpartition("/")[2]
    return int(number) if number.isdecimal() else 0


def ids_of(node: Node) -> dict[str, Any]:
    """Return the two ids of ``node`` in REST: the number, and the GraphQL id."""
    return {"id": number_of(node["id"]), "admin_graphql_api_id": node["id"]}


def id_of(node: Node, name: str) -> int | None:
    """Return the id of the object ``name`` as a whole number; None without the object."""
    return number_of(find_object(node, name).get("id")) or None


def to_rest(node: Node) -> dict[str, Any]:
    """Return a GraphQL object in REST format, by the rules that all entities share.

    ``createdAt`` becomes ``created_at``; an id becomes a number and ``admin_graphql_api_id``; a money bag
    ``priceSet`` becomes ``price`` and ``price_set``, in the shop's currency; a connection becomes a list.
    """
    body: dict[str, Any] = {}
    for field, value in node.items():
        name = _NAMES.get(field) or _to_snake_case(field)
        if field in _CONVERTED_SEPARATELY:
            continue
        if field == "id":
            body |= {"id": number_of(value) or None, "admin_graphql_api_id": value}
        elif field in _REFERENCES:
            body[name] = id_of(node, field)
        elif field in _CONTACTS:
            body[name] = find_object(node, field).get(_CONTACTS[field])
        elif field.endswith("Set"):
            body |= {name.removesuffix("_set"): amount_of(node, field), name: money_set_of(node, field)}
        elif field in _ENUMS:
            body[name] = value.lower() if value else None
        elif isinstance(value, Mapping):
            body[name] = list(map(to_rest, value["nodes"])) if "nodes" in value else to_rest(value)
        elif isinstance(value, list):
            body[name] = [to_rest(one) if isinstance(one, Mapping) else one for one in value]
        else:
            body[name] = value
    return body


@cache
def _to_snake_case(field: str) -> str:
    return re.sub("(?=[A-Z])", "_", field).lower()


def money_set_of(node: Node, name: str) -> dict[str, Any] | None:
    """Return the money bag ``name`` with only the shop's own currency; None without a bag."""
    money = find_object(find_object(node, name), "shopMoney")
    if not money:
        return None
    return {"shop_money": {"amount": money["amount"], "currency_code": money["currencyCode"]}}


def amount_of(node: Node, name: str) -> str | None:
    """Return the amount of the money bag ``name`` in the shop's currency as text; None without a bag."""
    amount = find_object(find_object(node, name), "shopMoney").get("amount")
    return amount if isinstance(amount, str) else None


def paid_money_of(node: Node, name: str) -> Node:
    """Return the amount and currency of a payment, the buyer's in a foreign sale; empty without one."""
    bag = find_object(node, name)
    return find_object(bag, "presentmentMoney") or find_object(bag, "shopMoney")


def order_event(order: Node) -> PulledEvent:
    """Return ``orders/updated`` for an order of ``READ_ORDER`` with all its lines."""
    rounding = find_object(order, "totalCashRoundingAdjustment")
    body = {
        **to_rest(order),
        "fulfillment_status": FULFILLMENT_STATUS.get(order["displayFulfillmentStatus"]),
        "total_cash_rounding_payment_adjustment_set": money_set_of(rounding, "paymentSet"),
        "total_cash_rounding_refund_adjustment_set": money_set_of(rounding, "refundSet"),
        "note_attributes": _list_attributes(order),
        "line_items": [
            {**to_rest(line), "properties": _list_attributes(line)} for line in order["lineItems"]["nodes"]
        ],
    }
    return make_pulled_event("orders/updated", order, body)


def transaction_event(transaction: Node, order_gid: str) -> PulledEvent:
    at = "processedAt" if transaction.get("processedAt") else "createdAt"
    return make_pulled_event(
        "order_transactions/create", transaction, _transaction_body(transaction, order_gid), at
    )


def fulfillment_event(fulfillment: Node, order_gid: str, *, is_known: bool) -> PulledEvent:
    body = {
        **to_rest(fulfillment),
        "order_id": number_of(order_gid),
        "shipment_status": SHIPMENT_STATUS.get(fulfillment["displayStatus"] or ""),
        "line_items": [{"quantity": fulfillment["totalQuantity"]}],
    }
    return make_pulled_event("fulfillments/update" if is_known else "fulfillments/create", fulfillment, body)


def refund_event(refund: Node, order_gid: str) -> PulledEvent:
    """Return ``refunds/create`` for a refund of ``READ_REFUND`` with all its lines.

    An adjustment has no kind: refunded shipping is a line of the refund.
    """
    body = {
        **to_rest(refund),
        "order_id": number_of(order_gid),
        "total_duties_set": _sum_duties(refund),
        "refund_line_items": [
            {**to_rest(line), "line_item_id": number_of(line["lineItem"]["id"])}
            for line in refund["refundLineItems"]["nodes"]
        ],
        "transactions": [_transaction_body(paid, order_gid) for paid in refund["transactions"]["nodes"]],
    }
    return make_pulled_event("refunds/create", refund, body, "createdAt")


def _list_attributes(node: Node) -> list[dict[str, Any]]:
    return [{"name": entry["key"], "value": entry["value"]} for entry in node["customAttributes"]]


def _transaction_body(transaction: Node, order_gid: str) -> dict[str, Any]:
    money = paid_money_of(transaction, "amountSet")
    return {
        **to_rest(transaction),
        "order_id": number_of(order_gid),
        "receipt": _parse_receipt(transaction.get("receiptJson")),
        "amount": money.get("amount"),
        "currency": money.get("currencyCode"),
    }


def _parse_receipt(receipt: object) -> dict[str, Any]:
    """Return a gateway's receipt. The scalar ``JSON`` is text in some answers and an object in others."""
    if isinstance(receipt, str):
        return parse_object(receipt.encode()) or {}
    return receipt if isinstance(receipt, dict) else {}


def _sum_duties(refund: Node) -> dict[str, Any]:
    """Return the money bag of a refund's duties; 0 in the shop's currency without duties."""
    amounts = [amount_of(duty, "amountSet") for duty in refund["duties"]]
    total = sum((Decimal(amount) for amount in amounts if amount), Decimal(0))
    currency = find_object(find_object(refund, "totalRefundedSet"), "shopMoney").get("currencyCode") or ""
    return {"shop_money": {"amount": format(total, "f"), "currency_code": str(currency)}}
