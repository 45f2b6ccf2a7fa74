"""GraphQL fields whose value is not under their own name in a webhook's body. Pure."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from services.sandbox.shopify import records as kinds
from services.sandbox.shopify.records import Body
from services.sandbox.shopify.values import Node, bag, enum, gid, id_of, instant, money

if TYPE_CHECKING:
    from services.sandbox.shopify.nodes import WebhookNode


def shop_amount(transaction: Body) -> Decimal:
    """Return the amount of a transaction in the shop's currency where the buyer's is another."""
    price_set = transaction.get("amount_set")
    return Decimal(price_set["shop_money"]["amount"] if price_set else transaction["amount"])


def _location(node: "WebhookNode") -> "WebhookNode | None":
    number = node.body.get("location_id")
    return None if number is None else node.graph.location(int(number))


def _order(node: "WebhookNode") -> Any:
    number = int(node.body["order_id"])
    return node.graph.get("Order", number) or node.child("Order", {"id": number})


def _staff(user_id: object) -> Node | None:
    text = str(user_id or "")
    return (
        {"__typename": "StaffMember", "id": text if "/" in text else gid("StaffMember", text)}
        if text
        else None
    )


def _tags(node: "WebhookNode") -> list[str]:
    return [tag.strip() for tag in (node.body.get("tags") or "").split(",") if tag.strip()]


def _address(key: str) -> "Callable[[WebhookNode], WebhookNode | None]":
    def read(node: "WebhookNode") -> "WebhookNode | None":
        address = node.body.get(key)
        number = {"id": f"{node.body['id']}?model_name=Address"}
        return node.child("MailingAddress", {**address, **number}) if address else None

    return read


def _parts(kind: str) -> "Callable[..., list[WebhookNode]]":
    return lambda node, **_args: node.graph.parts(kind, int(node.body["id"]))


def _refunded_by_order(node: "WebhookNode") -> Node:
    paid_back = [
        shop_amount(body)
        for body in node.graph.records.parts(kinds.TRANSACTIONS, int(node.body["id"]))
        if body["kind"] == "refund" and body["status"] == "success"
    ]
    return bag(None, sum(paid_back, Decimal(0)), node.currency)


def _refunded(node: "WebhookNode") -> Node:
    given = [entry for entry in node.body.get("transactions") or () if entry.get("status") == "success"]
    return bag(None, sum(map(shop_amount, given), Decimal(0)), node.currency)


def _adjustments(node: "WebhookNode", **_args: Any) -> "list[WebhookNode]":
    """Refunded shipping is not among them: the API has a line of the refund for it."""
    return [
        node.child("OrderAdjustment", {**entry, "id": entry.get("id") or place})
        for place, entry in enumerate(node.body.get("order_adjustments") or (), start=1)
        if entry.get("kind") != "shipping_refund"
    ]


def _refunded_line(node: "WebhookNode") -> "WebhookNode":
    entry = node.body
    return node.child(
        "LineItem", entry.get("line_item") or {"id": entry["line_item_id"], "quantity": entry["quantity"]}
    )


def _parent_transaction(node: "WebhookNode") -> Any:
    number = node.body.get("parent_id")
    if not number:
        return None
    bare = {"__typename": "OrderTransaction", "id": gid("OrderTransaction", number)}
    return node.graph.get("OrderTransaction", number) or bare


def _quantities(node: "WebhookNode", *, names: list[str]) -> list[Node]:
    # In the sandbox nothing is reserved, damaged or incoming: what is on hand is available or committed.
    available, on_hand = node.body["available"], node.body["on_hand"]
    amounts = {"available": available, "on_hand": on_hand, "committed": on_hand - available}
    return [
        {
            "__typename": "InventoryQuantity",
            "id": f"gid://shopify/InventoryQuantity/{node.body['id']}&name={name}",
            "name": name,
            "quantity": amounts.get(name, 0),
            "updatedAt": node.body["updated_at"],
        }
        for name in names
    ]


_FULFILLMENT_STATUS = {None: "UNFULFILLED", "partial": "PARTIALLY_FULFILLED"}
_DISPLAY_STATUS = {"success": "FULFILLED", "cancelled": "CANCELED"}

FIELDS: Mapping[str, str | Callable[..., Any]] = MappingProxyType(
    {
        "Shop.myshopifyDomain": "myshopify_domain",
        "Shop.currencyCode": "currency",
        "Shop.contactEmail": "customer_email",
        "Order.name": lambda n: n.body.get("name") or f"#{n.body['id']}",
        "Order.number": lambda n: n.body.get("order_number") or n.body.get("number") or 0,
        "Order.tags": _tags,
        "Order._updatedAt": lambda n: n.graph.records.touched_at[int(n.body["id"])],
        "Order.processedAt": lambda n: instant(n.body.get("processed_at") or n.body["created_at"]),
        "Order.currencyCode": "currency",
        "Order.presentmentCurrencyCode": lambda n: n.body.get("presentment_currency") or n.currency,
        "Order.displayFinancialStatus": "financial_status",
        "Order.displayFulfillmentStatus": lambda n: (
            _FULFILLMENT_STATUS.get(n.body.get("fulfillment_status")) or enum(n.body["fulfillment_status"])
        ),
        "Order.totalRefundedSet": _refunded_by_order,
        "Order.totalCashRoundingAdjustment": lambda n: {
            f"{kind}Set": n.money(f"total_cash_rounding_{kind}_adjustment_set", "")
            for kind in ("payment", "refund")
        },
        "Order.shippingAddress": _address("shipping_address"),
        "Order.billingAddress": _address("billing_address"),
        "Order.customAttributes": "note_attributes",
        "Order.refunds": _parts("Refund"),
        "Order.transactions": _parts("OrderTransaction"),
        "Order.fulfillments": _parts("Fulfillment"),
        "Order.returns": _parts("Return"),
        "Order.retailLocation": _location,
        "Order.staffMember": lambda n: _staff(n.body.get("user_id")),
        "MailingAddress.countryCodeV2": "country_code",
        "Customer.displayName": lambda n: (
            " ".join(filter(None, (n.body.get("first_name"), n.body.get("last_name"))))
            or n.body.get("email")
            or ""
        ),
        "Customer.defaultEmailAddress": lambda n: (
            {"emailAddress": n.body["email"]} if n.body.get("email") else None
        ),
        "Customer.defaultPhoneNumber": lambda n: (
            {"phoneNumber": n.body["phone"]} if n.body.get("phone") else None
        ),
        "LineItem.name": lambda n: n.body.get("name") or n.body.get("title") or "",
        "LineItem.currentQuantity": lambda n: n.body.get("current_quantity", n.body["quantity"]),
        "LineItem.originalUnitPriceSet": "price",
        "LineItem.isGiftCard": "gift_card",
        "LineItem.customAttributes": "properties",
        "LineItem.product": lambda n: n.graph.sold(n.body)[0],
        "LineItem.variant": lambda n: n.graph.sold(n.body)[1],
        "LineItem.staffMember": lambda n: next(
            (_staff(one["id"]) for one in n.body.get("attributed_staffs") or ()), None
        ),
        "Attribute.key": lambda n: str(n.body["name"]),
        "Attribute.value": lambda n: None if n.body.get("value") is None else str(n.body["value"]),
        "TaxLine.ratePercentage": lambda n: (
            None if n.body.get("rate") is None else round(n.body["rate"] * 100, 6)
        ),
        "DiscountAllocation.allocatedAmountSet": "amount",
        "ShippingLine.originalPriceSet": "price",
        "ShippingLine.discountedPriceSet": lambda n: n.money(
            "discounted_price_set", "discounted_price" if "discounted_price" in n.body else "price"
        ),
        "Refund.processedAt": lambda n: instant(n.body.get("processed_at") or n.body["created_at"]),
        "Refund.updatedAt": lambda n: instant(n.body.get("updated_at")) or n.get("processedAt"),
        "Refund.totalRefundedSet": _refunded,
        "Refund.orderAdjustments": _adjustments,
        "Refund.transactions": lambda n, **_args: [
            n.graph.get("OrderTransaction", one["id"]) for one in n.body.get("transactions") or ()
        ],
        "Refund.order": _order,
        "Refund.staffMember": lambda n: _staff(n.body.get("user_id")),
        "OrderAdjustment.reason": lambda _: "REFUND_DISCREPANCY",
        "RefundLineItem.restockType": lambda n: enum(n.body.get("restock_type") or "no_restock"),
        "RefundLineItem.restocked": lambda n: (n.body.get("restock_type") or "no_restock") != "no_restock",
        "RefundLineItem.location": _location,
        "RefundLineItem.lineItem": _refunded_line,
        "RefundLineItem.priceSet": lambda n: _refunded_line(n).get("originalUnitPriceSet"),
        "RefundShippingLine.subtotalAmountSet": lambda n: n.money("subtotal_amount_set", "subtotal"),
        "RefundShippingLine.taxAmountSet": lambda n: n.money("tax_amount_set", "total_tax"),
        "OrderTransaction.authorizationCode": "authorization",
        "OrderTransaction.receiptJson": "receipt",
        "OrderTransaction.order": _order,
        "OrderTransaction.parentTransaction": _parent_transaction,
        "Fulfillment.name": lambda n: n.body.get("name") or f"#{n.body['id']}",
        "Fulfillment.displayStatus": lambda n: (
            enum(n.body.get("shipment_status")) or _DISPLAY_STATUS.get(n.body["status"])
        ),
        "Fulfillment.totalQuantity": lambda n: sum(
            line["quantity"] for line in n.body.get("line_items") or ()
        ),
        "Fulfillment.location": _location,
        "Fulfillment.order": _order,
        "FulfillmentOrder.orderId": lambda n: gid("Order", n.body["order_id"]),
        "FulfillmentOrder.requestStatus": lambda n: enum(n.body.get("request_status") or "unsubmitted"),
        "FulfillmentOrder.createdAt": lambda n: instant(n.body.get("created_at") or n.body["updated_at"]),
        "FulfillmentOrder.assignedLocation": lambda n: {
            "location": _location(n.child("", {"location_id": n.body.get("assigned_location_id")}))
        },
        "Return.totalQuantity": "quantity",
        "Return.order": _order,
        "Product.status": lambda n: enum(n.body.get("status") or "active"),
        "Product.tags": _tags,
        "Product.variants": lambda n, **_args: [
            n.child("ProductVariant", {**entry, "product": n}) for entry in n.body.get("variants") or ()
        ],
        "ProductVariant.price": lambda n: n.body.get("price") or "0.00",
        "ProductVariant.position": lambda n: n.body.get("position") or 1,
        "ProductVariant.updatedAt": lambda n: (
            instant(n.body.get("updated_at")) or n.body["product"].get("updatedAt")
        ),
        "ProductVariant.inventoryItem": lambda n: n.graph.item(int(n.body["inventory_item_id"])),
        "ProductVariant.product": lambda n: n.body["product"],
        "InventoryItem.unitCost": lambda n: (
            None if n.body.get("cost") is None else money(n.body["cost"], n.graph.shop().get("currencyCode"))
        ),
        "InventoryItem.inventoryLevel": lambda n, **args: n.graph.level(
            (n.body["id"], id_of(args["locationId"], "Location"))
        ),
        "InventoryItem.inventoryLevels": lambda n, **_args: n.graph.levels_of(n.body["id"]),
        "InventoryItem.variant": lambda n: n.graph.variant_of(n.body["id"]),
        "Location.isActive": "active",
        "Location.deactivatedAt": lambda n: None if n.body.get("active", True) else n.get("updatedAt"),
        "Location.address": lambda n: n.child("LocationAddress", n.body),
        "Location.inventoryLevel": lambda n, **args: n.graph.level(
            (id_of(args["inventoryItemId"], "InventoryItem"), n.body["id"])
        ),
        "Location.inventoryLevels": lambda n, **_args: n.graph.levels_at(n.body["id"]),
        "LocationAddress.country": lambda n: n.body.get("country_name") or n.body.get("country"),
        "InventoryLevel.item": lambda n: n.graph.item(n.body["item_id"]),
        "InventoryLevel.location": _location,
        "InventoryLevel.quantities": _quantities,
    }
)
"""Where a field's value is, if not under its own name: another name in the body, or a function."""
