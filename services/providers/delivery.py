"""A verified webhook, and the field readers that all providers share. Pure.

Every text of a ``WebhookDelivery`` is printable ASCII of bounded length, so that it fits a database row:
headers are the sender's free text.
"""

import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

import orjson

from services.core.clock import is_plausible
from services.core.errors import Rejected

UNREADABLE = "unreadable"
"""The topic of a signed body that names none."""

INVALID_SIGNATURE = "invalid_signature"
MISSING_HEADER = "missing_header"

MAX_TEXT = 255
MAX_SIGNATURE_HEADER = 4096
TOLERANCE_SECONDS = 300
"""How far a signed timestamp may be from now, in both directions.

Stripe's libraries bound the past only. A timestamp ahead means that our clock is behind (a burst of 401 shows
it, and providers retry for days), or that somebody who holds the secret makes long-lived requests.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookDelivery:
    """One webhook whose signature matched.

    ``delivery_key`` stays the same over the provider's retries. ``key`` names the object it is about
    (an order, a charge, a call); empty when the provider names none. ``readable`` is false for a
    signed body that is not what the provider documents: it is stored for a person to review.
    """

    topic: str
    delivery_key: str
    headers: dict[str, str]
    occurred_at: datetime | None = None
    key: str = ""
    readable: bool = True
    shop_domain: str = ""
    """The shop's domain by the sender's unsigned header, in lower case; empty where there is none."""


def reject(detail: str) -> NoReturn:
    """Raise ``Rejected``: all signature faults have one code, so a stranger learns nothing from it."""
    raise Rejected(INVALID_SIGNATURE, detail)


def reject_missing(name: str) -> NoReturn:
    """Raise ``Rejected`` for a header of a delivery. Only after the signature matched: see ``reject``."""
    raise Rejected(MISSING_HEADER, f"{name} is missing, too long or not plain text")


def is_storable(value: object, longest: int = MAX_TEXT) -> bool:
    """Return whether ``value`` is printable ASCII text of 1 to ``longest`` characters."""
    return isinstance(value, str) and 0 < len(value) <= longest and value.isascii() and value.isprintable()


def keep_headers(headers: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """Return the headers among ``names`` that are present and storable."""
    return {name: headers[name] for name in names if name in headers and is_storable(headers[name])}


def parse_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object that ``body`` is, or None."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None


def id_text(value: object) -> str:
    """Return an id as text: an integer or storable text, or what an expanded object calls ``id``; else ""."""
    if isinstance(value, dict):
        value = value.get("id")
    if isinstance(value, str):
        return value if is_storable(value) else ""
    return str(value) if type(value) is int else ""


def find_instant(value: object) -> datetime | None:
    """Return the moment of an RFC 3339 text with a zone, or of Unix seconds, in UTC; None for others.

    None, too, for a year that no event is of. Digits beyond microseconds are cut (Shopify sends nanoseconds).
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


def body_digest(body: bytes) -> str:
    """Return a delivery key for a body that has none."""
    return "sha256:" + hashlib.sha256(body).hexdigest()


def decode_key(secret: bytes) -> bytes:
    """Return the HMAC key inside a pasted base64 secret, with or without ``whsec_`` and padding.

    What is not base64 is the key itself, so that a dummy secret costs what a real one costs.
    """
    text = secret.removeprefix(b"whsec_")
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error:
        return secret


def get_signature(headers: Mapping[str, str], name: str) -> str:
    """Return the header ``name``, which has the signature; raise ``Rejected`` if it cannot be one."""
    header = headers.get(name.lower(), "")
    if not header or len(header) > MAX_SIGNATURE_HEADER or not header.isascii():
        reject(f"{name} is missing or malformed")
    return header


def is_signed(given: Sequence[bytes], expected: Iterable[bytes]) -> bool:
    """Return whether one of the ``given`` signatures is ``expected``; every pair takes the same time."""
    matched = False
    for signature in expected:
        for candidate in given:
            matched |= hmac.compare_digest(signature, candidate)
    return matched


def sign_base64(secret: bytes, message: bytes) -> bytes:
    """Return the base64 HMAC of ``message`` under the base64 ``secret``."""
    return binascii.b2a_base64(hmac.digest(decode_key(secret), message, "sha256"), newline=False)


def check_age(sent_at_seconds: float, now: datetime) -> None:
    """Refuse a timestamp more than ``TOLERANCE_SECONDS`` before or after ``now``."""
    age_seconds = now.timestamp() - sent_at_seconds
    if abs(age_seconds) > TOLERANCE_SECONDS:
        side = "old" if age_seconds > 0 else "ahead"
        reject(f"timestamp is {abs(age_seconds):.0f} s {side}: at most {TOLERANCE_SECONDS} s are allowed")
