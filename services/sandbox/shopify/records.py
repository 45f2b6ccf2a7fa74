"""The newest state of every object of a sandbox shop except stock, from the bodies of its webhooks.

So the API returns what a lost webhook contained. Of two states of one object the newer one is stored; of two
within one second, the one received later.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from services.sandbox.faults import ControlInvalid
from services.sandbox.shopify.values import Node, gid, instant, to_snake_case

Body = dict[str, Any]

ORDERS, REFUNDS, TRANSACTIONS, FULFILLMENTS = "orders", "refunds", "order_transactions", "fulfillments"
FULFILLMENT_ORDERS, RETURNS = "fulfillment_orders", "returns"
PRODUCTS, ITEMS, LOCATIONS, LEVELS = "products", "inventory_items", "locations", "inventory_levels"

KINDS = (
    ORDERS, REFUNDS, TRANSACTIONS, FULFILLMENTS, FULFILLMENT_ORDERS, RETURNS, PRODUCTS, ITEMS, LOCATIONS,
)  # fmt: skip
"""The kinds of objects, named as the part of a topic before its slash."""

_TIMES: Mapping[str, tuple[str, ...]] = {
    REFUNDS: ("updated_at", "processed_at", "created_at"),
    TRANSACTIONS: ("processed_at", "created_at"),
}


@dataclass
class Records:
    """Bodies by kind and id. ``shop`` is the body of ``shop/update``."""

    bodies: dict[str, dict[int, Body]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    touched_at: dict[int, str] = field(default_factory=dict)
    """When an order or one of its parts changed last, by the order's id."""
    of_order: dict[str, dict[int, list[int]]] = field(
        default_factory=lambda: {kind: {} for kind in (REFUNDS, TRANSACTIONS, FULFILLMENTS, RETURNS)}
    )
    variants: dict[int, int] = field(default_factory=dict)
    """Product ids by the inventory item id of their variants."""
    items_of_variants: dict[int, int] = field(default_factory=dict)
    shop: Body = field(default_factory=dict)

    def store(self, kind: str, bodies: Iterable[Body]) -> None:
        """Store the newest state of each of ``bodies`` and of the objects in them."""
        for body in bodies:
            try:
                self._store_newest(kind, body)
            except (KeyError, TypeError, ValueError) as fault:
                wrong = f"{kind} needs webhook bodies: {type(fault).__name__} {fault} in {body.get('id')!r}"
                raise ControlInvalid(wrong) from None

    def parts(self, kind: str, order_id: int) -> list[Body]:
        """Return the refunds, transactions, fulfilments or returns of an order, oldest first."""
        found = [self.bodies[kind][number] for number in self.of_order[kind].get(order_id, ())]
        return sorted(found, key=lambda body: (_time_of(kind, body), body["id"]))

    def _store_newest(self, kind: str, body: Body) -> None:
        number, at = int(body["id"]), _time_of(kind, body)
        known = self.bodies[kind].get(number)
        if known is None or _time_of(kind, known) <= at:
            self.bodies[kind][number] = body
        if kind == ORDERS:
            self._touch(number, at)
            self.store(REFUNDS, body.get("refunds") or ())
            self.store(FULFILLMENTS, body.get("fulfillments") or ())
        elif kind in self.of_order:
            order_id = int(body["order_id"])
            numbers = self.of_order[kind].setdefault(order_id, [])
            if number not in numbers:
                numbers.append(number)
            self._touch(order_id, at)
            if kind == REFUNDS:
                self.store(TRANSACTIONS, body.get("transactions") or ())
        elif kind == PRODUCTS:
            for variant in body.get("variants") or ():
                if variant.get("inventory_item_id"):
                    self.variants[int(variant["inventory_item_id"])] = number
                    self.items_of_variants[int(variant["id"])] = int(variant["inventory_item_id"])

    def _touch(self, order_id: int, at: str) -> None:
        self.touched_at[order_id] = max(self.touched_at.get(order_id, ""), at)


def kind_of(type_name: str) -> str:
    """Return the kind of a GraphQL type: ``order_transactions`` for ``OrderTransaction``."""
    return to_snake_case(type_name) + "s"


def _time_of(kind: str, body: Body) -> str:
    for name in _TIMES.get(kind, ("updated_at",)):
        at = instant(body.get(name))
        if at:
            return at
    raise KeyError("updated_at")


@dataclass
class Subscriptions:
    """Webhook subscriptions; nothing is delivered. An address can be subscribed to a topic once."""

    nodes: list[Node] = field(default_factory=list)
    made: int = 0
    denied: set[str] = field(default_factory=set)
    """Topics for which the app lacks a scope."""

    def create(self, topic: str, request: dict[str, Any], at: str) -> Node:
        uri = request.get("uri") or ""
        parts = urlsplit(uri)
        wrong, path = "", ["webhookSubscription", "uri"]
        if topic in self.denied:
            wrong = f"You do not have permission to create or update webhooks with the topic {topic}"
            path = ["topic"]
        elif not uri:
            wrong = "Address can't be blank"
        elif parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost"):
            wrong = f"Address protocol {parts.scheme}:// is not supported"
        elif any((node["topic"], node["uri"]) == (topic, uri) for node in self.nodes):
            wrong = "Address for this topic has already been taken"
        if wrong:
            return {"webhookSubscription": None, "userErrors": [{"field": path, "message": wrong}]}
        self.made += 1
        node = {
            "__typename": "WebhookSubscription",
            "id": gid("WebhookSubscription", self.made),
            "topic": topic,
            "uri": uri,
            "format": request.get("format") or "JSON",
            "createdAt": at,
            "updatedAt": at,
        }
        self.nodes.append(node)
        return {"webhookSubscription": node, "userErrors": []}

    def delete(self, id: str) -> Node:  # noqa: A002 - the argument's name
        """Delete the subscription with the gid ``id``, as our app asks; return the payload."""
        if not any(node["id"] == id for node in self.nodes):
            wrong = {"field": ["id"], "message": "Webhook subscription does not exist"}
            return {"deletedWebhookSubscriptionId": None, "userErrors": [wrong]}
        self.delete_all(id)
        return {"deletedWebhookSubscriptionId": id, "userErrors": []}

    def delete_all(self, name: str) -> None:
        """Delete the subscriptions of a topic, or the one with a gid, as Shopify does after 8 failures."""
        self.nodes = [node for node in self.nodes if name not in (node["topic"], node["id"])]
