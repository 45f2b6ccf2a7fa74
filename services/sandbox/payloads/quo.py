"""Bodies of Quo (OpenPhone) webhooks, made up, in both of its systems. Pure."""

import random
from datetime import datetime, timedelta
from typing import Any

from services.sandbox.payloads.common import token, utc_text

_TEXTS = (
    "Hi, is the amber candle back in stock?",
    "Danke, das Paket ist da 🎉",
    "Could I change my address?",
    "Where is my order?",
)


def make_legacy_message(rng: random.Random, *, sent_at: datetime) -> dict[str, Any]:
    """Return the older system's ``message.received``."""
    message = {
        "id": _hex_id(rng, "AC"),
        "object": "message",
        "from": _phone(rng),
        "to": [_phone(rng)],
        "direction": "incoming",
        "text": rng.choice(_TEXTS),
        "status": "delivered",
        "createdAt": utc_text(sent_at),
        "userId": token(rng, "US", 8),
        "phoneNumberId": token(rng, "PN", 8),
        "contactIds": [],
    }
    return _legacy_event(rng, "message.received", message, sent_at)


def make_legacy_call(rng: random.Random, *, ended_at: datetime) -> dict[str, Any]:
    """Return the older system's ``call.completed``."""
    seconds = rng.randint(5, 600)
    call = {
        "id": _hex_id(rng, "AC"),
        "object": "call",
        "direction": rng.choice(("incoming", "outgoing")),
        "status": "completed",
        "answeredAt": utc_text(ended_at - timedelta(seconds=seconds)),
        "completedAt": utc_text(ended_at),
        "createdAt": utc_text(ended_at - timedelta(seconds=seconds + 6)),
        "updatedAt": utc_text(ended_at),
        "duration": seconds,
        "participants": [_phone(rng), _phone(rng)],
        "userId": token(rng, "US", 8),
        "phoneNumberId": token(rng, "PN", 8),
        "contactIds": [],
    }
    return _legacy_event(rng, "call.completed", call, ended_at)


def make_message(rng: random.Random, *, sent_at: datetime) -> dict[str, Any]:
    """Return the newer system's ``message.received``."""
    resource = {
        "id": _hex_id(rng, "AC"),
        "direction": "incoming",
        "text": rng.choice(_TEXTS),
        "media": [],
        "status": "received",
        "createdAt": utc_text(sent_at),
    }
    context = _context(rng) | {"senderIdentifier": _phone(rng), "recipientIdentifiers": [_phone(rng)]}
    return _event(rng, "message.received", resource, context, sent_at)


def make_call(rng: random.Random, *, ended_at: datetime) -> dict[str, Any]:
    """Return the newer system's ``call.completed``."""
    seconds = rng.randint(5, 600)
    resource = {
        "id": _hex_id(rng, "AC"),
        "direction": rng.choice(("incoming", "outgoing")),
        "status": "answered",
        "createdAt": utc_text(ended_at - timedelta(seconds=seconds + 6)),
        "answeredAt": utc_text(ended_at - timedelta(seconds=seconds)),
        "completedAt": utc_text(ended_at),
        "updatedAt": utc_text(ended_at),
        "duration": seconds,
        "hasVoicemail": False,
    }
    people = {"workspace": [_phone(rng)], "external": [_phone(rng)], "resolution": "available"}
    context = _context(rng) | {"phoneNumberType": "shared", "participants": people}
    return _event(rng, "call.completed", resource, context, ended_at)


def make_call_summary(rng: random.Random, call: dict[str, Any], *, made_at: datetime) -> dict[str, Any]:
    """Return the newer system's ``call.summary.completed`` of ``call``, which has the call's id only."""
    resource = {
        "callId": call["data"]["resource"]["id"],
        "processingStatus": "completed",
        "summary": ["The customer asked for a refund of a broken mug."],
        "nextSteps": ["Refund the mug."],
        "handledByAiAgent": False,
    }
    return _event(rng, "call.summary.completed", resource, call["data"]["context"], made_at)


def _legacy_event(rng: random.Random, kind: str, subject: dict[str, Any], at: datetime) -> dict[str, Any]:
    return {
        "id": _hex_id(rng, "EV"),
        "object": "event",
        "apiVersion": "v4",
        "createdAt": utc_text(at),
        "type": kind,
        "data": {"object": subject},
    }


def _event(
    rng: random.Random, kind: str, resource: dict[str, Any], context: dict[str, Any], at: datetime
) -> dict[str, Any]:
    return {
        "id": _hex_id(rng, "EV"),
        "apiVersion": "2026-03-30",
        "createdAt": utc_text(at),
        "type": kind,
        "data": {"resource": resource, "context": context, "links": {"quo": "https://my.quo.com/inbox"}},
    }


def _context(rng: random.Random) -> dict[str, Any]:
    return {
        "orgId": token(rng, "OR", 8),
        "phoneNumberId": token(rng, "PN", 8),
        "conversationId": token(rng, "CN", 12),
        "userId": token(rng, "US", 8),
        "contacts": {"ids": [], "lookupStatus": "unmatched"},
    }


def _phone(rng: random.Random) -> str:
    """Return a number from the range that is never given out (555-01xx)."""
    return f"+1604555{rng.randrange(100, 200):04d}"


def _hex_id(rng: random.Random, prefix: str) -> str:
    return f"{prefix}{rng.getrandbits(128):032x}"
