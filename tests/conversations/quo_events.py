"""Events of a call and of messages, as Quo sends them since 2026-03-30."""

from datetime import UTC, datetime, timedelta
from typing import Any

T0 = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)
OURS = "+15550000001"


def stamp(seconds: float) -> str:
    return (T0 + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def make_event(kind: str, seconds: float, resource: dict[str, Any], number: str) -> dict[str, Any]:
    context = {"participants": {"workspace": [OURS], "external": [number]}}
    return {
        "id": f"EV-{kind}",
        "apiVersion": "2026-03-30",
        "createdAt": stamp(seconds),
        "type": kind,
        "data": {"resource": resource, "context": context, "links": {}},
    }


def make_call(
    call_id: str = "AC1", number: str = "+15550000002", kind: str = "call.completed", seconds: float = 60
) -> dict[str, Any]:
    resource = {
        "id": call_id, "direction": "incoming", "status": "answered", "createdAt": stamp(0), "duration": 55,
    }  # fmt: skip
    if kind == "call.ringing":
        resource |= {"status": "ringing", "duration": None}
    return make_event(kind, seconds, resource, number)


def make_part(
    name: str,
    call_id: str = "AC1",
    number: str = "+15550000002",
    seconds: float = 90,
    text: str = "The weather.",
) -> dict[str, Any]:
    contents: dict[str, dict[str, Any]] = {
        "summary": {"processingStatus": "completed", "summary": [text], "nextSteps": ["Bring an umbrella."]},
        "transcript": {"dialogue": [{"identifier": number, "content": text, "start": 1, "end": 2}]},
        "recording": {"recordings": [{"id": "RE1", "url": f"https://storage.example/{call_id}.mp3"}]},
        "voicemail": {"voicemail": {"url": f"https://storage.example/{call_id}-vm.mp3", "transcript": text}},
    }
    return make_event(f"call.{name}.completed", seconds, {"callId": call_id, **contents[name]}, number)


def make_message(
    message_id: str,
    number: str = "+15550000002",
    text: str = "hello",
    kind: str = "message.received",
    seconds: float = 0,
) -> dict[str, Any]:
    is_ours = kind != "message.received"
    resource = {
        "id": message_id, "direction": "outgoing" if is_ours else "incoming", "text": text,
        "status": kind.rpartition(".")[2], "createdAt": stamp(0),
    }  # fmt: skip
    return make_event(kind, seconds, resource, number)
