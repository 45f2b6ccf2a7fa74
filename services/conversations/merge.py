"""Merge events into one row: a call, its summary, its transcript, in any order of arrival. Pure."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

from services.conversations.payload import PARTS, InteractionUpdate

NO_CALL_YET = datetime(1970, 1, 1, tzinfo=UTC)
"""``version_at`` of a row of which only parts are known: any event of the call itself is newer."""


class Interaction(NamedTuple):
    """A call or message.

    ``detail`` holds the newest event of the call itself under ``object``, ``context`` and ``type``, and each
    part under its own name with the time of its event as ``at``.
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


def merge_update(known: Interaction | None, update: InteractionUpdate) -> Interaction | None:
    """Return the row with ``update`` in it; None where the row is as new or newer.

    The row is the same for any order of the events.
    """
    if known is None:
        known = Interaction(update.kind, "", "", (), "", {}, update.occurred_at, NO_CALL_YET, update.event_id)
    return _merge_part(known, update) if update.part else _merge_base(known, update)


def is_repeat(known: Interaction, update: InteractionUpdate) -> bool:
    """Whether the row holds exactly this event already."""
    if update.part:
        return bool(known.detail.get(update.part, {}).get("at") == update.version_at.isoformat())
    return _version(known) == (update.version_at, update.progress, update.status)


def _version(known: Interaction) -> tuple[datetime, int, str]:
    return (known.version_at, int(known.detail.get("progress", -1)), known.status)


def _merge_base(known: Interaction, update: InteractionUpdate) -> Interaction | None:
    if (update.version_at, update.progress, update.status) <= _version(known):
        return None
    parts = {name: value for name, value in known.detail.items() if name in PARTS.values()}
    shared = {name: getattr(update, name) for name in Interaction._fields}
    return Interaction(**shared | {"detail": {**update.detail, "progress": update.progress, **parts}})


def _merge_part(known: Interaction, update: InteractionUpdate) -> Interaction | None:
    at = update.version_at.isoformat()
    if at <= known.detail.get(update.part, {}).get("at", ""):
        return None
    merged = known._replace(detail={**known.detail, update.part: {"at": at, **update.detail}})
    if known.version_at > NO_CALL_YET:
        return merged
    # Only parts so far: the row shows the earliest of them until an event of the call itself arrives.
    shown = (known.occurred_at, known.direction, known.participants)
    if known.detail and shown <= (update.occurred_at, update.direction, update.participants):
        return merged
    return merged._replace(
        occurred_at=update.occurred_at,
        direction=update.direction,
        participants=update.participants,
        event_id=update.event_id,
    )
