"""A verified webhook, and the field readers that all providers share. Pure.

Every text of a ``WebhookDelivery`` is printable ASCII of bounded length, so that it fits a database row:
the sender chooses the headers.
"""

import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import orjson

from services.core.clock import is_plausible
from services.core.errors import WebhookRejected

UNREADABLE = "unreadable"
"""The topic of a signed body without one."""

INVALID_SIGNATURE = "invalid_signature"
MISSING_HEADER = "missing_header"

MAX_TEXT = 255
MAX_SIGNATURE_HEADER = 4096
TOLERANCE_SECONDS = 300
"""How far a signed timestamp may be from now, in both directions.

Stripe's libraries limit the past only. A timestamp in the future means that our clock is behind (many 401s
show it, and providers retry for days), or that a holder of the secret makes requests with a long life.
"""
TOLERANCE = timedelta(seconds=TOLERANCE_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookDelivery:
    """One webhook whose signature matched.

    ``delivery_key`` stays the same over the provider's retries. ``key`` is the id of the object it is about
    (an order, a charge, a call), or empty. ``readable`` is false for a signed body that differs from the
    provider's documentation: it is stored for a person to review.
    """

    topic: str
    delivery_key: str
    headers: dict[str, str]
    occurred_at: datetime | None = None
    key: str = ""
    readable: bool = True
    shop_domain: str = ""
    """The shop's domain in the sender's unsigned header, in lower case, or empty."""
    secret_index: int = 0
    """The position of the secret that signed it, among those that were given."""


def reject_signature(detail: str) -> NoReturn:
    """Raise ``WebhookRejected``: one code for all signature faults, so that attackers learn nothing."""
    raise WebhookRejected(INVALID_SIGNATURE, detail)


def reject_missing(name: str) -> NoReturn:
    """Raise ``WebhookRejected`` for a missing header. Call it only after the signature matched."""
    raise WebhookRejected(MISSING_HEADER, f"{name} is missing, too long or not plain text")


def is_storable(value: object, longest: int = MAX_TEXT) -> bool:
    """Return whether ``value`` is printable ASCII text of 1 to ``longest`` characters."""
    return isinstance(value, str) and 0 < len(value) <= longest and value.isascii() and value.isprintable()


def select_headers(headers: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """Return the headers among ``names`` that are present and storable."""
    return {name: headers[name] for name in names if name in headers and is_storable(headers[name])}


def parse_object(body: bytes) -> dict[str, Any] | None:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None


def id_text(value: object) -> str:
    """Return an id as text: an integer, storable text, or the ``id`` of an expanded object; else ""."""
    if isinstance(value, dict):
        value = value.get("id")
    if isinstance(value, str):
        return value if is_storable(value) else ""
    return str(value) if type(value) is int else ""


def find_instant(value: object) -> datetime | None:
    """Return the time of an RFC 3339 text with a zone, or of Unix seconds, in UTC; else None.

    Also None for an implausible year. Digits beyond microseconds are cut (Shopify sends nanoseconds).
    """
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            at = moment.astimezone(UTC) if moment.tzinfo else None
        else:
            at = datetime.fromtimestamp(value, UTC) if type(value) is int else None
    except (ValueError, OverflowError, OSError):
        return None
    return at if at and is_plausible(at) else None


def hash_body(body: bytes) -> str:
    """Return a delivery key for a body that has none."""
    return "sha256:" + hashlib.sha256(body).hexdigest()


def decode_key(secret: bytes) -> bytes:
    """Return the HMAC key inside a pasted base64 secret, with or without ``whsec_`` and padding.

    Text that is not base64 is the key itself, so that a dummy secret takes as long as a real one.
    """
    text = secret.removeprefix(b"whsec_")
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error:
        return secret


def get_signature(headers: Mapping[str, str], name: str) -> str:
    """Return the header ``name``, which has the signature; raise ``WebhookRejected`` if it cannot be one."""
    header = headers.get(name.lower(), "")
    if not header or len(header) > MAX_SIGNATURE_HEADER or not header.isascii():
        reject_signature(f"{name} is missing or malformed")
    return header


def find_signer(given: Sequence[bytes], expected: Iterable[bytes]) -> int | None:
    """Return the position of the first of ``expected`` that is among ``given``, or None.

    Every pair is compared, and takes the same time.
    """
    found = None
    for index, signature in enumerate(expected):
        for candidate in given:
            if hmac.compare_digest(signature, candidate) and found is None:
                found = index
    return found


def sign_base64(secret: bytes, message: bytes) -> bytes:
    return binascii.b2a_base64(hmac.digest(decode_key(secret), message, "sha256"), newline=False)


def check_age(sent_at_seconds: float, now: datetime, oldest: timedelta = TOLERANCE) -> None:
    """Refuse a timestamp more than ``oldest`` before ``now``, or ``TOLERANCE_SECONDS`` after it."""
    age_seconds = now.timestamp() - sent_at_seconds
    side, most = ("old", oldest.total_seconds()) if age_seconds > 0 else ("ahead", TOLERANCE_SECONDS)
    if abs(age_seconds) > most:
        reject_signature(f"timestamp is {abs(age_seconds):.0f} s {side}: at most {most:g} s are allowed")
