"""Webhook subscriptions of one shop of the sandbox. It keeps them; it delivers nothing."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from services.sandbox.shopify.values import Node, gid, id_of

TAKEN = "Address for this topic has already been taken"
NO_SCOPE = "You do not have permission to create or update webhooks with the topic"
NOT_FOUND = "Webhook subscription does not exist"


@dataclass
class Subscriptions:
    """Subscriptions by number. An address can be subscribed to a topic once."""

    by_number: dict[int, Node] = field(default_factory=dict)
    made: int = 0
    denied: set[str] = field(default_factory=set)
    """Topics for which the app lacks a scope."""

    def all(
        self, *, topics: list[str] | None = None, uri: str | None = None, in_format: str | None = None
    ) -> list[Node]:
        """Return the subscriptions of ``topics``, at an address, in a format; without these, all."""
        return [
            node
            for node in self.by_number.values()
            if (topics is None or node["topic"] in topics)
            and node["uri"] == (uri or node["uri"])
            and node["format"] == (in_format or node["format"])
        ]

    def find(self, text: str) -> Node | None:
        """Return the subscription with this gid, or None."""
        return self.by_number.get(id_of(text, "WebhookSubscription"))

    def create(self, topic: str, request: dict[str, Any], at: str) -> Node:
        """Return the payload of ``webhookSubscriptionCreate``."""
        refused = self._refuse(topic, request, None)
        if refused:
            return {"webhookSubscription": None, "userErrors": refused}
        self.made += 1
        node: Node = {
            "__typename": "WebhookSubscription",
            "id": gid("WebhookSubscription", self.made),
            "legacyResourceId": str(self.made),
            "topic": topic,
            "format": "JSON",
            "includeFields": [],
            "createdAt": at,
        }
        self.by_number[self.made] = _updated(node, request, at)
        return {"webhookSubscription": self.by_number[self.made], "userErrors": []}

    def update(self, text: str, request: dict[str, Any], at: str) -> Node:
        """Return the payload of ``webhookSubscriptionUpdate``."""
        node = self.find(text)
        if node is None:
            return {"webhookSubscription": None, "userErrors": [{"field": ["id"], "message": NOT_FOUND}]}
        refused = self._refuse(node["topic"], {"uri": node["uri"]} | request, node)
        if refused:
            return {"webhookSubscription": None, "userErrors": refused}
        self.by_number[int(node["legacyResourceId"])] = node = _updated(node, request, at)
        return {"webhookSubscription": node, "userErrors": []}

    def delete(self, text: str) -> Node:
        """Return the payload of ``webhookSubscriptionDelete``."""
        if self.by_number.pop(id_of(text, "WebhookSubscription"), None) is None:
            wrong = [{"field": ["id"], "message": NOT_FOUND}]
            return {"deletedWebhookSubscriptionId": None, "userErrors": wrong}
        return {"deletedWebhookSubscriptionId": text, "userErrors": []}

    def delete_all(self, name: str) -> None:
        """Delete the subscriptions of a topic, or the one with a gid, as Shopify does after 8 failures."""
        lost = [number for number, node in self.by_number.items() if name in (node["topic"], node["id"])]
        for number in lost:
            del self.by_number[number]

    def _refuse(self, topic: str, request: dict[str, Any], old: Node | None) -> list[Node]:
        if topic in self.denied:
            return [{"field": ["topic"], "message": f"{NO_SCOPE} {topic}"}]
        name = "callbackUrl" if request.get("callbackUrl") else "uri"
        where = ["webhookSubscription", name]
        address = request.get(name)
        if not address:
            return [{"field": where, "message": "Address can't be blank"}]
        parts = urlsplit(address)
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost"):
            return [{"field": where, "message": f"Address protocol {parts.scheme}:// is not supported"}]
        others = (node for node in self.by_number.values() if old is None or node["id"] != old["id"])
        if any(node["topic"] == topic and node["uri"] == address for node in others):
            return [{"field": where, "message": TAKEN}]
        return []


def _updated(node: Node, request: dict[str, Any], at: str) -> Node:
    address = request.get("uri") or request.get("callbackUrl") or node.get("uri")
    given = {
        name: request[name] for name in ("format", "filter", "includeFields", "name") if request.get(name)
    }
    return node | given | {"uri": address, "callbackUrl": address, "updatedAt": at}
