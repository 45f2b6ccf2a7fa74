"""What all made-up payloads share: ids, money and times as providers write them. Pure.

Everything comes from the ``random.Random`` that is passed in, so one seed gives one day, always.
"""

import random
import string
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import orjson

_MINOR_DIGITS = MappingProxyType({"JPY": 0, "KRW": 0, "VND": 0, "BHD": 3, "KWD": 3, "TND": 3})
_ALPHANUMERIC = string.ascii_letters + string.digits


def dump(payload: dict[str, Any]) -> bytes:
    """Return the bytes to sign and send."""
    return orjson.dumps(payload)


def big_id(rng: random.Random) -> int:
    """Return an id beyond 2**53, which a reader that takes numbers for floats gets wrong."""
    return rng.randrange(2**53 + 1, 2**63 - 1)


def token(rng: random.Random, prefix: str, length: int = 24) -> str:
    """Return an id such as ``ch_3xUrru...``."""
    return prefix + "".join(rng.choices(_ALPHANUMERIC, k=length))


def uuid_text(rng: random.Random) -> str:
    """Return a random UUID in its usual form."""
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def decimal_text(cents: int, currency: str) -> str:
    """Return minor units as Shopify writes money: "19.99" USD, "1999" JPY, "1.999" KWD."""
    digits = _MINOR_DIGITS.get(currency, 2)
    if digits == 0:
        return str(cents)
    sign, cents = ("-", -cents) if cents < 0 else ("", cents)
    return f"{sign}{cents // 10**digits}.{cents % 10**digits:0{digits}d}"


def minor_units(text: str, currency: str) -> int:
    """Return what ``decimal_text`` wrote, in minor units."""
    return int(Decimal(text).scaleb(_MINOR_DIGITS.get(currency, 2)))


def money_set(cents: int, currency: str) -> dict[str, Any]:
    """Return minor units as a webhook's ``..._set``."""
    money = {"amount": decimal_text(cents, currency), "currency_code": currency}
    return {"shop_money": money, "presentment_money": money}


def local_text(at: datetime, zone: tzinfo = UTC) -> str:
    """Return ``at`` in whole seconds with the zone's offset, as Shopify writes times."""
    return at.astimezone(zone).isoformat(timespec="seconds")


def utc_text(at: datetime) -> str:
    """Return ``at`` in milliseconds with a Z, as Quo writes times."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
