"""Parses Shopify's three mandatory privacy topics. Pure.

Source: shopify.dev, "Privacy law compliance": customers/data_request, customers/redact, shop/redact.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from services.core.fields import Unreadable, read_id, read_text
from services.ledger.work import WorkItem
from services.privacy.body_redaction import normalize_email, normalize_phone
from services.shopify.payload import order_gid, read_event

KINDS = {"customers/data_request": "export", "customers/redact": "redact", "shop/redact": "shop_redact"}
"""``privacy_requests.kind``, by Shopify's topic."""

TIME_TO_ANSWER = timedelta(days=30)
"""From receipt: shopify.dev, "confirm ... and complete the action within 30 days"."""


class PrivacyRequest(NamedTuple):
    """The request of one event. Never log it: it identifies a person."""

    kind: str
    shop_id: int
    """Shopify's id of the shop. It and ``shop_domain`` must be those of the shop that received the event."""
    shop_domain: str
    customer_id: int | None
    emails: frozenset[str]
    phones: frozenset[str]
    order_gids: frozenset[str]

    def __repr__(self) -> str:
        return f"PrivacyRequest({self.kind}, customer_id={self.customer_id})"


def parse_privacy_request(item: WorkItem) -> PrivacyRequest:
    """Return the request of ``item``'s event; raise ``Unreadable`` with the field, without personal data."""
    kind = KINDS.get(item.event_topic)
    if kind is None:
        raise Unreadable("the event's topic", item.event_topic, f"one of {', '.join(sorted(KINDS))}")
    source = read_event(item)
    shop = (read_id(source, "shop_id"), read_text(source, "shop_domain").strip().lower())
    if kind == "shop_redact":
        return PrivacyRequest(kind, *shop, None, frozenset(), frozenset(), frozenset())
    customer = source.get("customer")
    if not isinstance(customer, dict):
        raise Unreadable("customer", type(customer).__name__, "an object with the customer's id")
    name = "orders_requested" if kind == "export" else "orders_to_redact"
    orders = source.get(name) or []
    if not isinstance(orders, list):
        raise Unreadable(name, type(orders).__name__, "a list of order ids")
    return PrivacyRequest(
        kind,
        *shop,
        read_id(customer, "id"),
        _known(normalize_email(customer.get("email"))),
        _known(normalize_phone(customer.get("phone"))),
        frozenset(order_gid(_order_id(entry)) for entry in orders),
    )


def _order_id(entry: Any) -> int:
    return read_id(entry if isinstance(entry, Mapping) else {"id": entry}, "id")


def _known(text: str) -> frozenset[str]:
    return frozenset({text}) if text else frozenset()
