"""Parses what the shop floor needs of a Shopify order: due date, storage, notes and items. Pure.

The fields are those of ``note_attributes``, with any of the names in ``NAMES``; the notes are the note.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson

NAMES: Mapping[str, tuple[str, ...]] = {
    "due_at": ("due", "due date", "due at", "pickup date", "delivery date", "ready by"),
    "storage": ("storage", "storage location", "shelf"),
    "assignee": ("assignee", "assigned to"),
}
"""By field: the names of order attributes, in any case; ``_`` and ``-`` count as spaces."""
_LONGEST_NOTE, _LONGEST_FIELD, _MOST_LINES = 2000, 200, 100
_DUE_HOUR = time(17)
"""A due day without a time ends then, in the shop's zone."""


class FloorOrder(NamedTuple):
    """What the board shows of an order, apart from its stage."""

    name: str = ""
    due_at: datetime | None = None
    storage: str = ""
    notes: str = ""
    assignee: str = ""
    lines: Sequence[Mapping[str, Any]] = ()
    cancelled_at: datetime | None = None


def parse_floor_order(body: bytes, zone: ZoneInfo) -> FloorOrder:
    """Return the fields of an order's ``body``. A field that cannot be read is empty."""
    try:
        source = orjson.loads(body)
    except orjson.JSONDecodeError:
        source = {}
    if not isinstance(source, dict):
        source = {}
    given = _read_attributes(source.get("note_attributes"))
    fields = {
        field: next((given[name] for name in names if name in given), "") for field, names in NAMES.items()
    }
    return FloorOrder(
        name=_text(source.get("name")),
        due_at=parse_due(fields["due_at"], zone),
        storage=fields["storage"],
        notes=_text(source.get("note"), _LONGEST_NOTE),
        assignee=fields["assignee"],
        lines=_read_lines(source.get("line_items")),
        cancelled_at=_parse_instant(source.get("cancelled_at")),
    )


def parse_due(text: str, zone: ZoneInfo) -> datetime | None:
    """Return the time of ``text``, a day or time in ISO 8601, by default in ``zone``; None if unreadable."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    if len(text) <= len("2026-12-01"):
        at = datetime.combine(at, _DUE_HOUR)
    if at.tzinfo is None:
        at = at.replace(tzinfo=zone)
    return at.astimezone(UTC) if 2000 <= at.year < 2200 else None


def list_changes(before: FloorOrder, after: FloorOrder) -> list[str]:
    """Return what an edit changed, in words: items first, because they change the work."""
    old, new = _count_items(before.lines), _count_items(after.lines)
    changes = [
        f"{title}: {old.get(title, 0)} -> {new.get(title, 0)}"
        for title in [*new, *(title for title in old if title not in new)]
        if old.get(title, 0) != new.get(title, 0)
    ]
    if before.due_at != after.due_at:
        changes.append("due date changed" if after.due_at else "due date removed")
    changes += [
        f"{name} changed" for name in ("storage", "notes") if getattr(before, name) != getattr(after, name)
    ]
    return changes


def _count_items(lines: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for line in lines:
        counts[line["title"]] = counts.get(line["title"], 0) + line["quantity"]
    return counts


def _read_attributes(source: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in source if isinstance(source, list) else ():
        if isinstance(one, dict) and isinstance(one.get("name"), str):
            name = " ".join(one["name"].lower().replace("_", " ").replace("-", " ").split())
            found.setdefault(name, _text(one.get("value")))
    return found


def _read_lines(source: Any) -> list[Mapping[str, Any]]:
    lines: list[Mapping[str, Any]] = []
    for one in source[:_MOST_LINES] if isinstance(source, list) else ():
        if not isinstance(one, dict):
            continue
        left = one.get("current_quantity")
        quantity = left if type(left) is int else one.get("quantity")
        if type(quantity) is int and quantity > 0:
            lines.append({"title": _text(one.get("title")), "quantity": quantity})
    return lines


def _parse_instant(value: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return at if at is not None and at.tzinfo is not None else None


def _text(value: Any, longest: int = _LONGEST_FIELD) -> str:
    return value.replace("\0", "").strip()[:longest] if isinstance(value, str) else ""
