"""One row out of many events: a call, its summary, its transcript, in whatever order they come. Pure."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

from services.conversations.payload import Told

NOT_YET = datetime(1970, 1, 1, tzinfo=UTC)
"""``version_at`` of a row of which only parts are known: any word of the call itself is newer."""


class Interaction(NamedTuple):
    """A call or message as its events told it so far.

    ``detail`` holds the newest event of the call itself under ``object``, ``context`` and ``type``, and
    each part under its own name with the time of its event as ``at``.
    """

    kind: str
    direction: str
    status: str
    participants: tuple[str, ...]
    body: str
    detail: dict[str, Any]
    occurred_at: datetime
    version_at: datetime
    event_id: int | None


def merge_told(known: Interaction | None, told: Told) -> Interaction | None:
    """Return the row with ``told`` in it; None where the row knows as much or newer.

    Whatever the order of the events, the row that comes out is the same one.
    """
    if known is None:
        known = Interaction(told.kind, "", "", (), "", {}, told.occurred_at, NOT_YET, told.event_id)
    return _merge_part(known, told) if told.part else _merge_base(known, told)


def is_repeat(known: Interaction, told: Told) -> bool:
    """Whether the row holds just this word already."""
    if told.part:
        return bool(known.detail.get(told.part, {}).get("at") == told.version_at.isoformat())
    return _version(known) == (told.version_at, told.progress, told.status)


def _version(known: Interaction) -> tuple[datetime, int, str]:
    return (known.version_at, int(known.detail.get("progress", -1)), known.status)


def _merge_base(known: Interaction, told: Told) -> Interaction | None:
    if (told.version_at, told.progress, told.status) <= _version(known):
        return None
    parts = {name: value for name, value in known.detail.items() if name in _PART_NAMES}
    return Interaction(
        kind=told.kind,
        direction=told.direction,
        status=told.status,
        participants=told.participants,
        body=told.body,
        detail={**told.detail, "progress": told.progress, **parts},
        occurred_at=told.occurred_at,
        version_at=told.version_at,
        event_id=told.event_id,
    )


def _merge_part(known: Interaction, told: Told) -> Interaction | None:
    at = told.version_at.isoformat()
    if at <= known.detail.get(told.part, {}).get("at", ""):
        return None
    merged = known._replace(detail={**known.detail, told.part: {"at": at, **told.detail}})
    if known.version_at > NOT_YET:
        return merged
    # Only parts so far: the row shows the earliest of them, until the call itself tells who and when.
    shown = (known.occurred_at, known.direction, known.participants)
    if known.detail and shown <= (told.occurred_at, told.direction, told.participants):
        return merged
    return merged._replace(
        occurred_at=told.occurred_at,
        direction=told.direction,
        participants=told.participants,
        event_id=told.event_id,
    )


_PART_NAMES = frozenset({"summary", "transcript", "recording", "voicemail"})
