"""Events in the form of Quo's webhooks from the calls and messages of its lists. Pure.

So an object that was read has the same handler as one that a webhook delivered, and the same row. An event is
as old as the object: the webhook of a later change replaces it.
Source: quo.com/docs/2026-03-30, "Webhook event payloads".
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from services.core.fields import find_instant, find_list, find_object, find_text, read_text

Json = dict[str, Any]
_TIMES = ("createdAt", "answeredAt", "completedAt", "updatedAt")
_OF_CALL = ("id", "direction", "status", *_TIMES, "duration", "forwardedFrom", "forwardedTo")
_OF_MESSAGE = ("id", "direction", "status", "text", "media", "createdAt", "updatedAt")
_MESSAGE_TYPES = {
    "delivered": "message.delivered",
    "undelivered": "message.failed",
    "failed": "message.failed",
}
_DONE = "completed"


def make_call_event(call: Mapping[str, Any]) -> Json:
    """Return the event of the call itself; raise ``Unreadable`` without an id or a readable time."""
    kind = "completed" if call.get("completedAt") else "answered" if call.get("answeredAt") else "ringing"
    resource = _pick(call, _OF_CALL) | {"hasVoicemail": has_voicemail(call)}
    return _make_event(f"call.{kind}", read_text(call, "id"), _find_time(call), resource, _make_context(call))


def make_message_event(message: Mapping[str, Any]) -> Json:
    """Return the event of a message; raise ``Unreadable`` without an id or a readable time."""
    kind = _MESSAGE_TYPES.get(find_text(message, "status"), "message.delivered")
    kind = "message.received" if message.get("direction") == "incoming" else kind
    context = _pick(message, ("phoneNumberId", "conversationId", "userId"))
    context |= {"senderIdentifier": message.get("from"), "recipientIdentifiers": message.get("to")}
    return _make_event(
        kind, read_text(message, "id"), _find_time(message), _pick(message, _OF_MESSAGE), context
    )


def make_part_events(
    call: Mapping[str, Any], recordings: Sequence[Mapping[str, Any]], transcripts: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, Json]]:
    """Yield the name and the event of each part of ``call`` that has content."""
    call_id, at, context = read_text(call, "id"), _find_time(call), _make_context(call)
    summary, voicemail = find_object(call, "summary"), find_object(call, "voicemail")
    found: dict[str, Json] = {}
    if summary.get("status") == _DONE:
        texts = _pick(summary, ("summary", "nextSteps", "jobs", "title"))
        found["summary"] = {"callId": call_id, "processingStatus": _DONE, **texts}
    if has_voicemail(call):
        found["voicemail"] = {**_pick(call, _OF_CALL), "voicemail": dict(voicemail)}
    if files := [dict(one) for one in recordings if one.get("url")]:
        found["recording"] = {**_pick(call, _OF_CALL), "recordings": files}
    if dialogue := [_make_line(line) for one in transcripts for line in find_list(one, "dialogue")]:
        found["transcript"] = {"callId": call_id, "processingStatus": _DONE, "dialogue": dialogue}
    for name, resource in found.items():
        yield name, _make_event(f"call.{name}.completed", call_id, at, resource, context)


def has_voicemail(call: Mapping[str, Any]) -> bool:
    return find_object(call, "voicemail").get("status") == _DONE


def _make_line(line: Mapping[str, Any]) -> Json:
    """Return a line of a transcript: webhooks name the speaker ``userId``, the list ``actorId``."""
    return {"userId": line.get("actorId"), **_pick(line, ("userId", "identifier", "content", "start", "end"))}


def _make_context(call: Mapping[str, Any]) -> Json:
    """Return the context of a call: a participant with an actor belongs to the workspace."""
    sides: dict[str, list[str]] = {"workspace": [], "external": []}
    for one in find_list(call, "participants"):
        side = "workspace" if one.get("actorId") else "external"
        if (number := find_text(one, "phoneNumber")) and number not in sides[side]:
            sides[side].append(number)
    return {"phoneNumberId": call.get("phoneNumberId"), "participants": sides}


def _find_time(source: Mapping[str, Any]) -> str:
    """Return the text of the time at which the object ended or was created, which is readable."""
    name = "completedAt" if find_instant(source, "completedAt") else "createdAt"
    return read_text(source, name)


def _make_event(kind: str, object_id: str, at: str, resource: Json, context: Json) -> Json:
    return {
        "id": f"pull:{kind}:{object_id}:{at}",
        "apiVersion": "2026-03-30",
        "createdAt": at,
        "type": kind,
        "data": {"resource": resource, "context": context},
    }


def _pick(source: Mapping[str, Any], names: Sequence[str]) -> Json:
    return {name: source[name] for name in names if source.get(name) is not None}
