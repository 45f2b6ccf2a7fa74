"""Webhooks from Shopify: verifies the signature and finds the object's id.

The signature covers the body only, no header and no time. So the route and its secret decide the shop, never
a header, and only the delivery key prevents a replay.
Source: shopify-api-js, ``hmac-validator.ts`` and ``webhooks/validate.ts``.
"""

import hmac
import secrets as random_secrets
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from services.core.fields import find_object
from services.providers.delivery import (
    WebhookDelivery,
    find_instant,
    find_signer,
    get_signature,
    id_text,
    is_storable,
    parse_object,
    reject_missing,
    reject_signature,
    select_headers,
)
from services.providers.provider import MONEY, PLAIN, REFUSED, Provider, SecretKind, WebhookSender

API_VERSION = "2026-07"

_PREFIXES = ("x-shopify-", "shopify-")
_KEPT = (
    "shop-domain", "api-version", "event-id", "triggered-at", "name", "handle", "action", "resource-id",
)  # fmt: skip
KEPT_HEADERS = (*(prefix + name for prefix in _PREFIXES for name in _KEPT), "user-agent")
IDENTIFYING_HEADERS = frozenset(
    prefix + name
    for prefix in _PREFIXES
    for name in ("hmac-sha256", "topic", "webhook-id", "shop-domain", "triggered-at")
)

_ID_NAMES = (
    "id", "fulfillment_order", "original_fulfillment_order", "shipment_id", "admin_graphql_api_id", "shop_id",
)  # fmt: skip
"""The fields that may have the id of a payload's object, or an object with it; the first present counts."""

_ORDER_ID_TOPICS = ("refunds/", "order_transactions/", "fulfillments/")


def read_shopify_delivery(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes], now: datetime
) -> WebhookDelivery:
    """Return the delivery if one of ``secrets`` (the app's, as UTF-8) signed ``body``.

    Header names are lower case, with the prefix ``x-shopify-`` or ``shopify-`` (Events preview). Topic and
    webhook id identify the delivery: a signed body without them is ``WebhookRejected("missing_header")``. The
    shop's domain and the API version are optional, because they are unsigned. ``now`` is unused: there is
    no timestamp to check. Raises ``WebhookRejected("invalid_signature")``.
    """
    del now
    prefix = "x-shopify-" if "x-shopify-hmac-sha256" in headers else "shopify-"
    given = get_signature(headers, prefix + "hmac-sha256").encode()
    if not body:
        reject_signature("the body is empty")
    expected = [b64encode(hmac.digest(secret, body, "sha256")) for secret in secrets if secret]
    if (secret_index := find_signer([given], expected)) is None:
        reject_signature("X-Shopify-Hmac-Sha256 matches none of the shop's secrets")

    topic = headers.get(prefix + "topic", "")
    webhook_id = headers.get(prefix + "webhook-id", "")
    if not is_storable(topic, 128):
        reject_missing("X-Shopify-Topic")
    if not is_storable(webhook_id):
        reject_missing("X-Shopify-Webhook-Id")

    parsed = parse_object(body)
    occurred_at = find_instant(headers.get(prefix + "triggered-at"))
    if parsed is not None and occurred_at is None:
        occurred_at = find_instant(parsed.get("updated_at")) or find_instant(parsed.get("created_at"))
    return WebhookDelivery(
        topic=topic,
        delivery_key=webhook_id,
        headers=select_headers(headers, KEPT_HEADERS),
        occurred_at=occurred_at,
        key="" if parsed is None else shopify_object_key(topic, parsed),
        readable=parsed is not None,
        shop_domain=headers.get(prefix + "shop-domain", "").strip().lower(),
        secret_index=secret_index,
    )


def shopify_object_key(topic: str, payload: Mapping[str, Any]) -> str:
    """Return the id of the object of ``payload``; for refunds, transactions and fulfillments the order's."""
    if topic.startswith("orders/"):
        order_id = (
            id_text(payload.get("id"))
            or id_text(payload.get("order_id"))
            or id_text(find_object(payload, "order_edit").get("order_id"))
        )
        return id_text(payload.get("admin_graphql_api_id")) or _order_gid(order_id)
    if topic.startswith(_ORDER_ID_TOPICS):
        return _order_gid(id_text(payload.get("order_id")))
    if topic.startswith("inventory_levels/"):
        item_id, location_id = id_text(payload.get("inventory_item_id")), id_text(payload.get("location_id"))
        return f"{item_id}:{location_id}" if item_id and location_id else ""
    if topic in ("customers/data_request", "customers/redact"):
        return id_text(find_object(payload, "customer").get("id"))
    return next(filter(None, (id_text(payload.get(name)) for name in _ID_NAMES)), "")


def sign_shopify(
    body: bytes,
    secret: bytes,
    *,
    topic: str,
    webhook_id: str,
    domain: str,
    now: datetime | None = None,
    event_id: str = "",
) -> dict[str, str]:
    """Return the headers that Shopify sends with ``body``; ``now`` is the time of the event."""
    headers = {
        "Content-Type": "application/json",
        "X-Shopify-Topic": topic,
        "X-Shopify-Hmac-Sha256": b64encode(hmac.digest(secret, body, "sha256")).decode(),
        "X-Shopify-Shop-Domain": domain,
        "X-Shopify-API-Version": API_VERSION,
        "X-Shopify-Webhook-Id": webhook_id,
    }
    if event_id:
        headers["X-Shopify-Event-Id"] = event_id
    if now is not None:
        headers["X-Shopify-Triggered-At"] = f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z"
    return headers


def _order_gid(order_id: str) -> str:
    return f"gid://shopify/Order/{order_id}" if order_id else ""


_TOPICS = {
    "order_ingest": """
        orders/create orders/updated orders/edited orders/paid orders/cancelled orders/fulfilled
        orders/partially_fulfilled orders/delete""",
    "order_notice_ingest": "orders/risk_assessment_changed orders/shopify_protect_eligibility_changed",
    "refund_ingest": "refunds/create",
    "order_transaction_ingest": "order_transactions/create",
    "fulfillment_ingest": "fulfillments/*",
    "fulfillment_order_ingest": "fulfillment_orders/*",
    "fulfillment_event_ingest": "fulfillment_events/*",
    "return_ingest": "returns/* reverse_deliveries/*",
    "reverse_fulfillment_order_ingest": "reverse_fulfillment_orders/*",
    "tender_transaction_ingest": "tender_transactions/create",
    "shopify_dispute_ingest": "disputes/*",
    "product_ingest": "products/*",
    "variant_stock_ingest": "variants/in_stock variants/out_of_stock",
    "inventory_item_ingest": "inventory_items/*",
    "inventory_level_ingest": "inventory_levels/*",
    "inventory_transfer_ingest": "inventory_transfers/*",
    "inventory_shipment_ingest": "inventory_shipments/*",
    "location_ingest": "locations/*",
    "privacy_export": "customers/data_request",
    "privacy_redact": "customers/redact shop/redact",
    "customer_ingest": "customers/*",
    "storefront_ingest": "shop/update",
    "uninstall_confirm": "app/uninstalled",
}
"""The event topics of each work topic; the first match counts, so privacy comes before ``customers/*``."""

SHOPIFY = Provider(
    name="shopify",
    secrets=(
        SecretKind(
            name="shopify-webhook",
            description="the app's client secret that signs Shopify's webhooks",
            expected="the app's client secret (or the one under Settings > Notifications)",
            prefixes=("shpss_",),
            is_webhook=True,
            make_value=lambda: random_secrets.token_hex(32),
        ),
        SecretKind(
            name="shopify-token",
            description="the Admin API access token, shpat_...",
            expected="the Admin API access token, which begins with shpat_",
            prefixes=("shpat_", "shpca_"),
            needs_prefix=True,
        ),
        SecretKind(
            name="shopify-refresh-token",
            description="the refresh token that came with an expiring token, shprt_...",
            expected="the refresh token given with an expiring token; it begins with shprt_",
            prefixes=("shprt_",),
            needs_prefix=True,
        ),
        SecretKind(
            name="shopify-client-id",
            description="the app's client id, which refreshes expiring tokens",
            expected="the app's client id (the API key of the Dev Dashboard), 32 characters",
            prefixes=(),
        ),
        SecretKind(
            name="shopify-client-secret",
            description="the app's client secret, which refreshes expiring tokens",
            expected="the app's client secret, which begins with shpss_",
            prefixes=("shpss_",),
        ),
    ),
    read=read_shopify_delivery,
    identifying_headers=IDENTIFYING_HEADERS,
    senders=(WebhookSender(name="shopify", sign=sign_shopify),),
    edit_kinds=(
        (REFUSED, "*/delete inventory_levels/disconnect app/uninstalled"),
        (REFUSED, "customers/data_request customers/redact shop/redact"),
        (MONEY, "orders/* refunds/* order_transactions/* tender_transactions/* disputes/*"),
        (MONEY, "shop/update inventory_items/*"),  # currency and taxes; cost of goods
        (PLAIN, "fulfillments/* fulfillment_orders/* fulfillment_events/*"),
        (PLAIN, "returns/* reverse_deliveries/* reverse_fulfillment_orders/*"),
        (PLAIN, "products/* variants/* inventory_levels/* inventory_transfers/* inventory_shipments/*"),
        (PLAIN, "locations/* customers/*"),
    ),
    topics=tuple((pattern, work) for work, patterns in _TOPICS.items() for pattern in patterns.split()),
    call_points={"inventory_push": 10},
    refusals_until_dropped=8,
)
