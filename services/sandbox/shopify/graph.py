"""Every object of one shop of the sandbox that GraphQL can reach, read from its records and its stock."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from services.sandbox.shopify import records as kinds
from services.sandbox.shopify.nodes import WebhookNode
from services.sandbox.shopify.records import Body, Records
from services.sandbox.shopify.schema import load_schema
from services.sandbox.shopify.stock import Place, Stock
from services.sandbox.shopify.values import Node

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "Order": kinds.ORDERS,
        "Refund": kinds.REFUNDS,
        "OrderTransaction": kinds.TRANSACTIONS,
        "Fulfillment": kinds.FULFILLMENTS,
        "FulfillmentOrder": kinds.FULFILLMENT_ORDERS,
        "Return": kinds.RETURNS,
        "Product": kinds.PRODUCTS,
    }
)
"""Where the bodies of a GraphQL type are kept."""


class Graph:
    """Finds objects by id, and lists them."""

    def __init__(self, domain: str, records: Records, stock: Stock) -> None:
        self.records = records
        self._domain, self._stock = domain, stock

    def fields_of(self, kind: str) -> Mapping[str, Any]:
        """Return the fields of a GraphQL type."""
        fields: Mapping[str, Any] = getattr(load_schema().type_map.get(kind), "fields", {})
        return fields

    def find(self, text: str) -> WebhookNode | None:
        """Return the object of any kind with this gid, or None."""
        kind, _, rest = text.removeprefix("gid://shopify/").partition("/")
        digits, _, item = rest.partition("?inventory_item_id=")
        if not digits.isdecimal():
            return None
        number, stock = int(digits), self._stock
        if kind == "InventoryLevel":
            return self.level((int(item), number)) if item.isdecimal() else None
        if kind == "InventoryItem":
            return self.item(number) if number in self._item_numbers() else None
        if kind == "Location":
            is_known = number in self.records.bodies[kinds.LOCATIONS] or number in stock.items_at
            return self.location(number) if is_known else None
        return self.get(kind, number)

    def get(self, kind: str, number: int) -> WebhookNode | None:
        """Return an object of a kind of ``KINDS``, or None."""
        body = self.records.bodies[KINDS[kind]].get(int(number)) if kind in KINDS else None
        return None if body is None else WebhookNode(kind, body, self, self._currency_of(kind, body))

    def all(self, kind: str) -> list[WebhookNode]:
        """Return every object of a kind of ``KINDS``."""
        return [node for number in self.records.bodies[KINDS[kind]] if (node := self.get(kind, number))]

    def parts(self, kind: str, order_id: int) -> list[WebhookNode]:
        """Return the refunds, transactions, fulfilments or returns of an order, oldest first."""
        bodies = self.records.parts(KINDS[kind], order_id)
        return [node for body in bodies if (node := self.get(kind, int(body["id"])))]

    def shop(self) -> WebhookNode:
        """Return the Shop as its last ``shop/update`` states it."""
        body = self.records.shop
        email = body.get("email") or f"owner@{self._domain}"
        usual = {
            "id": 1,
            "name": self._domain.partition(".")[0],
            "email": email,
            "customer_email": email,
            "myshopify_domain": self._domain,
            "currency": "USD",
            "iana_timezone": "Etc/UTC",
        }
        return WebhookNode("Shop", usual | {name: value for name, value in body.items() if value}, self)

    def sold(self, line: Body) -> tuple[Node | WebhookNode | None, Node | WebhookNode | None]:
        """Return the product and the variant of an order's line, even if no webhook described them."""
        number, variant = line.get("product_id"), line.get("variant_id")
        if not number or not line.get("product_exists", True):
            return None, None
        unknown = WebhookNode("Product", {"id": number, "title": line.get("title")}, self)
        product = self.get("Product", number) or unknown
        known = [one for one in product.get("variants") if one.body["id"] == variant]
        bare = {"id": variant, "sku": line.get("sku"), "title": line.get("variant_title"), "product": product}
        return product, (known or [product.child("ProductVariant", bare)])[0] if variant else None

    def items(self) -> list[WebhookNode]:
        """Return every InventoryItem that anything is known of."""
        return [self.item(number) for number in self._item_numbers()]

    def item(self, number: int) -> WebhookNode:
        """Return the InventoryItem, even if nothing is known of it."""
        body = self.records.bodies[kinds.ITEMS].get(number) or {}
        variant = self.variant_of(number)
        usual = {name: variant.body.get(name) if variant else None for name in ("sku", "updated_at")}
        given = {name: value for name, value in body.items() if value not in (None, "")}
        return WebhookNode("InventoryItem", usual | given | {"id": number}, self)

    def variant_of(self, item: int) -> WebhookNode | None:
        """Return the ProductVariant whose stock the item is, or None."""
        product = self.get("Product", self.records.variants.get(item, 0))
        variants = product.get("variants") if product else ()
        return next((one for one in variants if one.body.get("inventory_item_id") == item), None)

    def locations(self) -> list[WebhookNode]:
        """Return every Location that anything is known of."""
        numbers = set(self.records.bodies[kinds.LOCATIONS]) | set(self._stock.items_at)
        return [self.location(number) for number in numbers]

    def location(self, number: int) -> WebhookNode:
        """Return the Location, even if nothing is known of it."""
        body = self.records.bodies[kinds.LOCATIONS].get(number) or {}
        name = body.get("name") or f"Location {number}"
        return WebhookNode("Location", {**body, "id": number, "name": name}, self)

    def levels_of(self, item: int) -> list[WebhookNode]:
        """Return the levels of an item at all locations."""
        places = [(item, location) for location in self._stock.locations_of.get(item, ())]
        return [node for place in places if (node := self.level(place))]

    def levels_at(self, location: int) -> list[WebhookNode]:
        """Return the levels of all items at a location."""
        places = [(item, location) for item in self._stock.items_at.get(location, ())]
        return [node for place in places if (node := self.level(place))]

    def level(self, place: Place) -> WebhookNode | None:
        """Return the InventoryLevel, or None where the item is not stocked there."""
        if place not in self._stock.levels:
            return None
        item, location = place
        body = {
            "id": f"{location}?inventory_item_id={item}",
            "is_active": True,
            "updated_at": self._stock.changed_at[place],
            "item_id": item,
            "location_id": location,
            "available": self._stock.levels[place],
            "on_hand": self._stock.on_hand(place),
        }
        return WebhookNode("InventoryLevel", body, self)

    def changes(self, group: Node) -> list[Node]:
        """Return what an InventoryAdjustmentGroup changed."""
        return [
            {
                "name": "available",
                "delta": quantity - before,
                "quantityAfterChange": quantity,
                "item": self.item(item),
                "location": self.location(location),
            }
            for (item, location), (before, quantity) in group["_changes"].items()
        ]

    def _item_numbers(self) -> set[int]:
        known = set(self.records.bodies[kinds.ITEMS]) | set(self.records.variants)
        return (known | set(self._stock.locations_of)) - self._stock.deleted_items

    def _currency_of(self, kind: str, body: Body) -> str:
        if kind == "Refund":
            for entry in body.get("transactions") or ():
                price_set = entry.get("amount_set")
                return str(price_set["shop_money"]["currency_code"] if price_set else entry["currency"])
            body = self.records.bodies[kinds.ORDERS].get(int(body["order_id"])) or {}
        return str(body.get("currency") or self.records.shop.get("currency") or "USD")
