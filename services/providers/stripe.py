"""Webhooks from Stripe: verifies the signature and its age, and finds the object's id.

The library's helper is not used: it takes one secret per call and parses the body, which we only store.
The scheme: ``t=<unix seconds>,v1=<hex>[,v1=<hex>]``, HMAC-SHA256 over ``t.body`` with the whole
``whsec_...`` text as key. Source: stripe-python, ``stripe/_webhook.py``.
"""

import hmac
import secrets as random_secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, get_args

from services.core.fields import find_object
from services.providers.delivery import (
    UNREADABLE,
    WebhookDelivery,
    check_age,
    find_instant,
    find_signer,
    get_signature,
    hash_body,
    id_text,
    is_storable,
    parse_object,
    reject_signature,
    select_headers,
)
from services.providers.provider import MONEY, Provider, SecretKind, WebhookSender

KEPT_HEADERS = ("user-agent",)
IDENTIFYING_HEADERS = frozenset({"stripe-signature"})


def list_event_types() -> tuple[str, ...]:
    """Return the types of Stripe's events, as its library lists those of an endpoint."""
    from stripe.params import WebhookEndpointCreateParams  # takes 0.4 s

    (listed,) = get_args(WebhookEndpointCreateParams.__annotations__["enabled_events"])
    return tuple(name for name in get_args(listed) if name != "*")


def read_stripe_delivery(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes], now: datetime
) -> WebhookDelivery:
    """Return the delivery if one of ``secrets`` (whole ``whsec_`` texts) signed ``t.body``.

    Reads snapshot and thin (v2) events; the delivery key is the event's id. Raises
    ``WebhookRejected("invalid_signature")`` for a missing, malformed, stale or wrong signature.
    """
    sent_at_text, given = _parse_header(get_signature(headers, "Stripe-Signature"))
    message = sent_at_text.encode() + b"." + body
    expected = [hmac.digest(secret, message, "sha256").hex().encode() for secret in secrets if secret]
    if (secret_index := find_signer(given, expected)) is None:
        reject_signature("Stripe-Signature matches none of the shop's secrets")
    check_age(int(sent_at_text), now)

    event = parse_object(body) or {}
    event_id, topic = event.get("id"), event.get("type")
    kept = select_headers(headers, KEPT_HEADERS)
    if not (is_storable(event_id) and is_storable(topic, 128)):
        return WebhookDelivery(
            topic=UNREADABLE,
            delivery_key=hash_body(body),
            headers=kept,
            readable=False,
            secret_index=secret_index,
        )
    return WebhookDelivery(
        topic=str(topic),
        delivery_key=str(event_id),
        headers=kept,
        occurred_at=find_instant(event.get("created")),
        key=stripe_object_key(event),
        secret_index=secret_index,
    )


def stripe_object_key(event: Mapping[str, Any]) -> str:
    """Return the id of the object of ``event``; a refund has its charge's, so that both are done in order."""
    snapshot = find_object(find_object(event, "data"), "object")
    if snapshot.get("object") == "refund":
        return id_text(snapshot.get("charge")) or id_text(snapshot.get("payment_intent"))
    return id_text(snapshot.get("id")) or id_text(event.get("related_object"))


def sign_stripe(body: bytes, secret: bytes, *, now: datetime, **_unsigned: str) -> dict[str, str]:
    sent_at = str(int(now.timestamp()))
    signature = hmac.digest(secret, sent_at.encode() + b"." + body, "sha256").hex()
    return {
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": f"t={sent_at},v1={signature}",
    }


def _parse_header(header: str) -> tuple[str, list[bytes]]:
    """Return the text of ``t`` and every ``v1``; other schemes are ignored."""
    sent_at_text, candidates = "", []
    for part in header.split(","):
        scheme, _, value = part.strip().partition("=")
        if scheme == "t":
            sent_at_text = sent_at_text or value
        elif scheme == "v1":
            candidates.append(value.encode())
    if not sent_at_text.isdecimal() or len(sent_at_text) > 12:
        reject_signature("Stripe-Signature has no t=<unix seconds>")
    if not candidates:
        reject_signature("Stripe-Signature has no v1 signature")
    return sent_at_text, candidates


STRIPE = Provider(
    name="stripe",
    secrets=(
        SecretKind(
            name="stripe-webhook",
            description="the endpoint's signing secret, whsec_...",
            expected="the endpoint's signing secret, which begins with whsec_",
            prefixes=("whsec_",),
            needs_prefix=True,
            is_webhook=True,
            make_value=lambda: "whsec_" + random_secrets.token_hex(32),
        ),
        SecretKind(
            name="stripe-key",
            description="the restricted or secret API key, rk_... or sk_...",
            expected="a secret or restricted key, which begins with sk_ or rk_",
            prefixes=("sk_", "rk_"),
            needs_prefix=True,
        ),
    ),
    read=read_stripe_delivery,
    identifying_headers=IDENTIFYING_HEADERS,
    senders=(WebhookSender(name="stripe", sign=sign_stripe),),
    edit_kinds=((MONEY, "charge.* refund.* payment_intent.* payout.* v1.* v2.*"),),
    topics=(
        ("v2.*", "event_fetch"),
        ("v1.*", "event_fetch"),
        ("charge.*", "transaction_ingest"),
        ("refund.*", "transaction_ingest"),
        ("payment_intent.*", "transaction_ingest"),
        ("payout.*", "transaction_ingest"),
    ),
)
