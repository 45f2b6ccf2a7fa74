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
            "node": lambda **args: self._find(args["id"]),
            "nodes": lambda **args: [self._find(one) for one in args["ids"]],
            "order": lambda **args: self._find(args["id"], "Order"),
            "orders": lambda **_args: graph.all("Order"),
            "refund": lambda **args: self._find(args["id"], "Refund"),
            "fulfillment": lambda **args: self._find(args["id"], "Fulfillment"),
            "fulfillmentOrders": self._fulfillment_orders,
            "product": lambda **args: self._find(args["id"], "Product"),
            "products": lambda **_args: graph.all("Product"),
            "location": lambda **args: self._find(args["id"], "Location") if args.get("id") else None,
            "locations": self._locations,
            "inventoryItem": lambda **args: graph.item(id_of(args["id"], "InventoryItem")),
            "inventoryItems": lambda **_args: graph.items(),
            "inventoryLevel": lambda **args: self._find(args["id"], "InventoryLevel"),
            "webhookSubscription": lambda **args: subscriptions.find(args["id"]),
            "webhookSubscriptions": lambda **args: subscriptions.all(
                topics=args.get("topics"),
                uri=args.get("uri") or args.get("callbackUrl"),
                in_format=args.get("format"),
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

    def set_quantities(self, args: dict[str, Any], key: str, now: datetime) -> Node:
        """Return the payload of ``inventorySetQuantities``."""
        payload = self._stock.set_quantities(args, key, now)
        group = payload["inventoryAdjustmentGroup"]
        if group is not None:
            group["changes"] = lambda **_args: self._graph.changes(group)
        return payload

    def _mutations(self, now: datetime) -> Node:
        at, of = utc_text(now), self._subscriptions
        return {
            "inventorySetQuantities": lambda **args: self.set_quantities(args["input"], args["key"], now),
            "webhookSubscriptionCreate": lambda **args: of.create(
                args["topic"], args["webhookSubscription"], at
            ),
            "webhookSubscriptionUpdate": lambda **args: of.update(
                args["id"], args["webhookSubscription"], at
            ),
            "webhookSubscriptionDelete": lambda **args: of.delete(args["id"]),
        }

    def _find(self, text: str, kind: str = "") -> Node | WebhookNode | None:
        if not text.startswith(gid(kind, "") if kind else "gid://shopify/"):
            raise GraphQLError(
                f"Invalid global id '{text}'", extensions={"code": "argumentLiteralsIncompatible"}
            )
        if text.startswith(gid("WebhookSubscription", "")):
            return self._subscriptions.find(text)
        return self._graph.find(text)

    def _locations(self, **args: Any) -> list[WebhookNode]:
        found = self._graph.locations()
        return found if args.get("includeInactive") else [node for node in found if node.get("isActive")]

    def _fulfillment_orders(self, **args: Any) -> list[WebhookNode]:
        found = self._graph.all("FulfillmentOrder")
        if args.get("includeClosed"):
            return found
        return [node for node in found if node.get("status") not in ("CLOSED", "CANCELLED")]


def _deny(name: str, **_args: Any) -> None:
    raise GraphQLError(f"Access denied for {name} field.", extensions={"code": "ACCESS_DENIED"})


def _say(error: GraphQLError) -> Node:
    # A value that a variable may not have is found before anything runs, and has no path.
    code = "INTERNAL_SERVER_ERROR" if error.path else "INVALID_VARIABLE"
    said: Node = {"message": error.message, "extensions": {"code": code} | (error.extensions or {})}
    return said | ({"path": list(error.path)} if error.path else {})
