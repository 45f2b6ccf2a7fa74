"""Webhook subscriptions of one shop of the sandbox. It keeps them; it delivers nothing."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from services.sandbox.shopify.values import Node, gid


@dataclass
class Subscriptions:
    """The subscriptions in ``nodes``. An address can be subscribed to a topic once."""

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

    def delete_all(self, name: str) -> None:
        """Delete the subscriptions of a topic, or the one with a gid, as Shopify does after 8 failures."""
        self.nodes = [node for node in self.nodes if name not in (node["topic"], node["id"])]
