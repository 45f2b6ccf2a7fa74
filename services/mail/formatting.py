"""Template filters: names, amounts, times and durations in English, the same in text and HTML. Pure."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any

from services.core.counts import format_count
from services.core.money import MoneyInvalid, format_minor
from services.core.times import format_offset

MINUS = "\N{MINUS SIGN}"

# Control characters, line and paragraph separators, and marks that change the text direction: after U+202E
# in a shop's name the text reads backwards. Zero-width joiners stay: emoji and some scripts need them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_SPACES = re.compile(r"\s+")


def one_line(text: str) -> str:
    """Return ``text`` on one line, without control characters and direction marks."""
    if text.isascii() and text.isprintable() and "  " not in text:
        return text
    return _SPACES.sub(" ", _UNSEEN.sub("", text))


def finalize(value: Any) -> Any:
    """Return what a template prints for ``value``: text on one line, so that it cannot forge another line."""
    return one_line(value) if type(value) is str else value


def money(minor: int, currency: str) -> str:
    """Return an amount for reading: 125000 CAD is "1,250.00 CAD"; an unknown currency shows minor units."""
    try:
        digits, _, code = format_minor(abs(minor), currency).rpartition(" ")
    except MoneyInvalid:
        return f"{format_count(minor, 'minor unit')} of {currency}"
    whole, point, cents = digits.partition(".")
    return f"{MINUS if minor < 0 else ''}{int(whole):,}{point}{cents} {code}"


def change(minor: int, currency: str) -> str:
    """Return a difference, always with its sign: "+12.50 CAD"."""
    return ("+" if minor > 0 else "") + money(minor, currency)


def number(value: int) -> str:
    """Return a count with thousands separators: "12,450"."""
    return f"{value:,}"


def day(value: date) -> str:
    """Return a day: "Fri 20 Nov 2026"."""
    return f"{value:%a} {value.day} {value:%b %Y}"


def moment(context: Mapping[str, Any], value: datetime) -> str:
    """Return a time in the zone of ``context``, with its offset: "Sat 21 Nov 2026, 02:30 -08:00"."""
    if value.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    local = value.astimezone(context["zone"])
    return f"{day(local)}, {local:%H:%M} {format_offset(local)}"


def span(value: timedelta) -> str:
    """Return a duration in its two largest units: "45 min", "2 h 10 min"; a negative one is "0 s"."""
    whole = max(0, int(value.total_seconds()))
    units = ((whole // 86_400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s"))
    parts = [f"{count:,} {unit}" for count, unit in units if count]
    return " ".join(parts[:2]) or "0 s"


@lru_cache(maxsize=1024)
def lines(text: str) -> Sequence[str]:
    """Return ``text`` in lines of at most 72 characters; a longer word has a line of its own."""
    return textwrap.wrap(one_line(text), 72, break_long_words=False, break_on_hyphens=False)


FILTERS = {
    "money": money,
    "change": change,
    "number": number,
    "format_count": format_count,
    "day": day,
    "span": span,
    "lines": lines,
}
