"""Sample webhook bodies from the JSON templates in this folder, one file per provider. Pure.

A file has ``bodies`` by topic (names of shared parts begin with ``_``) and ``defaults``, values for all of
them. A text ``{name}`` becomes the value of that name; inside a longer text it is inserted. ``{order.id}`` is
a part of a value. ``{name|format:argument}`` formats it: see ``FORMATS``. A name that ends in ``id`` and has
no value gets a new id, the same in the whole body. All random values come from the given ``random.Random``,
so equal seeds make equal bodies.
"""

import random
import re
import string
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import orjson

Body = dict[str, Any]

_PLACEHOLDER = re.compile(r"\{([\w.]*)(?:\|(\w+)(?::([\w,-]*))?)?\}")
_MINOR_DIGITS: Mapping[str, int] = {"JPY": 0, "KRW": 0, "VND": 0, "BHD": 3, "KWD": 3, "TND": 3}
_ALPHANUMERIC = string.ascii_letters + string.digits


class _Values(dict[str, Any]):
    """The values of one body. Ids that are not given are made when a template uses them."""

    rng: random.Random

    def __missing__(self, name: str) -> Any:
        if not name.endswith("id"):
            raise KeyError(name)
        return self.setdefault(name, big_id(self.rng))

    def find(self, path: str) -> Any:
        """Return the value of a dotted ``path`` through objects and dictionaries."""
        first, *rest = path.split(".")
        value = self[first]
        for name in rest:
            value = value[name] if isinstance(value, dict) else getattr(value, name)
        return value


@cache
def load_templates(provider: str) -> Mapping[str, Mapping[str, Any]]:
    loaded: Mapping[str, Mapping[str, Any]] = orjson.loads(
        Path(__file__).with_name(f"{provider}.json").read_bytes()
    )
    return loaded


def make(provider: str, topic: str, rng: random.Random, **values: Any) -> Body:
    """Return the body of ``topic``. Times of Shopify are ``at``, in ``zone`` (default UTC).

    Raises ``KeyError`` for a missing value and ``TypeError`` for one that no template uses.
    """
    templates = load_templates(provider)
    if unknown := values.keys() - _list_names(provider):
        raise TypeError(f"no template of {provider} uses {', '.join(sorted(unknown))}")
    filled = _Values({"zone": UTC, **templates["defaults"], **values})
    filled.rng = rng
    body: Body = _fill(templates["bodies"][topic], filled)
    return body


@cache
def _list_names(provider: str) -> frozenset[str]:
    """Return the names of the values that the templates of ``provider`` use."""
    templates = load_templates(provider)
    paths = [path for path, *_ in _PLACEHOLDER.findall(orjson.dumps(templates).decode())]
    return frozenset({"zone", "currency", *templates["defaults"], *(path.split(".")[0] for path in paths)})


def _fill(template: Any, values: _Values) -> Any:
    if isinstance(template, dict):
        return {name: _fill(entry, values) for name, entry in template.items()}
    if isinstance(template, list):
        return [_fill(entry, values) for entry in template]
    if not isinstance(template, str):
        return template
    if whole := _PLACEHOLDER.fullmatch(template):
        return _resolve(whole, values)
    return _PLACEHOLDER.sub(lambda part: str(_resolve(part, values)), template)


def _resolve(placeholder: re.Match[str], values: _Values) -> Any:
    path, form, argument = placeholder.groups()
    value = values.find(path) if path else None
    return FORMATS[form](value, values, argument or "") if form else value


def _shift(at: datetime, days: str) -> datetime:
    return at + timedelta(days=int(days or 0))


FORMATS: Mapping[str, Callable[[Any, _Values, str], Any]] = {
    "time": lambda at, values, days: local_text(_shift(at, days), values["zone"]),
    "utc": lambda at, _, days: utc_text(_shift(at, days)),
    "unix": lambda at, _, days: int(_shift(at, days).timestamp()),
    "money": lambda cents, values, _: None if cents is None else decimal_text(cents, values["currency"]),
    "money_set": lambda cents, values, _: money_set(cents, values["currency"]),
    "lower": lambda text, _values, _: text.lower(),
    "token": lambda _, values, shape: token(values.rng, *_token_shape(shape)),
    "code": lambda _, values, length: token(values.rng, "", int(length)).upper(),
    "hex": lambda _, values, prefix: f"{prefix}{values.rng.getrandbits(128):032x}",
    # The range 555-0100 to 555-0199 is reserved for examples.
    "phone": lambda _v, values, _a: f"+1604555{values.rng.randrange(100, 200):04d}",
}
"""Times (the argument shifts them by days), money from minor units, and random values:
``{|token:ch_3,24}`` is a prefix and 24 random characters."""


def _token_shape(text: str) -> tuple[str, int]:
    prefix, _, length = text.partition(",")
    return prefix, int(length or 24)


def dump(payload: Body | list[Body]) -> bytes:
    return orjson.dumps(payload)


def big_id(rng: random.Random) -> int:
    """Return an id above 2**53, which a parser that uses floats would change."""
    return rng.randrange(2**53 + 1, 2**63 - 1)


def token(rng: random.Random, prefix: str, length: int = 24) -> str:
    """Return an id such as ``ch_3xUrru...``."""
    return prefix + "".join(rng.choices(_ALPHANUMERIC, k=length))


def uuid_text(rng: random.Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def minor_digits(currency: str) -> int:
    return _MINOR_DIGITS.get(currency, 2)


def decimal_text(cents: int, currency: str) -> str:
    """Return minor units as Shopify writes money: "19.99" USD, "1999" JPY, "1.999" KWD."""
    digits = minor_digits(currency)
    return f"{Decimal(cents).scaleb(-digits):.{digits}f}"


def minor_units(text: str, currency: str) -> int:
    """Return a text of ``decimal_text`` in minor units."""
    return int(Decimal(text).scaleb(minor_digits(currency)))


def money_set(cents: int, currency: str) -> Body:
    """Return minor units as a webhook's ``..._set``."""
    money = {"amount": decimal_text(cents, currency), "currency_code": currency}
    return {"shop_money": money, "presentment_money": money}


def local_text(at: datetime, zone: tzinfo = UTC) -> str:
    """Return ``at`` in whole seconds with the zone's offset, as Shopify writes times."""
    return at.astimezone(zone).isoformat(timespec="seconds")


def utc_text(at: datetime) -> str:
    """Return ``at`` in milliseconds with a Z, as Quo writes times."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
