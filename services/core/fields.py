"""Validated access to the fields of a provider's JSON.

``as_`` checks a value, ``read_`` a field that must exist, ``find_`` a field that may be absent or null: it
returns None for it. Each raises ``Unreadable``, which names the field and what would be right.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson

from services.core.clock import FIRST_YEAR, LAST_YEAR, is_plausible
from services.core.errors import Refused
from services.core.log_redaction import quote_value
from services.core.money import MoneyInvalid, to_minor

T = TypeVar("T")
Item = TypeVar("Item")

LARGEST_ID = 2**63 - 1
LARGEST_COUNT = 2**31 - 1
_WITHIN_YEARS = f"of the years {FIRST_YEAR} to {LAST_YEAR}"


class Unreadable(Exception):
    """One field of a body is missing or wrong.

    ``code`` is the error code of the refusal, if it differs from that of the kind of body.
    """

    code = ""

    def __init__(self, field: str, found: object, wanted: str) -> None:
        super().__init__(f"{field} is {quote_value(found, field)}: it should be {wanted}")
        self.field, self.found, self.wanted = field, found, wanted

    def within(self, place: str) -> "Unreadable":
        """Return the same fault with the full path of its field: ``line_items[2].price``."""
        return Unreadable(f"{place}.{self.field}", self.found, self.wanted)


def parse_items(items: Sequence[Item], read: Callable[[Item], T], code: str) -> list[T | Refused]:
    """Return the result of ``read`` for each item, in order; ``Refused`` for an ``Unreadable`` one."""
    answers: list[T | Refused] = []
    for item in items:
        try:
            answers.append(read(item))
        except Unreadable as fault:
            answers.append(Refused(fault.code or code, str(fault)))
    return answers


def read_object(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise Unreadable("the body", body, f"a JSON object ({fault})") from None
    if type(value) is not dict:
        raise Unreadable("the body", value, "a JSON object")
    return value


def as_id(value: object, name: str) -> int:
    """Return ``value`` as a provider's id: a whole number from 1 to 2**63 - 1."""
    if type(value) is int and 0 < value <= LARGEST_ID:
        return value
    raise Unreadable(name, value, "a whole number from 1 to 2**63 - 1")


def id_or_none(value: object, name: str) -> int | None:
    """Return ``value`` as ``as_id`` does; None when it is None."""
    return None if value is None else as_id(value, name)


def as_count(value: object, name: str) -> int:
    """Return ``value`` as a whole number that fits 32 bits, of either sign."""
    if type(value) is int and -LARGEST_COUNT <= value <= LARGEST_COUNT:
        return value
    raise Unreadable(name, value, "a whole number within 32 bits")


def as_text(value: object, name: str) -> str:
    """Return ``value`` as text that is not empty, without NUL characters."""
    if type(value) is str and value:
        return value.replace("\0", "")
    raise Unreadable(name, value, "text")


def text_or_empty(value: object) -> str:
    """Return ``value`` if it is text, else "". Removes NUL characters, which PostgreSQL cannot store."""
    return value.replace("\0", "") if type(value) is str else ""


def find_text(source: Mapping[str, Any], name: str) -> str:
    """Return the field as text; empty when it is absent, null or something else."""
    return text_or_empty(source.get(name))


def as_money(value: object, name: str, currency: str) -> int:
    """Return ``value``, a decimal string, in minor units of ``currency``."""
    try:
        return to_minor(value, currency)  # type: ignore[arg-type] # it refuses other types
    except MoneyInvalid as fault:
        raise Unreadable(name, value, f"an amount of money ({fault})") from None


def as_instant(value: object, name: str) -> datetime:
    """Return ``value``, an ISO 8601 text with an offset, as an aware moment in UTC."""
    try:
        moment = datetime.fromisoformat(value)  # type: ignore[arg-type] # it refuses other types
        if moment.tzinfo is not None and is_plausible(at := moment.astimezone(UTC)):
            return at
    except (ValueError, TypeError, OverflowError):
        pass
    raise Unreadable(
        name, value, f"a time with its offset, such as 2026-11-20T09:30:00-08:00, {_WITHIN_YEARS}"
    )


def read_epoch(source: Mapping[str, Any], name: str) -> datetime:
    """Return the field, seconds since 1970, as an aware moment."""
    value = source.get(name)
    if type(value) is int and 0 <= value < 2**35 and is_plausible(at := datetime.fromtimestamp(value, UTC)):
        return at
    raise Unreadable(name, value, f"seconds since 1970, {_WITHIN_YEARS}")


def as_object(value: object, name: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise Unreadable(name, value, "an object")


def as_list(value: object, name: str) -> list[dict[str, Any]]:
    if type(value) is list and all(type(entry) is dict for entry in value):
        return value
    raise Unreadable(name, value, "a list of objects")


def find_object(source: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the field, a JSON object; an empty one when it is absent, null or something else."""
    value = source.get(name)
    return value if isinstance(value, dict) else {}


def find_list(source: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the field as ``as_list`` does; an empty list when it is absent, null or empty."""
    return as_list(value, name) if (value := source.get(name)) else []


def _required(check: Callable[..., T]) -> Callable[..., T]:
    def read(source: Mapping[str, Any], name: str, *args: str) -> T:
        return check(source.get(name), name, *args)

    return read


def _optional(check: Callable[..., T]) -> Callable[..., T | None]:
    def find(source: Mapping[str, Any], name: str, *args: str) -> T | None:
        return None if (value := source.get(name)) is None else check(value, name, *args)

    return find


read_id, find_id = _required(as_id), _optional(as_id)
read_instant, find_instant = _required(as_instant), _optional(as_instant)
read_money, find_money = _required(as_money), _optional(as_money)
read_count, read_text, read_list = _required(as_count), _required(as_text), _required(as_list)
LONGEST_TEXT = 2000
"""Characters of a note or a reason."""
