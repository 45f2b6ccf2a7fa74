"""Names of time zones that people type: which are valid, and which zone an abbreviation or a city means."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from services.core.errors import did_you_mean

_NO_CITY = frozenset(("EST", "HST", "MST", "localtime", "Factory"))
"""Valid for ``ZoneInfo``, but no place, or without the daylight saving time that people mean."""
_MEANT = {
    "hst": ("Pacific/Honolulu",),
    "akst akdt": ("America/Anchorage",),
    "pst pdt pt pacific": ("America/Los_Angeles", "America/Vancouver"),
    "mst mdt mt mountain": ("America/Denver", "America/Edmonton", "America/Phoenix"),
    "cst cdt ct central": ("America/Chicago", "America/Winnipeg"),
    "est edt et eastern": ("America/New_York", "America/Toronto"),
    "ast adt atlantic": ("America/Halifax",),
    "nst ndt newfoundland": ("America/St_Johns",),
    "bst": ("Europe/London",),
    "cest": ("Europe/Paris", "Europe/Berlin"),
    "eest": ("Europe/Athens",),
    "ist": ("Asia/Kolkata",),
    "jst": ("Asia/Tokyo",),
    "aest aedt": ("Australia/Sydney",),
    "nzst nzdt": ("Pacific/Auckland",),
}
"""Zones by the abbreviations and words that people use for them in lower case."""
_OFFSET = re.compile(r"(?:utc|gmt)?\s*([+-])(\d\d?)(?::?(\d\d))?", re.IGNORECASE)


def is_zone(raw: str) -> bool:
    """Return whether ``raw`` is the IANA name of a zone that a fleet or a shop may have."""
    try:
        return raw not in _NO_CITY and bool(ZoneInfo(raw))
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of zones, or too long for a file's name
        return False


def describe_zone_fault(raw: str) -> str:
    """Return what ``raw`` should be instead, and the zones that it may mean."""
    return f"should be an IANA name such as America/Vancouver{suggest_zones(raw)}"


def suggest_zones(raw: str) -> str:
    """Return ``; did you mean 'ZONE'?`` with the zones that ``raw`` may mean, or an empty text.

    ``raw`` is an abbreviation (PST), an offset (UTC+1), the name of a city (New York), or a misspelt zone.
    """
    typed = raw.strip().casefold()
    word = re.sub(r"\s+(standard |daylight )?time\b.*$", "", typed)
    if offset := _OFFSET.fullmatch(typed):
        found = _list_at_offset(offset)
        return f"; an offset has no daylight saving time: did you mean {_join(found)}?" if found else ""
    known = sorted(name for name in available_timezones() if "/" in name and not name.startswith("Etc/"))
    found = next((zones for words, zones in _MEANT.items() if word in words.split()), ())
    city = re.sub(r"[\s.]+", "_", typed)
    found = found or tuple(name for name in known if name.casefold().rpartition("/")[2] == city)
    return f"; did you mean {_join(found[:3])}?" if found else did_you_mean(raw, known)


def _list_at_offset(offset: re.Match[str]) -> tuple[str, ...]:
    sign, hours, minutes = offset.groups()
    wanted = timedelta(hours=int(hours), minutes=int(minutes or 0)) * (-1 if sign == "-" else 1)
    winter = datetime(2026, 1, 1, tzinfo=UTC)
    zones = [zone for of_words in _MEANT.values() for zone in of_words]
    return tuple(zone for zone in zones if winter.astimezone(ZoneInfo(zone)).utcoffset() == wanted)


def _join(zones: tuple[str, ...]) -> str:
    return " or ".join(map(repr, zones))
