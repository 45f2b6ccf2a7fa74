"""Webhooks by the Standard Webhooks specification: Quo's newer ones, and those of any other sender.

The signature covers ``id.timestamp.body``. A header may have several signatures; one valid one is enough.
Older senders use the same headers with the prefix ``svix-``. Only ``v1`` (HMAC) is supported: ``v1a`` needs
a public key, and a request with ``v1a`` only is refused as unsigned.
Source: github.com/standard-webhooks/standard-webhooks, ``spec/standard-webhooks.md``.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from services.core.fields import find_object
from services.providers.delivery import (
    UNREADABLE,
    WebhookDelivery,
    check_age,
    decode_key,
    find_instant,
    find_signer,
    get_signature,
    id_text,
    is_storable,
    parse_object,
    reject_signature,
    select_headers,
    sign_base64,
)
from services.providers.provider import Provider, SecretKind, WebhookSender, make_whsec

KEPT_HEADERS = ("webhook-id", "webhook-timestamp", "svix-id", "svix-timestamp", "user-agent")
IDENTIFYING_HEADERS = frozenset(
    f"{prefix}-{name}" for prefix in ("webhook", "svix") for name in ("id", "timestamp", "signature")
)


def read_standard_delivery(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes], now: datetime
) -> WebhookDelivery:
    """Return the delivery if one of ``secrets`` (``whsec_`` texts as pasted) signed it.

    The delivery key is ``webhook-id``, which stays the same over retries. The topic is the body's ``type``,
    or ``untyped``. Raises ``WebhookRejected("invalid_signature")``, also for a time over 300 s from ``now``.
    """
    webhook_id, sent_at_seconds, secret_index = verify_standard(headers, body, secrets, now)
    payload = parse_object(body)
    kept = select_headers(headers, KEPT_HEADERS)
    if payload is None:
        return WebhookDelivery(
            topic=UNREADABLE,
            delivery_key=webhook_id,
            headers=kept,
            readable=False,
            secret_index=secret_index,
        )
    topic = payload.get("type", "untyped")
    is_readable = is_storable(topic, 128)
    return WebhookDelivery(
        topic=str(topic) if is_readable else UNREADABLE,
        delivery_key=webhook_id,
        headers=kept,
        occurred_at=find_instant(payload.get("timestamp")) or find_instant(sent_at_seconds),
        key=standard_object_key(find_object(payload, "data")) if is_readable else "",
        readable=is_readable,
        secret_index=secret_index,
    )


def standard_object_key(data: Mapping[str, Any]) -> str:
    """Return the id of the object in ``data``, from the first field that senders use for it."""
    names = ("id", "object", "resource", "email_id")
    return next(filter(None, (id_text(data.get(name)) for name in names)), "")


def verify_standard(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes], now: datetime
) -> tuple[str, int, int]:
    """Return webhook id, Unix seconds and the signer's position in ``secrets``; raise ``WebhookRejected``."""
    prefix = "webhook-" if "webhook-signature" in headers else "svix-"
    webhook_id = headers.get(prefix + "id", "")
    sent_at_text = headers.get(prefix + "timestamp", "")
    if not is_storable(webhook_id):
        reject_signature("webhook-id is missing, too long or not plain text")
    if not (sent_at_text.isascii() and sent_at_text.isdecimal()) or len(sent_at_text) > 12:
        reject_signature("webhook-timestamp is missing or not Unix seconds")
    signatures = get_signature(headers, prefix + "signature")
    given = [entry[3:].encode() for entry in signatures.split(" ") if entry.startswith("v1,")]
    message = f"{webhook_id}.{sent_at_text}.".encode() + body
    expected = [sign_base64(secret, message) for secret in secrets if decode_key(secret)]
    if (secret_index := find_signer(given, expected)) is None:
        reject_signature("webhook-signature matches none of the shop's secrets")
    check_age(int(sent_at_text), now)
    return webhook_id, int(sent_at_text), secret_index


def sign_standard(body: bytes, secret: bytes, *, webhook_id: str, now: datetime) -> dict[str, str]:
    sent_at = str(int(now.timestamp()))
    signature = sign_base64(secret, f"{webhook_id}.{sent_at}.".encode() + body)
    return {
        "Content-Type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": sent_at,
        "webhook-signature": "v1," + signature.decode(),
    }


def sign_with_id(
    body: bytes, secret: bytes, *, webhook_id: str, now: datetime, **_unsigned: str
) -> dict[str, str]:
    """Return the headers for ``body`` with ``webhook_id`` in the form ``msg_...``."""
    return sign_standard(body, secret, webhook_id=f"msg_{webhook_id}", now=now)


def make_secret_kind(name: str, description: str) -> SecretKind:
    """Return the kind of a signing secret of Standard Webhooks."""
    return SecretKind(
        name=name,
        description=description,
        expected="whsec_ and base64 of 24 to 64 bytes",
        prefixes=("whsec_",),
        is_base64=True,
        is_webhook=True,
        make_value=make_whsec,
    )


STANDARD = Provider(
    name="standard",
    secrets=(make_secret_kind("standard-webhook", "the whsec_... secret of {source}"),),
    read=read_standard_delivery,
    identifying_headers=IDENTIFYING_HEADERS,
    has_sources=True,
    source_topics={"mail": "mail_ingest"},
    senders=(WebhookSender(name="standard", sign=sign_with_id),),
)
