"""GraphQL objects of one shop of the sandbox, read from the bodies of its webhooks.

A field has the value of the webhook's field of the same name, written as the field's type requires:
``createdAt`` is ``created_at`` in UTC, ``totalPriceSet`` is ``total_price_set`` or ``total_price`` as a
MoneyBag. ``FIELDS`` lists the other fields. A required field without a value is empty, zero or ``LONG_AGO``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import graphql

from services.sandbox.shopify.records import Body
from services.sandbox.shopify.schema import load_schema
from services.sandbox.shopify.values import Node, bag, enum, gid, id_of, instant, money, to_snake_case

if TYPE_CHECKING:
    from services.sandbox.shopify.graph import Graph

LONG_AGO = "2020-01-01T00:00:00Z"
"""Times of an object whose webhook has none."""

_EMPTY: Mapping[str, Any] = {"Boolean": False, "DateTime": LONG_AGO, "Int": 0, "String": ""}
_TRUE_BY_DEFAULT = frozenset(("active", "requires_shipping", "taxable", "tracked"))


@dataclass(frozen=True, slots=True)
class WebhookNode:
    """A GraphQL object of the type ``kind``. ``currency`` is that of amounts whose body names none."""

    kind: str
    body: Body
    graph: "Graph"
    currency: str = ""

    @property
    def __typename(self) -> str:
        """The type of an object behind an interface, for graphql-core."""
        return self.kind

    def get(self, name: str, **args: Any) -> Any:
        """Return the field ``name`` for the arguments ``args``; None if the type has no such field."""
        special = FIELDS.get(f"{self.kind}.{name}")
        if special is not None and not isinstance(special, str):
            return special(self, **args)
        if name == "id":
            return gid(self.kind, self.body["id"]) if self.body.get("id") else None
        if name == "legacyResourceId":
            return str(self.body["id"])
        fields: Mapping[str, Any] = getattr(load_schema().type_map.get(self.kind), "fields", {})
        if name not in fields:
            return None
        return self._read(fields[name].type, special or to_snake_case(name))

    def child(self, kind: str, body: Body) -> "WebhookNode":
        """Return an object inside this one, in the same currency unless ``body`` names another."""
        return WebhookNode(kind, body, self.graph, body.get("currency") or self.currency)

    def money(self, price: str, price_set: str = "") -> Node:
        """Return the MoneyBag of the body's ``price`` and its ``price_set`` (``..._set``)."""
        return bag(self.body.get(price_set or f"{price}_set"), self.body.get(price), self.currency)

    def _read(self, field_type: Any, key: str) -> Any:
        named = graphql.get_named_type(field_type)
        if named.name == "MoneyBag":
            price = key.removesuffix("_set")
            is_known = self.body.get(f"{price}_set") or self.body.get(price) is not None
            return self.money(price) if is_known or graphql.is_non_null_type(field_type) else None
        value, kind = self.body.get(key), named.name.removesuffix("Connection")
        if kind != named.name or graphql.is_list_type(graphql.get_nullable_type(field_type)):
            return [
                entry if graphql.is_leaf_type(named) else self.child(kind, entry) for entry in value or ()
            ]
        if value is None:
            return key in _TRUE_BY_DEFAULT or (
                _EMPTY.get(kind) if graphql.is_non_null_type(field_type) else None
            )
        if graphql.is_enum_type(named):
            return enum(value)
        if kind == "DateTime":
            return instant(value)
        return value if graphql.is_leaf_type(named) else self.child(kind, value)


def _location(node: WebhookNode) -> WebhookNode | None:
    number = node.body.get("location_id")
    return None if number is None else node.graph.location(int(number))


def _address(key: str) -> Callable[[WebhookNode], WebhookNode | None]:
    return lambda node: node.child("MailingAddress", node.body[key]) if node.body.get(key) else None


def _contact(kind: str, key: str) -> Callable[[WebhookNode], WebhookNode | None]:
    return lambda node: node.child(kind, node.body) if node.body.get(key) else None


def _parts(kind: str) -> Callable[..., list[WebhookNode]]:
    return lambda node, **_args: node.graph.parts(kind, int(node.body["id"]))


def _refunded(node: WebhookNode) -> Node:
    """Return the sum of the refund's successful transactions, in the shop's currency."""
    paid_back = Decimal(0)
    for entry in node.body.get("transactions") or ():
        if entry.get("status") == "success":
            price_set = entry.get("amount_set")
            paid_back += Decimal(price_set["shop_money"]["amount"] if price_set else entry["amount"])
    return bag(None, paid_back, node.currency)


def _adjustments(node: WebhookNode, **_args: Any) -> list[WebhookNode]:
    """Return the adjustments without refunded shipping, which is a line of the refund in the API."""
    return [
        node.child("OrderAdjustment", {**entry, "id": entry.get("id") or place})
        for place, entry in enumerate(node.body.get("order_adjustments") or (), start=1)
        if entry.get("kind") != "shipping_refund"
    ]


def _refunded_line(node: WebhookNode) -> WebhookNode:
    entry = node.body
    bare = {"id": entry["line_item_id"], "quantity": entry["quantity"]}
    return node.child("LineItem", entry.get("line_item") or bare)


def _parent_transaction(node: WebhookNode) -> WebhookNode | None:
    number = node.body.get("parent_id")
    if not number:
        return None
    return node.graph.get("OrderTransaction", number) or node.child("OrderTransaction", {"id": number})


def _quantities(node: WebhookNode, *, names: list[str]) -> list[Node]:
    # The sandbox has no reserved, damaged or incoming stock: on hand is available plus committed.
    available, on_hand = node.body["available"], node.body["on_hand"]
    amounts = {"available": available, "on_hand": on_hand, "committed": on_hand - available}
    return [{"name": name, "quantity": amounts.get(name, 0)} for name in names]


_FULFILLMENT_STATUS = {None: "UNFULFILLED", "partial": "PARTIALLY_FULFILLED"}
_DISPLAY_STATUS = {"success": "FULFILLED", "cancelled": "CANCELED"}

FIELDS: Mapping[str, str | Callable[..., Any]] = {
    "Shop.currencyCode": "currency",
    "Order.name": lambda n: n.body.get("name") or f"#{n.body['id']}",
    "Order._updatedAt": lambda n: n.graph.records.touched_at[int(n.body["id"])],
    "Order._isOpen": lambda n: not (n.body.get("closed_at") or n.body.get("cancelled_at")),
    "Order.processedAt": lambda n: instant(n.body.get("processed_at") or n.body["created_at"]),
    "Order.currencyCode": "currency",
    "Order.presentmentCurrencyCode": lambda n: n.body.get("presentment_currency") or n.currency,
    "Order.displayFinancialStatus": "financial_status",
    "Order.displayFulfillmentStatus": lambda n: (
        _FULFILLMENT_STATUS.get(n.body.get("fulfillment_status")) or enum(n.body["fulfillment_status"])
    ),
    "Order.totalCashRoundingAdjustment": lambda n: {
        f"{kind}Set": n.money(f"total_cash_rounding_{kind}_adjustment") for kind in ("payment", "refund")
    },
    "Order.shippingAddress": _address("shipping_address"),
    "Order.billingAddress": _address("billing_address"),
    "Order.customAttributes": "note_attributes",
    "Order.refunds": _parts("Refund"),
    "Order.transactions": _parts("OrderTransaction"),
    "Order.fulfillments": _parts("Fulfillment"),
    "Order.returns": _parts("Return"),
    "Order.retailLocation": _location,
    "Customer.defaultEmailAddress": _contact("CustomerEmailAddress", "email"),
    "Customer.defaultPhoneNumber": _contact("CustomerPhoneNumber", "phone"),
    "CustomerEmailAddress.emailAddress": "email",
    "CustomerPhoneNumber.phoneNumber": "phone",
    "MailingAddress.countryCodeV2": "country_code",
    "LineItem.currentQuantity": lambda n: n.body.get("current_quantity", n.body["quantity"]),
    "LineItem.originalUnitPriceSet": "price",
    "LineItem.isGiftCard": "gift_card",
    "LineItem.customAttributes": "properties",
    "LineItem.product": lambda n: n.graph.sold(n.body)[0],
    "LineItem.variant": lambda n: n.graph.sold(n.body)[1],
    "Attribute.key": lambda n: str(n.body["name"]),
    "Attribute.value": lambda n: None if n.body.get("value") is None else str(n.body["value"]),
    "DiscountAllocation.allocatedAmountSet": "amount",
    "ShippingLine.originalPriceSet": "price",
    "ShippingLine.discountedPriceSet": lambda n: n.money(
        "discounted_price" if "discounted_price" in n.body else "price", "discounted_price_set"
    ),
    "Refund.processedAt": lambda n: instant(n.body.get("processed_at") or n.body["created_at"]),
    "Refund.totalRefundedSet": _refunded,
    "Refund.orderAdjustments": _adjustments,
    "Refund.transactions": lambda n, **_args: [
        n.graph.get("OrderTransaction", one["id"]) for one in n.body.get("transactions") or ()
    ],
    "OrderAdjustment.reason": lambda _: "REFUND_DISCREPANCY",
    "RefundLineItem.restockType": lambda n: enum(n.body.get("restock_type") or "no_restock"),
    "RefundLineItem.location": _location,
    "RefundLineItem.lineItem": _refunded_line,
    "RefundShippingLine.subtotalAmountSet": lambda n: n.money("subtotal", "subtotal_amount_set"),
    "RefundShippingLine.taxAmountSet": lambda n: n.money("total_tax", "tax_amount_set"),
    "OrderTransaction.receiptJson": "receipt",
    "OrderTransaction.parentTransaction": _parent_transaction,
    "Fulfillment.displayStatus": lambda n: (
        enum(n.body.get("shipment_status")) or _DISPLAY_STATUS.get(n.body["status"])
    ),
    "Fulfillment.totalQuantity": lambda n: sum(line["quantity"] for line in n.body.get("line_items") or ()),
    "Fulfillment.location": _location,
    "FulfillmentOrder.orderId": lambda n: gid("Order", n.body["order_id"]),
    "FulfillmentOrder.requestStatus": lambda n: enum(n.body.get("request_status") or "unsubmitted"),
    "FulfillmentOrder.assignedLocation": lambda n: {
        "location": _location(n.child("", {"location_id": n.body.get("assigned_location_id")}))
    },
    "Product.status": lambda n: enum(n.body.get("status") or "active"),
    "Product.tags": lambda n: [tag.strip() for tag in (n.body.get("tags") or "").split(",") if tag.strip()],
    "Product.variants": lambda n, **_args: [
        n.child("ProductVariant", {**entry, "product": n}) for entry in n.body.get("variants") or ()
    ],
    "ProductVariant.updatedAt": lambda n: (
        instant(n.body.get("updated_at")) or n.body["product"].get("updatedAt")
    ),
    "ProductVariant.inventoryItem": lambda n: n.graph.item(int(n.body["inventory_item_id"])),
    "InventoryItem.unitCost": lambda n: (
        None if n.body.get("cost") is None else money(n.body["cost"], n.graph.shop().get("currencyCode"))
    ),
    "InventoryItem.inventoryLevel": lambda n, **args: n.graph.level(
        (n.body["id"], id_of(args["locationId"], "Location"))
    ),
    "InventoryItem.inventoryLevels": lambda n, **_args: n.graph.levels_of(n.body["id"]),
    "Location.isActive": "active",
    "Location.address": lambda n: n.child("LocationAddress", n.body),
    "Location.inventoryLevels": lambda n, **_args: n.graph.levels_at(n.body["id"]),
    "InventoryLevel.item": lambda n: n.graph.item(n.body["item_id"]),
    "InventoryLevel.location": lambda n: n.graph.location(n.body["location_id"]),
    "InventoryLevel.quantities": _quantities,
}
"""Sources of fields whose names differ: the name in the body, or a function."""
