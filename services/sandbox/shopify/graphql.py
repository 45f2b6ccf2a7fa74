"""What every field of the graph's roots means for one shop of the sandbox."""

from datetime import datetime
from functools import partial
from typing import Any

from graphql import GraphQLError, OperationDefinitionNode
from graphql.execution import execute_sync

from services.sandbox.shopify.documents import Document
from services.sandbox.shopify.graph import Graph
from services.sandbox.shopify.nodes import WebhookNode
from services.sandbox.shopify.records import Records
from services.sandbox.shopify.schema import load_schema
from services.sandbox.shopify.stock import Stock
from services.sandbox.shopify.subscriptions import Subscriptions
from services.sandbox.shopify.values import Node, gid, id_of, utc_text


class Api:
    """Answers documents from one shop's state."""

    def __init__(self, domain: str, records: Records, stock: Stock, subscriptions: Subscriptions) -> None:
        self._stock, self._subscriptions = stock, subscriptions
        self._graph = graph = Graph(domain, records, stock)
        self.denied: set[str] = set()
        """Root fields that need a scope which the shop did not grant."""
        self._queries: Node = {
            "shop": graph.shop,
            "node": lambda **asked: self._find(asked["id"]),
            "nodes": lambda **asked: [self._find(one) for one in asked["ids"]],
            "order": lambda **asked: self._find(asked["id"], "Order"),
            "orders": lambda **_asked: graph.all("Order"),
            "refund": lambda **asked: self._find(asked["id"], "Refund"),
            "fulfillment": lambda **asked: self._find(asked["id"], "Fulfillment"),
            "fulfillmentOrders": self._fulfillment_orders,
            "product": lambda **asked: self._find(asked["id"], "Product"),
            "products": lambda **_asked: graph.all("Product"),
            "location": lambda **asked: self._find(asked["id"], "Location") if asked.get("id") else None,
            "locations": self._locations,
            "inventoryItem": lambda **asked: graph.item(id_of(asked["id"], "InventoryItem")),
            "inventoryItems": lambda **_asked: graph.items(),
            "inventoryLevel": lambda **asked: self._find(asked["id"], "InventoryLevel"),
            "webhookSubscription": lambda **asked: subscriptions.find(asked["id"]),
            "webhookSubscriptions": lambda **asked: subscriptions.all(
                topics=asked.get("topics"),
                uri=asked.get("uri") or asked.get("callbackUrl"),
                in_format=asked.get("format"),
            ),
        }

    def execute(
        self, document: Document, operation: OperationDefinitionNode, variables: dict[str, Any], now: datetime
    ) -> tuple[dict[str, Any] | None, list[Node]]:
        """Return data and errors of ``operation``."""
        result = execute_sync(
            load_schema(),
            document.tree,
            root_value=self._queries
            | self._mutations(now)
            | {name: partial(_deny, name) for name in self.denied},
            variable_values=variables,
            operation_name=operation.name.value if operation.name else None,
        )
        return result.data, [_say(error) for error in result.errors or ()]

    def set_quantities(self, asked: dict[str, Any], key: str, now: datetime) -> Node:
        """Return the payload of ``inventorySetQuantities``."""
        payload = self._stock.set_quantities(asked, key, now)
        group = payload["inventoryAdjustmentGroup"]
        if group is not None:
            group["changes"] = lambda **_asked: self._graph.changes(group)
        return payload

    def _mutations(self, now: datetime) -> Node:
        at, of = utc_text(now), self._subscriptions
        return {
            "inventorySetQuantities": lambda **asked: self.set_quantities(asked["input"], asked["key"], now),
            "webhookSubscriptionCreate": lambda **asked: of.create(
                asked["topic"], asked["webhookSubscription"], at
            ),
            "webhookSubscriptionUpdate": lambda **asked: of.update(
                asked["id"], asked["webhookSubscription"], at
            ),
            "webhookSubscriptionDelete": lambda **asked: of.delete(asked["id"]),
        }

    def _find(self, text: str, kind: str = "") -> Node | WebhookNode | None:
        if not text.startswith(gid(kind, "") if kind else "gid://shopify/"):
            raise GraphQLError(
                f"Invalid global id '{text}'", extensions={"code": "argumentLiteralsIncompatible"}
            )
        if text.startswith(gid("WebhookSubscription", "")):
            return self._subscriptions.find(text)
        return self._graph.find(text)

    def _locations(self, **asked: Any) -> list[WebhookNode]:
        found = self._graph.locations()
        return found if asked.get("includeInactive") else [node for node in found if node.get("isActive")]

    def _fulfillment_orders(self, **asked: Any) -> list[WebhookNode]:
        found = self._graph.all("FulfillmentOrder")
        if asked.get("includeClosed"):
            return found
        return [node for node in found if node.get("status") not in ("CLOSED", "CANCELLED")]


def _deny(name: str, **_asked: Any) -> None:
    raise GraphQLError(f"Access denied for {name} field.", extensions={"code": "ACCESS_DENIED"})


def _say(error: GraphQLError) -> Node:
    # A value that a variable may not have is found before anything runs, and has no path.
    code = "INTERNAL_SERVER_ERROR" if error.path else "INVALID_VARIABLE"
    said: Node = {"message": error.message, "extensions": {"code": code} | (error.extensions or {})}
    return said | ({"path": list(error.path)} if error.path else {})
