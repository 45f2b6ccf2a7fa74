"""Parses Quo (OpenPhone) events of calls and messages, in both formats. Pure.

Legacy (``apiVersion`` v4): ``data.object``. Since 2026-03-30: ``data.resource`` and ``data.context``.
Source: Quo's webhook payload reference of both versions.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from services.conversations.addresses import normalize_phone
from services.core.fields import Unreadable, find_instant, find_text, read_instant, read_object, read_text
from services.ledger.work import WorkItem

PARTS = {
    "call.summary.completed": "summary",
    "callSummary": "summary",
    "call.transcript.completed": "transcript",
    "callTranscript": "transcript",
    "call.recording.completed": "recording",
    "call.voicemail.completed": "voicemail",
}
"""Event types of a part of a call. Legacy events may have the name of their object as type."""

_PROGRESS = {
    "call.ringing": 0,
    "call.answered": 1,
    "call.missed": 2,
    "call.forwarded": 2,
    "call.completed": 2,
}


class InteractionUpdate(NamedTuple):
    """The row of an event; ``part`` is empty for an event of the call or message itself.

    ``address`` is the phone number of the other side; empty if the event has none.
    """

    part: str
    row: dict[str, Any]
    address: str

    @property
    def key(self) -> tuple[int, str]:
        """(shop, Quo's id)."""
        return self.row["shop_id"], self.row["provider_id"]


def parse_update(item: WorkItem) -> InteractionUpdate:
    """Return the update in ``item``'s event; raise ``Unreadable`` naming the field."""
    event = read_object(item.body)
    event_type = read_text(event, "type")
    data = event.get("data")
    source, context = _find_source(data if isinstance(data, dict) else {})
    part = PARTS.get(event_type, "")
    created_at = read_instant(event, "createdAt")
    detail = remove_zero_characters({"type": event_type, "object": source, "context": context})
    detail |= {"at": created_at.isoformat()} if part else {"progress": _PROGRESS.get(event_type, 1)}
    try:
        row = {
            "shop_id": item.shop_id,
            "provider_id": find_text(source, "callId") or read_text(source, "id"),
            "version_at": created_at,
            "kind": "call" if part else event_type.partition(".")[0],
            "direction": find_text(source, "direction"),
            "status": "" if part else find_text(source, "status"),
            "participants": _list_participants(source, context),
            "body": "" if part else find_text(source, "text") or find_text(source, "body"),
            "occurred_at": created_at if part else find_instant(source, "createdAt") or created_at,
            "detail": detail,
            "event_id": item.event_id,
            "merchant_id": None,
            "page_id": "",
            "page_state": "",
        }
    except Unreadable as fault:
        raise fault.within("data") from None
    return InteractionUpdate(part, row, find_address(source, context, row["direction"]))


def find_address(source: Mapping[str, Any], context: Mapping[str, Any], direction: str) -> str:
    """Return the phone number of the other side, the first one of a group; empty without one.

    The newer format lists it as external. In the older one a call has the other side as its only participant,
    a message ``from`` and ``to``.
    """
    groups = context.get("participants")
    external = groups.get("external") if isinstance(groups, dict) else None
    sender = [source.get("from"), context.get("senderIdentifier")]
    recipients = [source.get("to"), context.get("recipientIdentifiers")]
    sides = {"incoming": [sender], "outgoing": [recipients]}.get(direction, [])
    participants = source.get("participants")
    is_single = isinstance(participants, list) and len(participants) == 1
    for candidates in (external, *sides, participants if is_single else None):
        for one in _flatten(candidates):
            if number := normalize_phone(one):
                return number
    return ""


def find_row_address(row: Mapping[str, Any]) -> str:
    """Return the address of the other side from a row of ``interactions``; empty while no event has it."""
    detail = row["detail"]
    for event in (detail, *(detail.get(name) for name in sorted(set(PARTS.values())))):
        source, context = (event.get(name) for name in ("object", "context")) if event else (None, None)
        if isinstance(source, dict):
            context = context if isinstance(context, dict) else {}
            if address := find_address(source, context, row["direction"]):
                return address
    return ""


def _flatten(value: object) -> list[object]:
    return [one for entry in value for one in _flatten(entry)] if isinstance(value, list) else [value]


def _find_source(data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    source = data.get("resource", data.get("object"))
    if not isinstance(source, dict):
        raise Unreadable("data.object", source, "the call or message, or data.resource in the newer format")
    context = data.get("context")
    return source, context if isinstance(context, dict) else {}


def _list_participants(source: Mapping[str, Any], context: Mapping[str, Any]) -> list[str]:
    """Return the phone numbers of the conversation, each once; the sender, if known, is first."""
    groups = context.get("participants")
    sides = [groups.get("workspace"), groups.get("external")] if isinstance(groups, dict) else []
    named = [
        source.get("from"),
        source.get("to"),
        source.get("participants"),
        context.get("senderIdentifier"),
        context.get("recipientIdentifiers"),
        *sides,
    ]
    flat = [one for entry in named for one in (entry if isinstance(entry, list) else [entry])]
    return list(dict.fromkeys(one.replace("\0", "") for one in flat if isinstance(one, str) and one))


def remove_zero_characters(value: Any) -> Any:
    """Return ``value`` without zero characters, which PostgreSQL's jsonb cannot store."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [remove_zero_characters(entry) for entry in value]
    if isinstance(value, dict):
        return {key.replace("\0", ""): remove_zero_characters(entry) for key, entry in value.items()}
    return value
