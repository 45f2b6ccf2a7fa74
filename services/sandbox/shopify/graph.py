"""The GraphQL objects of one shop of the sandbox, from its records and its stock."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import graphql

from services.sandbox.shopify import records as kinds
from services.sandbox.shopify.bulk import BulkOperations
from services.sandbox.shopify.nodes import WebhookNode
from services.sandbox.shopify.records import Body, Records, Subscriptions
from services.sandbox.shopify.schema import BULK, load_schema
from services.sandbox.shopify.stock import Place, Stock
from services.sandbox.shopify.values import Node, gid, utc_text

ALL_SCOPES = (
    "read_all_orders", "read_assigned_fulfillment_orders", "read_customers", "read_fulfillments",
    "read_inventory", "read_locations", "read_merchant_managed_fulfillment_orders", "read_orders",
    "read_products", "read_returns", "write_inventory",
)  # fmt: skip
SHOWN_ORDERS = timedelta(days=60)
"""The age of the orders that Shopify shows without ``read_all_orders``."""

Result = tuple[dict[str, Any] | None, list[Node]]
"""Data and errors."""


class Graph:
    """Answers documents from one shop's state; finds and lists its objects."""

    def __init__(
        self,
        domain: str,
        records: Records,
        stock: Stock,
        subscriptions: Subscriptions,
        bulk: BulkOperations,
    ) -> None:
        self.records = records
        self._domain, self._stock, self._subscriptions = domain, stock, subscriptions
        self._bulk = bulk
        self.scopes: Sequence[str] = ALL_SCOPES
        self.denied: set[str] = set()
        """Root fields that need a scope which the shop did not grant."""

    def execute(
        self, tree: graphql.DocumentNode, name: str | None, variables: dict[str, Any], now: datetime
    ) -> Result:
        roots = self._queries(now) | self._mutations(now)
        return self._execute(tree, roots, variable_values=variables, operation_name=name)

    def _execute_bulk(self, tree: graphql.DocumentNode, now: datetime) -> Result:
        return self._execute(tree, self._queries(now), context_value=BULK)

    def _execute(self, tree: graphql.DocumentNode, roots: Node, **options: Any) -> Result:
        roots |= {root: partial(_deny, root) for root in self.denied}
        result = graphql.execute_sync(load_schema(), tree, root_value=roots, **options)
        return result.data, [_describe(error) for error in result.errors or ()]

    def _orders(self, now: datetime) -> list[WebhookNode]:
        """Return the orders that the granted scopes show."""
        earliest = utc_text(now - SHOWN_ORDERS)
        every = "read_all_orders" in self.scopes
        return [order for order in self.all("Order") if every or str(order.get("createdAt")) >= earliest]

    def _queries(self, now: datetime) -> Node:
        single = {kind.lower(): partial(self._find, kind) for kind in ("Order", "Refund", "Product")}
        return single | {
            "shop": self.shop,
            "currentAppInstallation": lambda: {
                "id": gid("AppInstallation", 1),
                "accessScopes": [{"handle": scope} for scope in self.scopes],
            },
            "bulkOperation": self._bulk.look,
            "productsCount": lambda **_args: {"count": len(self.records.bodies[kinds.PRODUCTS])},
            "productVariantsCount": lambda **_args: {"count": len(self.records.items_of_variants)},
            "nodes": lambda ids: [self._find("", one) for one in ids],
            "location": lambda **args: self._find("Location", args["id"]) if args.get("id") else None,
            "orders": lambda **_args: self._orders(now),
            "products": lambda **_args: self.all("Product"),
            "fulfillmentOrders": self._fulfillment_orders,
            "locations": self._locations,
            "inventoryItems": lambda **_args: [self.item(number) for number in self._item_numbers()],
            "webhookSubscriptions": lambda **_args: self._subscriptions.nodes,
        }

    def _mutations(self, now: datetime) -> Node:
        return {
            "bulkOperationRunQuery": lambda **args: self._bulk.run(args["query"], now, self._execute_bulk),
            "webhookSubscriptionDelete": self._subscriptions.delete,
            "inventorySetQuantities": lambda **args: self._stock.set_quantities(
                args["input"], args["key"], now
            ),
            "webhookSubscriptionCreate": lambda **args: self._subscriptions.create(
                args["topic"], args["webhookSubscription"], utc_text(now)
            ),
        }

    def _find(self, kind: str, id: str) -> Node | WebhookNode | None:  # noqa: A002 - the argument's name
        """Return the object of ``kind`` (or of any) with this gid, or None."""
        if not id.startswith(gid(kind, "") if kind else "gid://shopify/"):
            raise graphql.GraphQLError(
                f"Invalid global id '{id}'", extensions={"code": "argumentLiteralsIncompatible"}
            )
        kind, _, rest = id.removeprefix("gid://shopify/").partition("/")
        digits, _, item = rest.partition("?inventory_item_id=")
        if not digits.isdecimal():
            return None
        number = int(digits)
        if kind == "InventoryLevel":
            return self.level((int(item), number)) if item.isdecimal() else None
        if kind == "InventoryItem":
            return self.item(number) if number in self._item_numbers() else None
        if kind == "Location":
            return self.location(number) if number in self._location_numbers() else None
        return self.get(kind, number)

    def get(self, kind: str, number: int) -> WebhookNode | None:
        body = self.records.bodies.get(kinds.kind_of(kind), {}).get(int(number))
        return None if body is None else WebhookNode(kind, body, self, self._currency_of(kind, body))

    def all(self, kind: str) -> list[WebhookNode]:
        return [
            node for number in self.records.bodies[kinds.kind_of(kind)] if (node := self.get(kind, number))
        ]

    def parts(self, kind: str, order_id: int) -> list[WebhookNode]:
        bodies = self.records.parts(kinds.kind_of(kind), order_id)
        return [node for body in bodies if (node := self.get(kind, int(body["id"])))]

    def shop(self) -> WebhookNode:
        """Return the Shop with the values of its last ``shop/update``."""
        usual = {
            "id": 1,
            "name": self._domain.partition(".")[0],
            "myshopify_domain": self._domain,
            "currency": "USD",
            "iana_timezone": "Etc/UTC",
        }
        stated = {name: value for name, value in self.records.shop.items() if value}
        return WebhookNode("Shop", usual | stated, self)

    def sold(self, line: Body) -> tuple[WebhookNode | None, WebhookNode | None]:
        """Return the product and the variant of an order's line, even if no webhook described them."""
        number, variant = line.get("product_id"), line.get("variant_id")
        if not number or not line.get("product_exists", True):
            return None, None
        unknown = WebhookNode("Product", {"id": number, "title": line.get("title")}, self)
        product = self.get("Product", number) or unknown
        known = [one for one in product.get("variants") if one.body["id"] == variant]
        bare = {"id": variant, "sku": line.get("sku"), "title": line.get("variant_title"), "product": product}
        return product, (known or [product.child("ProductVariant", bare)])[0] if variant else None

    def item(self, number: int) -> WebhookNode:
        """Return the InventoryItem, even if no webhook described it."""
        product = self.get("Product", self.records.variants.get(number, 0))
        variants = product.body.get("variants") or () if product else ()
        variant: Body = next((one for one in variants if one.get("inventory_item_id") == number), {})
        body = self.records.bodies[kinds.ITEMS].get(number) or {}
        usual = {name: variant.get(name) for name in ("sku", "updated_at")}
        given = {name: value for name, value in body.items() if value not in (None, "")}
        return WebhookNode("InventoryItem", usual | given | {"id": number}, self)

    def location(self, number: int) -> WebhookNode:
        """Return the Location, even if no webhook described it."""
        body = self.records.bodies[kinds.LOCATIONS].get(number) or {}
        name = body.get("name") or f"Location {number}"
        return WebhookNode("Location", {**body, "id": number, "name": name}, self)

    def levels_at(self, location: int) -> list[WebhookNode]:
        places = [(item, location) for item in self._stock.items_at.get(location, ())]
        return [node for place in places if (node := self.level(place))]

    def levels_of(self, item: int) -> list[WebhookNode]:
        places = [(item, location) for location in sorted(self._stock.locations_of.get(item, ()))]
        return [node for place in places if (node := self.level(place))]

    def level(self, place: Place) -> WebhookNode | None:
        """Return the InventoryLevel, or None if the item is not stocked there."""
        if place not in self._stock.levels:
            return None
        item, location = place
        body = {
            "id": f"{location}?inventory_item_id={item}",
            "updated_at": self._stock.changed_at[place],
            "item_id": item,
            "location_id": location,
            "available": self._stock.levels[place],
            "on_hand": self._stock.on_hand(place),
        }
        return WebhookNode("InventoryLevel", body, self)

    def _locations(self, **args: Any) -> list[WebhookNode]:
        found = [self.location(number) for number in self._location_numbers()]
        return [node for node in found if args.get("includeInactive") or node.get("isActive")]

    def _fulfillment_orders(self, **args: Any) -> list[WebhookNode]:
        hidden = () if args.get("includeClosed") else ("CLOSED", "CANCELLED")
        return [node for node in self.all("FulfillmentOrder") if node.get("status") not in hidden]

    def _item_numbers(self) -> set[int]:
        known = set(self.records.bodies[kinds.ITEMS]) | set(self.records.variants)
        return (known | set(self._stock.locations_of)) - self._stock.deleted_items

    def _location_numbers(self) -> set[int]:
        return set(self.records.bodies[kinds.LOCATIONS]) | set(self._stock.items_at)

    def _currency_of(self, kind: str, body: Body) -> str:
        if kind == "Refund":
            for entry in body.get("transactions") or ():
                price_set = entry.get("amount_set")
                return str(price_set["shop_money"]["currency_code"] if price_set else entry["currency"])
            body = self.records.bodies[kinds.ORDERS].get(int(body["order_id"])) or {}
        return str(body.get("currency") or self.records.shop.get("currency") or "USD")


def _deny(name: str, **_args: Any) -> None:
    raise graphql.GraphQLError(f"Access denied for {name} field.", extensions={"code": "ACCESS_DENIED"})


def _describe(error: graphql.GraphQLError) -> Node:
    if isinstance(error.original_error, ValueError):
        code = "INVALID_FIELD_ARGUMENTS"
    else:  # an invalid value of a variable is found before the query runs: its error has no path
        code = "INTERNAL_SERVER_ERROR" if error.path else "INVALID_VARIABLE"
    described: Node = {"message": error.message, "extensions": {"code": code} | (error.extensions or {})}
    return described | ({"path": list(error.path)} if error.path else {})
