"""Readers of fields that Shopify's payloads share: money, ids, provinces. Pure."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from math import isfinite
from types import MappingProxyType
from typing import Any, Self, TypeGuard, TypeVar

from services.core.fields import (
    LARGEST_ID,
    Unreadable,
    find_id,
    find_object,
    find_text,
    read_id,
    read_instant,
)
from services.core.money import MoneyInvalid, format_minor, round_to_minor, to_minor
from services.ledger.work import WorkItem

T = TypeVar("T")


class MoneyReader:
    """Reads the amounts of one payload, in minor units of ``currency``, and collects ``doubts``.

    A doubt names a field that is not as Shopify documents it, and what is recorded in its place. Inside a
    loop over ``each``, doubts name the list and the index too; used as a context, so does ``Unreadable``.
    """

    __slots__ = ("_path", "currency", "doubts")

    def __init__(self, currency: str) -> None:
        self.currency, self.doubts = currency, list[str]()
        self._path: list[_ListPlace] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: object, fault: BaseException | None, _trace: object) -> None:
        if isinstance(fault, Unreadable) and self._path:
            raise fault.within(".".join(map(str, self._path))) from None

    def each(self, name: str, entries: Sequence[T]) -> Iterator[T]:
        """Yield ``entries``, the list ``name``. The loop must run to its end, or raise."""
        place = _ListPlace(name)
        self._path.append(place)
        for place.index, entry in enumerate(entries):
            yield entry
        self._path.pop()

    @property
    def index(self) -> int:
        """The index of the entry that the innermost loop over ``each`` is at."""
        return self._path[-1].index

    def doubt(self, text: str) -> None:
        """Add a doubt about the field with which ``text`` begins."""
        self.doubts.append(".".join([*map(str, self._path), text]))

    def amount(self, value: object, name: str, currency: str = "") -> int:
        """Return ``value``, a decimal string, of ``currency`` if it is another than the reader's.

        A JSON number counts as its shortest text, and decimals beyond the currency's are rounded half away
        from zero: each is a doubt. Anything else is ``Unreadable``.
        """
        currency = currency or self.currency
        try:
            return to_minor(value, currency)  # type: ignore[arg-type] # it refuses what is not text
        except MoneyInvalid as fault:
            text = plain_number(value) if is_number(value) else value
            try:
                cents = round_to_minor(text, currency)  # type: ignore[arg-type] # likewise
            except MoneyInvalid:
                raise Unreadable(name, value, f"an amount of money ({fault})") from None
        self.doubt(f"{name} is {text!r}: {format_minor(cents, currency)} is recorded")
        return cents

    def amount_or_none(self, value: object, name: str) -> int | None:
        """Return what ``amount`` does; None when ``value`` is None."""
        if value == "0.00":  # most discounts and taxes: parsing is skipped
            return 0
        return None if value is None else self.amount(value, name)

    def shop_amount(self, bag: object, name: str) -> int | None:
        """Return the shop's amount in the money bag ``bag``; None where there is no such bag."""
        money = bag.get("shop_money") if isinstance(bag, dict) else None
        if not isinstance(money, dict):
            return None
        return self.amount_or_none(money.get("amount"), f"{name}.shop_money.amount")

    def field(self, source: Mapping[str, Any], name: str) -> int:
        """Return the shop's amount in ``<name>_set``, else ``name``; 0 without either, or without a currency.

        The lines of a refund state money as a number, 89.99: here its shortest text is no doubt.
        """
        if not self.currency:
            return 0
        in_bag = self.shop_amount(source.get(f"{name}_set"), f"{name}_set")
        value = source.get(name)
        if in_bag is not None or value is None:
            return in_bag or 0
        return self.amount(plain_number(value) if is_number(value) else value, name)


class _ListPlace:
    __slots__ = ("index", "name")

    def __init__(self, name: str) -> None:
        self.name, self.index = name, 0

    def __str__(self) -> str:
        return f"{self.name}[{self.index}]"


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether ``value`` is a finite JSON number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def find_shop_currency(source: Mapping[str, Any], name: str) -> str:
    """Return the shop's own currency as a money bag states it; empty where there is none."""
    bag = find_object(source, name).get("shop_money")
    return find_text(bag, "currency_code") if isinstance(bag, dict) else ""


def gid_number(gid: str | None) -> int | None:
    """Return the id that ends a global id (``gid://shopify/Order/123``); None where it ends in none."""
    number = (gid or "").rpartition("/")[2]
    is_id = len(number) < 20 and number.isascii() and number.isdecimal() and int(number) <= LARGEST_ID
    return int(number) if is_id else None


_PROVINCES = MappingProxyType(
    {
        "alberta": "AB", "british columbia": "BC", "colombie-britannique": "BC", "manitoba": "MB",
        "new brunswick": "NB", "nouveau-brunswick": "NB", "newfoundland and labrador": "NL",
        "newfoundland": "NL", "terre-neuve-et-labrador": "NL", "northwest territories": "NT",
        "territoires du nord-ouest": "NT", "nova scotia": "NS", "nouvelle-ecosse": "NS", "nunavut": "NU",
        "ontario": "ON", "prince edward island": "PE", "ile-du-prince-edouard": "PE", "quebec": "QC",
        "saskatchewan": "SK", "yukon": "YT", "yukon territory": "YT",
    }
)  # fmt: skip
"""Canada's provinces by name without accents, for an address without the code."""


def find_province(address: Mapping[str, Any]) -> str:
    """Return the ISO 3166-2 code of an address (``CA-BC``); the country alone where no province is known.

    A province of Canada is found by its code or by its name in English or French.
    """
    country = find_text(address, "country_code")
    if not country and _plain(find_text(address, "country")) == "canada":
        country = "CA"
    province = find_text(address, "province_code")
    if not province and country == "CA":
        name = _plain(find_text(address, "province"))
        province = _PROVINCES.get(name) or (name.upper() if name.upper() in _PROVINCES.values() else "")
    return f"{country}-{province}" if country and province else country


def _plain(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name.strip().casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def plain_number(value: float | str) -> str:
    """Return a number's shortest text without an exponent: 0.05 is "0.05", 1e-05 is "0.00001"."""
    return format(Decimal(repr(value) if isinstance(value, float) else str(value)), "f")


def order_gid(order_id: int) -> str:
    """Return the global id of an order, its name in Shopify's GraphQL and in this ledger."""
    return f"gid://shopify/Order/{order_id}"


def find_order_gid(source: Mapping[str, Any]) -> str:
    """Return the global id of the order of the field ``order_id``; empty where it is absent or null."""
    order_id = find_id(source, "order_id")
    return order_gid(order_id) if order_id else ""


def updated_at_or_event_time(source: Mapping[str, Any], item: WorkItem, now: datetime) -> datetime:
    """Return the field ``updated_at``; where it is null, the time of the event."""
    return item.event_time(now) if source.get("updated_at") is None else read_instant(source, "updated_at")


def read_gid(source: Mapping[str, Any], name: str) -> int:
    """Return the field, an id or the global id that ends in it (``gid://shopify/Return/12``), as an id."""
    value = source.get(name)
    if isinstance(value, str) and (number := value.rpartition("/")[2]).isascii() and number.isdigit():
        return read_id({name: int(number)}, name)
    return read_id(source, name)


def find_gid(source: Mapping[str, Any], name: str) -> int | None:
    """Return the field as ``read_gid`` does; None when it is absent or null. Junk is ``Unreadable``."""
    return None if source.get(name) is None else read_gid(source, name)
