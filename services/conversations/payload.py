"""Parse Quo (OpenPhone) events of calls and messages, in both of their envelopes. Pure.

Legacy (``apiVersion`` v4): ``data.object``. Since 2026-03-30: ``data.resource`` and ``data.context``.
Source: Quo's webhook payload reference of both versions.
"""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from services.core.fields import Unreadable, find_instant, find_text, read_instant, read_object, read_text
from services.ledger.work import WorkItem

PARTS = MappingProxyType(
    {
        "call.summary.completed": "summary",
        "callSummary": "summary",
        "call.transcript.completed": "transcript",
        "callTranscript": "transcript",
        "call.recording.completed": "recording",
        "call.voicemail.completed": "voicemail",
    }
)
"""Event types of one part of a call. The legacy ones may come as the name of their object."""

_PROGRESS = MappingProxyType({"call.ringing": 0, "call.answered": 1, "call.completed": 2})


class InteractionUpdate(NamedTuple):
    """The content of one event. ``part`` is empty for an event of the call or message itself."""

    shop_id: int
    provider_id: str
    part: str
    version_at: datetime
    progress: int
    kind: str
    direction: str
    status: str
    participants: tuple[str, ...]
    body: str
    occurred_at: datetime
    detail: dict[str, Any]
    event_id: int | None

    @property
    def key(self) -> tuple[int, str]:
        """(shop, Quo's id)."""
        return (self.shop_id, self.provider_id)


def parse_update(item: WorkItem) -> InteractionUpdate:
    """Return the content of ``item``'s event; raise ``Unreadable`` naming the field."""
    event = read_object(item.body)
    event_type = read_text(event, "type")
    data = event.get("data")
    source, context = _find_source(data if isinstance(data, dict) else {})
    part = PARTS.get(event_type, "")
    created_at = read_instant(event, "createdAt")
    try:
        return InteractionUpdate(
            shop_id=item.shop_id,
            provider_id=find_text(source, "callId") or read_text(source, "id"),
            part=part,
            version_at=created_at,
            progress=_PROGRESS.get(event_type, 1),
            kind="call" if part else event_type.partition(".")[0],
            direction=find_text(source, "direction"),
            status="" if part else find_text(source, "status"),
            participants=_participants(source, context),
            body="" if part else find_text(source, "text") or find_text(source, "body"),
            occurred_at=created_at if part else find_instant(source, "createdAt") or created_at,
            detail=_storable({"type": event_type, "object": source, "context": context}),
            event_id=item.event_id,
        )
    except Unreadable as fault:
        raise fault.within("data") from None


def _find_source(data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    source = data.get("resource", data.get("object"))
    if not isinstance(source, dict):
        raise Unreadable("data.object", source, "the call or message, or data.resource in the newer envelope")
    context = data.get("context")
    return source, context if isinstance(context, dict) else {}


def _participants(source: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the phone numbers of the conversation, each once; the sender is first where it is named."""
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
    return tuple(dict.fromkeys(one.replace("\0", "") for one in flat if isinstance(one, str) and one))


def _storable(value: Any) -> Any:
    r"""Return ``value`` without zero characters, which PostgreSQL's jsonb cannot hold."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [_storable(entry) for entry in value]
    if isinstance(value, dict):
        return {key.replace("\0", ""): _storable(entry) for key, entry in value.items()}
    return value
