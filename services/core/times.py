"""Times for people: the one format of commands, messages, mails and pages."""

from datetime import datetime, tzinfo

from services.core.settings import get_settings


def format_time(at: datetime | None, zone: tzinfo | None = None, *, with_seconds: bool = False) -> str:
    """Return ``at`` in ``zone`` (by default the fleet's): "2026-11-29 07:00 -07:00"; "-" for none.

    The offset, not an abbreviation: Vancouver's is "MST" since 2026, and an hour that occurs twice differs.
    """
    if at is None:
        return "-"
    local = at.astimezone(zone or get_settings().zone)
    clock = local.replace(tzinfo=None).isoformat(" ", "seconds" if with_seconds else "minutes")
    return f"{clock} {format_offset(local)}"


def format_moment(value: object, zone: tzinfo) -> object:
    """Return a time, also one as ISO text such as the period of an incident, in ``zone``; else ``value``."""
    if isinstance(value, str) and "T" in value:
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            return value
        return value if at.tzinfo is None else format_time(at, zone, with_seconds=True)
    return format_time(value, zone, with_seconds=True) if isinstance(value, datetime) else value


def format_offset(local: datetime) -> str:
    """Return the offset of an aware time: "-07:00", or "UTC" for none."""
    text = f"{local:%z}"
    return f"{text[:3]}:{text[3:5]}" if local.utcoffset() else "UTC"
