"""Webhooks from Quo, formerly OpenPhone, which has two webhook systems.

The newer one is Standard Webhooks; the older one signs ``timestamp.body`` in ``openphone-signature:
hmac;1;<ms>;<base64>``. The headers show which one a request uses. A shop may have a secret of each during
the change. Source: quo.com/docs, guides on webhooks.
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
    hash_body,
    id_text,
    is_storable,
    parse_object,
    reject_signature,
    select_headers,
    sign_base64,
)
from services.providers.provider import PLAIN, REFUSED, Provider, SecretKind, WebhookSender, make_whsec
from services.providers.standard_webhooks import IDENTIFYING_HEADERS as STANDARD_HEADERS
from services.providers.standard_webhooks import sign_with_id, verify_standard

KEPT_HEADERS = ("webhook-id", "webhook-timestamp", "user-agent")
IDENTIFYING_HEADERS = STANDARD_HEADERS | {"openphone-signature"}

EVENT_TYPES = (
    "message.received",
    "message.delivered",
    "message.failed",
    "call.ringing",
    "call.answered",
    "call.completed",
    "call.forwarded",
    "call.missed",
    "call.recording.completed",
    "call.voicemail.completed",
    "call.summary.completed",
    "call.transcript.completed",
    "contact.updated",
    "contact.deleted",
)
"""All of the newer system; the older one has most of them."""
# The documentation of the older system uses both names of these topics.
_TOPIC_NAMES = {"callSummary": "call.summary.completed", "callTranscript": "call.transcript.completed"}


def read_openphone_delivery(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes], now: datetime
) -> WebhookDelivery:
    """Return the delivery if one of ``secrets`` (base64, with or without ``whsec_``) signed it.

    The delivery key is ``webhook-id``, or the body's ``id`` in the older system. Raises
    ``WebhookRejected("invalid_signature")``.
    """
    webhook_id = ""
    if "webhook-signature" in headers:
        webhook_id, _, secret_index = verify_standard(headers, body, secrets, now)
    else:
        secret_index = _verify_legacy(headers, body, secrets, now)

    event = parse_object(body) or {}
    topic, delivery_key = event.get("type"), webhook_id or event.get("id")
    kept = select_headers(headers, KEPT_HEADERS)
    if not (is_storable(topic, 128) and is_storable(delivery_key)):
        key = webhook_id or hash_body(body)
        return WebhookDelivery(
            topic=UNREADABLE,
            delivery_key=key,
            headers=kept,
            readable=False,
            secret_index=secret_index,
        )
    return WebhookDelivery(
        topic=_TOPIC_NAMES.get(str(topic), str(topic)),
        delivery_key=str(delivery_key),
        headers=kept,
        occurred_at=find_instant(event.get("createdAt")),
        key=openphone_object_key(event),
        secret_index=secret_index,
    )


def openphone_object_key(event: Mapping[str, Any]) -> str:
    """Return the id of the call, message or task of ``event``; a summary has its call's."""
    data = find_object(event, "data")
    subject = find_object(data, "object") or find_object(data, "resource")
    return id_text(subject.get("callId")) or id_text(subject.get("id"))


def sign_openphone(body: bytes, secret: bytes, *, now: datetime, **_unsigned: str) -> dict[str, str]:
    sent_at_ms = str(int(now.timestamp() * 1000))
    signature = sign_base64(secret, sent_at_ms.encode() + b"." + body)
    return {
        "Content-Type": "application/json",
        "openphone-signature": f"hmac;1;{sent_at_ms};{signature.decode()}",
    }


def _verify_legacy(headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes], now: datetime) -> int:
    """Return the signer's position in ``secrets``; raise ``WebhookRejected``: no genuine and recent entry."""
    entries = []
    for entry in get_signature(headers, "openphone-signature").split(",")[:8]:
        fields = entry.strip().split(";")
        if len(fields) == 4 and fields[:2] == ["hmac", "1"] and fields[2].isdecimal() and len(fields[2]) < 16:
            entries.append((fields[2], fields[3].encode()))
    if not entries:
        reject_signature("openphone-signature has no entry of the form hmac;1;<ms>;<base64>")

    keys = [secret for secret in secrets if decode_key(secret)]
    genuine = []
    for sent_at_ms, given in entries:
        expected = [sign_base64(key, sent_at_ms.encode() + b"." + body) for key in keys]
        if (index := find_signer([given], expected)) is not None:
            genuine.append((int(sent_at_ms), index))
    if not genuine:
        reject_signature("openphone-signature matches none of the shop's secrets")
    newest_ms, secret_index = max(genuine)
    check_age(newest_ms / 1000, now)
    return secret_index


OPENPHONE = Provider(
    name="openphone",
    label="quo",
    has_conversations=True,
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
        WebhookSender(name="openphone", sign=sign_openphone),
        WebhookSender(name="quo", sign=sign_with_id, secret_prefix="whsec_"),  # noqa: S106 - no secret
    ),
    edit_kinds=((REFUSED, "*deleted*"), (PLAIN, "call* message* contact*")),
    topics=(
        ("call*", "interaction_ingest"),
        ("message*", "interaction_ingest"),
        ("contact*", "contact_ingest"),
    ),
)
