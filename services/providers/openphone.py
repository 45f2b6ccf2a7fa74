"""Webhooks from Quo, the former OpenPhone, which has two systems side by side.

The newer one is Standard Webhooks; the older one signs ``timestamp.body`` in ``openphone-signature:
hmac;1;<ms>;<base64>``. Which one a request uses shows in its headers. A shop may hold a secret of each
while it moves over. Source: quo.com/docs, guides on webhooks.
"""

import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from services.core.fields import find_object
from services.providers.delivery import (
    MAX_SIGNATURE_HEADER,
    UNREADABLE,
    WebhookDelivery,
    body_digest,
    check_age,
    decode_key,
    encode_digest,
    find_instant,
    id_text,
    is_storable,
    keep_headers,
    parse_object,
    reject,
)
from services.providers.provider import Provider, SecretKind, WebhookSender, make_whsec
from services.providers.standard_webhooks import IDENTIFYING_HEADERS as STANDARD_HEADERS
from services.providers.standard_webhooks import sign_with_id, verify_standard

TOLERANCE_SECONDS = 300

KEPT_HEADERS = ("webhook-id", "webhook-timestamp", "user-agent")
IDENTIFYING_HEADERS = STANDARD_HEADERS | {"openphone-signature"}

# The older system's documentation shows these two where its list of events has the other names.
_TOPIC_NAMES = {
    "callSummary": "call.summary.completed",
    "callTranscript": "call.transcript.completed",
}


def read_openphone_delivery(
    headers: Mapping[str, str],
    body: bytes,
    secrets: Sequence[bytes],
    now: datetime,
    *,
    tolerance_seconds: int = TOLERANCE_SECONDS,
) -> WebhookDelivery:
    """Return what was delivered, once one of ``secrets`` (base64, with or without ``whsec_``) signed it.

    The delivery key is ``webhook-id``, or the body's ``id`` in the older system. A wider
    ``tolerance_seconds`` suits an endpoint whose retries come with their first timestamp. Raises
    ``Rejected("invalid_signature")``.
    """
    webhook_id = ""
    if "webhook-signature" in headers:
        webhook_id, _ = verify_standard(headers, body, secrets, now, tolerance_seconds)
    else:
        _verify_legacy(headers.get("openphone-signature", ""), body, secrets, now, tolerance_seconds)

    event = parse_object(body) or {}
    topic, delivery_key = event.get("type"), webhook_id or event.get("id")
    kept = keep_headers(headers, KEPT_HEADERS)
    if not (is_storable(topic, 128) and is_storable(delivery_key)):
        key = webhook_id or body_digest(body)
        return WebhookDelivery(topic=UNREADABLE, delivery_key=key, headers=kept, readable=False)
    return WebhookDelivery(
        topic=_TOPIC_NAMES.get(str(topic), str(topic)),
        delivery_key=str(delivery_key),
        headers=kept,
        occurred_at=find_instant(event.get("createdAt")),
        key=object_key(event),
    )


def object_key(event: Mapping[str, Any]) -> str:
    """Return which call, message or task ``event`` is about; a summary is about its call."""
    data = find_object(event, "data")
    subject = find_object(data, "object") or find_object(data, "resource")
    return id_text(subject.get("callId")) or id_text(subject.get("id"))


def sign_openphone(body: bytes, secret: bytes, *, now: datetime) -> dict[str, str]:
    """Return the headers of the older system for ``body`` at ``now``."""
    sent_at_ms = str(int(now.timestamp() * 1000))
    digest = hmac.digest(decode_key(secret), sent_at_ms.encode() + b"." + body, "sha256")
    return {
        "Content-Type": "application/json",
        "openphone-signature": f"hmac;1;{sent_at_ms};{encode_digest(digest).decode()}",
    }


def _verify_legacy(
    header: str, body: bytes, secrets: Sequence[bytes], now: datetime, tolerance_seconds: int
) -> None:
    """Pass if some entry of ``header`` is genuine and fresh; raise ``Rejected`` otherwise."""
    if not header or len(header) > MAX_SIGNATURE_HEADER or not header.isascii():
        reject("openphone-signature (or webhook-signature) is missing or malformed")
    entries = []
    for entry in header.split(",")[:8]:
        fields = entry.strip().split(";")
        if len(fields) == 4 and fields[:2] == ["hmac", "1"] and fields[2].isdecimal() and len(fields[2]) < 16:
            entries.append((fields[2], fields[3].encode()))
    if not entries:
        reject("openphone-signature has no entry of the form hmac;1;<ms>;<base64>")

    matched_ms = 0
    for secret in secrets:
        key = decode_key(secret)
        if not key:
            continue
        for sent_at_ms, given in entries:
            expected = encode_digest(hmac.digest(key, sent_at_ms.encode() + b"." + body, "sha256"))
            if hmac.compare_digest(expected, given):
                matched_ms = max(matched_ms, int(sent_at_ms))
    if not matched_ms:
        reject("openphone-signature matches none of the shop's secrets")
    check_age(matched_ms / 1000, now, tolerance_seconds)


def _sign(body: bytes, key: bytes, *, now: datetime, **_unsigned: str) -> dict[str, str]:
    return sign_openphone(body, key, now=now)


OPENPHONE = Provider(
    name="openphone",
    label="quo",
    secrets=(
        SecretKind(
            name="openphone-webhook",
            description="Quo's whsec_... secret or OpenPhone's base64 signing key",
            expected="whsec_ and base64, or the older signing key, which is base64",
            prefixes=("whsec_",),
            is_base64=True,
            is_webhook=True,
            make_value=make_whsec,
        ),
        SecretKind(name="quo-key", description="the Quo (OpenPhone) API key"),
    ),
    read=read_openphone_delivery,
    identifying_headers=IDENTIFYING_HEADERS,
    senders=(
        WebhookSender(name="openphone", sign=_sign),
        WebhookSender(name="quo", sign=sign_with_id, secret_prefix="whsec_"),  # noqa: S106 - no secret
    ),
    topics=(("call*", "interaction_ingest"), ("message*", "interaction_ingest")),
)
