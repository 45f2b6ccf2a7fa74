"""Event webhooks of SendGrid and Resend: what became of a mail. Pure.

SendGrid signs the timestamp and the body with ECDSA (P-256, SHA-256) and sends many events in one body, in
any order and more than once. It tries for 24 hours, with the signature of the first try. Resend sends one
event as Standard Webhooks does, with ``svix-`` headers. Sources: twilio.com/docs/sendgrid, "Event Webhook
Reference" and "Security Features"; resend.com/docs/webhooks.
"""

import binascii
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from services.providers.delivery import (
    UNREADABLE,
    WebhookDelivery,
    check_age,
    find_instant,
    get_signature,
    hash_body,
    reject_signature,
    select_headers,
)
from services.providers.mail_event_payload import OF_RESEND, parse_batch
from services.providers.provider import PLAIN, Provider, SecretInvalid, SecretKind, WebhookSender
from services.providers.standard_webhooks import (
    IDENTIFYING_HEADERS,
    make_secret_kind,
    read_standard_delivery,
    sign_standard,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

SIGNATURE = "x-twilio-email-event-webhook-signature"
TIMESTAMP = "x-twilio-email-event-webhook-timestamp"
BATCH = "events"
"""The topic of a body of SendGrid."""
RETRIED_FOR = timedelta(hours=25)
"""How old SendGrid's signed time may be: it retries for 24 hours without a new signature."""
# The public part of a key that nobody has: an unreadable key takes as long as a wrong one.
_NOBODYS_KEY = (
    b"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEK0iV4BLbw4CdcuvRg7wfB3ZpQ7fZL5zQquMWl2d5YEVe0qBNeCLKDeGZC2udwm4pDBFJ"
    b"V7o4xbkuLD10OCDvRw=="
)


def read_sendgrid_delivery(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes], now: datetime
) -> WebhookDelivery:
    """Return the delivery if one of ``secrets`` (public keys, base64 of DER) verifies timestamp and body.

    The delivery key is the hash of the body, which a retry repeats. Raises
    ``WebhookRejected("invalid_signature")``, also for a time over 25 h ago or 300 s ahead.
    """
    signature = _decode(get_signature(headers, SIGNATURE).encode())
    sent_at = get_signature(headers, TIMESTAMP)
    if not sent_at.isdecimal() or len(sent_at) > 12:
        reject_signature("the timestamp is not Unix seconds")
    message = sent_at.encode() + body
    verified = [_verify(secret, signature, message) for secret in secrets]
    if True not in verified:
        reject_signature(f"{SIGNATURE} matches none of the account's keys")
    check_age(int(sent_at), now, RETRIED_FOR)
    events = parse_batch(body)
    return WebhookDelivery(
        topic=UNREADABLE if events is None else BATCH,
        delivery_key=hash_body(body),
        headers=select_headers(headers, (TIMESTAMP, "user-agent")),
        occurred_at=find_instant(int(sent_at)),
        readable=events is not None,
        secret_index=verified.index(True),
    )


def _decode(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        return b""


@lru_cache(maxsize=256)
def _load_key(secret: bytes) -> "EllipticCurvePublicKey | None":
    """Return the P-256 key in ``secret``, or None. A key pair of ``make_key_pair`` has one too."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    pair = _load_pair(secret)
    try:
        key = pair.public_key() if pair else load_der_public_key(_decode(secret))
    except (ValueError, TypeError):
        return None
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return key
    return None


def _load_pair(secret: bytes) -> "EllipticCurvePrivateKey | None":
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    try:
        key = load_der_private_key(_decode(secret), None)
    except (ValueError, TypeError):
        return None
    return key if isinstance(key, EllipticCurvePrivateKey) else None


def make_key_pair() -> str:
    """Return a new key pair of P-256, base64 of DER, with which ``sign_sendgrid`` signs samples."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pair = generate_private_key(SECP256R1())
    der = pair.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return binascii.b2a_base64(der, newline=False).decode()


def _verify(secret: bytes, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    key = _load_key(secret)
    usable = key or _load_key(_NOBODYS_KEY)
    assert usable is not None  # noqa: S101 - it is in this module
    try:
        usable.verify(signature, message, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return key is not None


def _find_key_fault(text: str) -> str:
    return "" if _load_key(text.encode()) else "is not a public key of P-256"


def sign_sendgrid(body: bytes, secret: bytes, *, now: datetime, **_unsigned: str) -> dict[str, str]:
    """Return the headers that SendGrid sends with ``body``; raise ``SecretInvalid`` without a key pair."""
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    pair = _load_pair(secret)
    if pair is None:
        raise SecretInvalid(
            "sendgrid-webhook-key is SendGrid's, which alone can sign with it: to try samples, "
            "`fleet shops secret SHOP sendgrid-webhook-key --generate` makes a key pair of your own"
        )
    sent_at = str(int(now.timestamp()))
    signature = pair.sign(sent_at.encode() + body, ECDSA(SHA256()))
    encoded = binascii.b2a_base64(signature, newline=False).decode()
    return {"Content-Type": "application/json", SIGNATURE: encoded, TIMESTAMP: sent_at}


def sign_resend(
    body: bytes, secret: bytes, *, webhook_id: str, now: datetime, **_unsigned: str
) -> dict[str, str]:
    """Return the headers that Resend sends with ``body``."""
    headers = sign_standard(body, secret, webhook_id=f"msg_{webhook_id}", now=now)
    return {name.replace("webhook-", "svix-"): value for name, value in headers.items()}


SENDGRID = Provider(
    name="sendgrid",
    secrets=(
        SecretKind(
            name="sendgrid-key",
            description="the SendGrid API key, SG....",
            expected="an API key with the permission Mail Send, which begins with SG.",
            prefixes=("SG.",),
            needs_prefix=True,
        ),
        SecretKind(
            name="sendgrid-webhook-key",
            description="the verification key of SendGrid's signed event webhook",
            expected="the verification key that SendGrid shows, base64 in one line, MFkw...",
            prefixes=(),
            find_fault=_find_key_fault,
            is_webhook=True,
            make_value=make_key_pair,
        ),
    ),
    read=read_sendgrid_delivery,
    identifying_headers=frozenset({SIGNATURE, TIMESTAMP}),
    senders=(WebhookSender(name="sendgrid", sign=sign_sendgrid),),
    fleet_setting="sendgrid_webhook_key",
    edit_kinds=((PLAIN, BATCH),),
    topics=((BATCH, "mail_event"),),
)
RESEND = Provider(
    name="resend",
    secrets=(
        SecretKind(
            name="resend-key",
            description="the Resend API key, re_...",
            expected="an API key, which begins with re_",
            prefixes=("re_",),
            needs_prefix=True,
        ),
        make_secret_kind("resend-webhook", "the signing secret of the Resend webhook, whsec_..."),
    ),
    read=read_standard_delivery,
    identifying_headers=IDENTIFYING_HEADERS,
    senders=(WebhookSender(name="resend", sign=sign_resend),),
    fleet_setting="resend_webhook_secret",
    edit_kinds=((PLAIN, "email.*"),),
    topics=(*((name, "mail_event") for name in OF_RESEND), ("email.received", "mail_ingest")),
)
