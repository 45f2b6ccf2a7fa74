"""What a Shopify webhook's order, refund, transaction or fulfilment looks like through GraphQL. Pure.

Keys are the GraphQL names of ``admin.graphql``. What points to other objects is added by the caller.
"""

from decimal import Decimal
from typing import Any

from services.sandbox.shopify.people import address_node, customer_node, staff_node
from services.sandbox.shopify.values import Node, bag, enum, gid, instant

Body = dict[str, Any]

_FULFILLED = {None: "UNFULFILLED", "partial": "PARTIALLY_FULFILLED"}
_SETS = {
    "totalPriceSet": "total_price",
    "subtotalPriceSet": "subtotal_price",
    "totalTaxSet": "total_tax",
    "totalDiscountsSet": "total_discounts",
    "totalShippingPriceSet": "total_shipping_price",
    "totalOutstandingSet": "total_outstanding",
    "currentTotalPriceSet": "current_total_price",
    "currentSubtotalPriceSet": "current_subtotal_price",
    "totalTipReceivedSet": "total_tip_received",
}
_SETS_OR_NULL = {
    "originalTotalDutiesSet": "original_total_duties_set",
    "currentTotalDutiesSet": "current_total_duties_set",
    "originalTotalAdditionalFeesSet": "original_total_additional_fees_set",
    "currentTotalAdditionalFeesSet": "current_total_additional_fees_set",
}


def order_node(body: Body) -> Node:
    """Return the Order without its refunds, transactions and fulfilments."""
    currency, number = body["currency"], body["id"]
    customer, addresses = body.get("customer"), ("shippingAddress", "billingAddress")
    node: Node = {
        "__typename": "Order",
        "id": gid("Order", number),
        "legacyResourceId": str(number),
        "name": body.get("name") or f"#{number}",
        "number": body.get("order_number") or body.get("number") or 0,
        "note": body.get("note"),
        "tags": [tag.strip() for tag in (body.get("tags") or "").split(",") if tag.strip()],
        "test": bool(body.get("test")),
        "email": body.get("email"),
        "phone": body.get("phone"),
        "createdAt": instant(body["created_at"]),
        "updatedAt": instant(body["updated_at"]),
        "processedAt": instant(body.get("processed_at") or body["created_at"]),
        "closedAt": instant(body.get("closed_at")),
        "cancelledAt": instant(body.get("cancelled_at")),
        "cancelReason": enum(body.get("cancel_reason")),
        "confirmed": body.get("confirmed", True),
        "currencyCode": currency,
        "presentmentCurrencyCode": body.get("presentment_currency") or currency,
        "displayFinancialStatus": enum(body.get("financial_status")),
        "displayFulfillmentStatus": _fulfilled(body.get("fulfillment_status")),
        "taxesIncluded": bool(body.get("taxes_included")),
        "dutiesIncluded": bool(body.get("duties_included")),
        "taxExempt": bool(body.get("tax_exempt")),
        "sourceName": body.get("source_name"),
        "paymentGatewayNames": body.get("payment_gateway_names") or [],
        "customer": customer_node(customer) if customer else None,
        "customAttributes": [_attribute(entry) for entry in body.get("note_attributes") or ()],
        "taxLines": [tax_node(tax, currency) for tax in body.get("tax_lines") or ()],
        "shippingLines": [_shipping_node(line, currency) for line in body.get("shipping_lines") or ()],
        "staffMember": staff_node(body.get("user_id")),
    }
    for field, source in _SETS.items():
        node[field] = bag(body.get(f"{source}_set"), body.get(source), currency)
    for field, source in _SETS_OR_NULL.items():
        node[field] = bag(body[source], 0, currency) if body.get(source) else None
    node["totalCashRoundingAdjustment"] = {
        f"{kind}Set": bag(body.get(f"total_cash_rounding_{kind}_adjustment_set"), 0, currency)
        for kind in ("payment", "refund")
    }
    for field, source in zip(addresses, ("shipping_address", "billing_address"), strict=True):
        address = body.get(source)
        node[field] = address_node(address, number) if address else None
    return node


def line_node(line: Body, currency: str) -> Node:
    """Return the LineItem without its product and variant."""
    price = line.get("price")
    return {
        "__typename": "LineItem",
        "id": gid("LineItem", line["id"]),
        "sku": line.get("sku"),
        "title": line.get("title") or "",
        "name": line.get("name") or line.get("title") or "",
        "quantity": line["quantity"],
        "currentQuantity": line.get("current_quantity", line["quantity"]),
        "originalUnitPriceSet": bag(line.get("price_set"), price, currency),
        "totalDiscountSet": bag(line.get("total_discount_set"), line.get("total_discount"), currency),
        "discountAllocations": _allocations(line, currency),
        "taxable": line.get("taxable", True),
        "isGiftCard": bool(line.get("gift_card")),
        "requiresShipping": line.get("requires_shipping", True),
        "taxLines": [tax_node(tax, currency) for tax in line.get("tax_lines") or ()],
        "variantTitle": line.get("variant_title"),
        "vendor": line.get("vendor"),
        "customAttributes": [_attribute(entry) for entry in line.get("properties") or ()],
        "staffMember": staff_node(_attributed_staff(line)),
    }


def refund_node(body: Body, currency: str) -> Node:
    """Return the Refund without its order, its lines' items and its transactions."""
    at = instant(body.get("processed_at") or body["created_at"])
    given = [entry for entry in body.get("transactions") or () if entry.get("status") == "success"]
    total = sum((shop_amount(entry) for entry in given), Decimal(0))
    return {
        "__typename": "Refund",
        "id": gid("Refund", body["id"]),
        "legacyResourceId": str(body["id"]),
        "note": body.get("note"),
        "createdAt": instant(body["created_at"]),
        "processedAt": at,
        "updatedAt": instant(body.get("updated_at")) or at,
        "totalRefundedSet": bag(None, total, currency),
        "duties": [{"amountSet": bag(duty["amount_set"], 0, currency)} for duty in body.get("duties") or ()],
        "orderAdjustments": [
            _adjustment_node(place, one, currency)
            for place, one in enumerate(body.get("order_adjustments") or ())
            if one.get("kind") != "shipping_refund"
        ],
        "staffMember": staff_node(body.get("user_id")),
    }


def shop_amount(transaction: Body) -> Decimal:
    """Return what a transaction moved, in the shop's currency where the buyer's is another."""
    stated = transaction.get("amount_set")
    return Decimal(stated["shop_money"]["amount"] if stated else transaction["amount"])


def _adjustment_node(place: int, one: Body, currency: str) -> Node:
    """Return the OrderAdjustment. Refunded shipping is none: the API has a line of the refund for it."""
    return {
        "__typename": "OrderAdjustment",
        "id": gid("OrderAdjustment", one.get("id") or place + 1),
        "reason": enum("refund_discrepancy"),
        "amountSet": bag(one.get("amount_set"), one.get("amount"), currency),
        "taxAmountSet": bag(one.get("tax_amount_set"), one.get("tax_amount"), currency),
    }


def refund_line_node(entry: Body, currency: str) -> Node:
    """Return the RefundLineItem without its location and line item."""
    line = entry.get("line_item") or {}
    kind = entry.get("restock_type") or "no_restock"
    return {
        "__typename": "RefundLineItem",
        "id": gid("RefundLineItem", entry["id"]),
        "quantity": entry["quantity"],
        "restockType": enum(kind),
        "restocked": kind != "no_restock",
        "priceSet": bag(line.get("price_set"), line.get("price"), currency),
        "subtotalSet": bag(entry.get("subtotal_set"), entry.get("subtotal"), currency),
        "totalTaxSet": bag(entry.get("total_tax_set"), entry.get("total_tax"), currency),
    }  # fmt: skip


def refund_shipping_node(entry: Body, currency: str) -> Node:
    """Return the RefundShippingLine."""
    amounts = entry.get("subtotal_amount_set"), entry.get("tax_amount_set")
    line = entry.get("shipping_line")
    return {
        "id": gid("RefundShippingLine", entry["id"]) if entry.get("id") else None,
        "shippingLine": _shipping_node(line, currency) if line else None,
        "subtotalAmountSet": bag(amounts[0], entry.get("subtotal"), currency),
        "taxAmountSet": bag(amounts[1], entry.get("total_tax"), currency),
    }


def transaction_node(body: Body) -> Node:
    """Return the OrderTransaction without its order and parent."""
    return {
        "__typename": "OrderTransaction",
        "id": gid("OrderTransaction", body["id"]),
        "kind": enum(body["kind"]),
        "status": enum(body["status"]),
        "gateway": body.get("gateway"),
        "amountSet": bag(body.get("amount_set"), body["amount"], body["currency"]),
        "authorizationCode": body.get("authorization"),
        "paymentId": body.get("payment_id"),
        "createdAt": instant(body["created_at"]),
        "processedAt": instant(body.get("processed_at")),
        "receiptJson": body.get("receipt"),
        "test": bool(body.get("test")),
    }


def fulfillment_node(body: Body) -> Node:
    """Return the Fulfillment without its order and location."""
    status = enum(body["status"])
    shipment = enum(body.get("shipment_status"))
    return {
        "__typename": "Fulfillment",
        "id": gid("Fulfillment", body["id"]),
        "legacyResourceId": str(body["id"]),
        "name": body.get("name") or f"#{body['id']}",
        "status": status,
        "displayStatus": shipment or {"SUCCESS": "FULFILLED", "CANCELLED": "CANCELED"}.get(status or ""),
        "createdAt": instant(body["created_at"]),
        "updatedAt": instant(body["updated_at"]),
        "totalQuantity": sum(line["quantity"] for line in body.get("line_items") or ()),
    }


def fulfillment_order_node(body: Body) -> Node:
    """Return the FulfillmentOrder without its location. ``body`` is REST's own: no webhook tells it whole."""
    return {
        "__typename": "FulfillmentOrder",
        "id": gid("FulfillmentOrder", body["id"]),
        "orderId": gid("Order", body["order_id"]),
        "status": enum(body["status"]),
        "requestStatus": enum(body.get("request_status") or "unsubmitted"),
        "fulfillAt": instant(body.get("fulfill_at")),
        "createdAt": instant(body.get("created_at") or body["updated_at"]),
        "updatedAt": instant(body["updated_at"]),
        "fulfillmentHolds": [
            {
                "__typename": "FulfillmentHold",
                "id": gid("FulfillmentHold", hold["id"]),
                "reason": enum(hold["reason"]),
            }
            for hold in body.get("fulfillment_holds") or ()
        ],
    }


def return_node(body: Body) -> Node:
    """Return the Return without its order. ``body`` is told whole: as a webhook's, with its pieces."""
    declined = body.get("decline")
    return {
        "__typename": "Return",
        "id": gid("Return", body["id"]),
        "name": body["name"],
        "status": enum(body["status"]),
        "decline": {"note": declined.get("note"), "reason": enum(declined["reason"])} if declined else None,
        "totalQuantity": body["quantity"],
    }


def tax_node(tax: Body, currency: str) -> Node:
    """Return the TaxLine."""
    rate = tax.get("rate")
    return {
        "title": tax.get("title") or "",
        "rate": rate,
        "ratePercentage": None if rate is None else round(rate * 100, 6),
        "channelLiable": tax.get("channel_liable"),
        "priceSet": bag(tax.get("price_set"), tax.get("price"), currency),
    }


def _shipping_node(line: Body, currency: str) -> Node:
    price = line.get("price")
    return {
        "id": gid("ShippingLine", line["id"]) if line.get("id") else None,
        "title": line.get("title") or "",
        "code": line.get("code"),
        "isRemoved": bool(line.get("is_removed")),
        "originalPriceSet": bag(line.get("price_set"), price, currency),
        "discountedPriceSet": bag(
            line.get("discounted_price_set"), line.get("discounted_price", price), currency
        ),
        "discountAllocations": _allocations(line, currency),
        "taxLines": [tax_node(tax, currency) for tax in line.get("tax_lines") or ()],
    }


def _allocations(line: Body, currency: str) -> list[Node]:
    return [
        {"allocatedAmountSet": bag(entry.get("amount_set"), entry.get("amount"), currency)}
        for entry in line.get("discount_allocations") or ()
    ]


def _attribute(entry: Body) -> Node:
    value = entry.get("value")
    return {"key": str(entry["name"]), "value": None if value is None else str(value)}


def _attributed_staff(line: Body) -> object:
    staffs = line.get("attributed_staffs") or ()
    return staffs[0]["id"] if staffs else None


def _fulfilled(status: str | None) -> str | None:
    return _FULFILLED.get(status) or enum(status)
