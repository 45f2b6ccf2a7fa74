"""What became of a mail, from the bodies of SendGrid's and Resend's event webhooks. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from services.core.fields import Unreadable, find_object, read_object
from services.core.log_redaction import redact_text
from services.providers.delivery import find_instant, hash_body, id_text

MAIL_REFERENCE = "shopfleet_mail"
MAIL_KEY = "shopfleet_message"
"""Names of the custom arguments (SendGrid) or tags (Resend) with a mail's id and its idempotency key."""

DELIVERED, DEFERRED, BOUNCED, SOFT_BOUNCED = "delivered", "deferred", "bounced", "soft_bounced"
DROPPED, COMPLAINED, UNSUBSCRIBED = "dropped", "complained", "unsubscribed"
EVENT_KINDS = (DELIVERED, DEFERRED, BOUNCED, SOFT_BOUNCED, DROPPED, COMPLAINED, UNSUBSCRIBED)

_OF_SENDGRID = {
    "delivered": DELIVERED,
    "deferred": DEFERRED,
    "bounce": BOUNCED,
    "blocked": SOFT_BOUNCED,
    "dropped": DROPPED,
    "spamreport": COMPLAINED,
    "unsubscribe": UNSUBSCRIBED,
    "group_unsubscribe": UNSUBSCRIBED,
}
_DROPPED_BECAUSE = {
    "bounced address": BOUNCED,
    "bounced": BOUNCED,
    "invalid": BOUNCED,
    "spam reporting address": COMPLAINED,
    "unsubscribed address": UNSUBSCRIBED,
}
"""What SendGrid knew of the address when it dropped a mail."""
OF_RESEND = {
    "email.delivered": DELIVERED,
    "email.delivery_delayed": DEFERRED,
    "email.bounced": BOUNCED,
    "email.failed": DROPPED,
    "email.suppressed": DROPPED,
    "email.complained": COMPLAINED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MailEvent:
    """One event of one mail. ``cause`` is what makes a suppression of the address: a kind, or empty.

    ``mail_id`` and ``mail_key`` are ours, as they were sent with the mail; ``provider_id`` is the service's.
    ``detail`` has no address.
    """

    event_id: str
    kind: str
    cause: str
    address: str
    at: datetime | None
    mail_id: int
    mail_key: str
    provider_id: str
    detail: str


def list_sendgrid_events(body: bytes) -> list[MailEvent]:
    """Return the events of ``body`` that concern the delivery of a mail; opens and clicks are left out."""
    objects = (one for one in parse_batch(body) or () if isinstance(one, dict))
    return [event for one in objects if (event := _parse_sendgrid(one)) is not None]


def find_resend_event(body: bytes) -> MailEvent | None:
    """Return the event of ``body``, whose hash is its id; None if it concerns no delivery.

    Raises ``Unreadable`` if it has no object ``data``.
    """
    parsed = read_object(body)
    kind = OF_RESEND.get(str(parsed.get("type")))
    if kind is None:
        return None
    data = parsed.get("data")
    if not isinstance(data, dict):
        raise Unreadable("data", data, "an object")
    bounce = find_object(data, "bounce")
    if kind == BOUNCED and bounce.get("type") != "Permanent":
        kind = SOFT_BOUNCED
    tags, to = data.get("tags"), data.get("to")
    if isinstance(tags, list):
        tags = {_text(one.get("name")): one.get("value") for one in tags if isinstance(one, dict)}
    own = tags if isinstance(tags, dict) else {}
    return MailEvent(
        event_id=hash_body(body),
        kind=kind,
        cause=kind if kind in (BOUNCED, COMPLAINED) else "",
        address=_text(to[0] if isinstance(to, list) and to else to),
        at=find_instant(parsed.get("created_at")),
        mail_id=_number(own.get(MAIL_REFERENCE)),
        mail_key=id_text(own.get(MAIL_KEY)),
        provider_id=id_text(data.get("email_id")),
        detail=_detail(bounce.get("subType"), bounce.get("message")),
    )


def parse_batch(body: bytes) -> list[Any] | None:
    """Return the elements of a body of SendGrid, or None if it is not a list or has no object among them."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(parsed, list) or (parsed and not any(isinstance(one, dict) for one in parsed)):
        return None
    return parsed


def list_unreadable(body: bytes) -> list[int]:
    """Return the places, from 1, of the elements of ``body`` that are not objects: no events."""
    return [place for place, one in enumerate(parse_batch(body) or (), 1) if not isinstance(one, dict)]


def _parse_sendgrid(one: Mapping[str, Any]) -> MailEvent | None:
    kind = _OF_SENDGRID.get(str(one.get("event")))
    if kind is None:
        return None
    if kind == BOUNCED and one.get("type") == "blocked":
        kind = SOFT_BOUNCED
    cause = kind if kind in (BOUNCED, COMPLAINED, UNSUBSCRIBED) else ""
    if kind == DROPPED:
        cause = _DROPPED_BECAUSE.get(_text(one.get("reason")).lower(), "")
    canonical = orjson.dumps(one, option=orjson.OPT_SORT_KEYS)
    return MailEvent(
        event_id=id_text(one.get("sg_event_id")) or hashlib.sha256(canonical).hexdigest(),
        kind=kind,
        cause=cause,
        address=_text(one.get("email")),
        at=find_instant(one.get("timestamp")),
        mail_id=_number(one.get(MAIL_REFERENCE)),
        mail_key=id_text(one.get(MAIL_KEY)),
        provider_id=id_text(one.get("sg_message_id")).partition(".")[0],
        detail=_detail(one.get("status"), one.get("reason") or one.get("response")),
    )


def _detail(*texts: object) -> str:
    return redact_text(" ".join(filter(None, map(_text, texts))))[:300]


def _text(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return value.replace("\0", "").encode("utf-8", "replace").decode()[:1000].strip()


def _number(value: object) -> int:
    text = id_text(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0
