"""Reading what Shopify's bodies have in common: money that may be absent, ids that may be, places. Pure."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from services.core.reading import as_id, as_money, find_text, read_id, read_instant, read_money
from services.ledger.work import WorkItem

_NOTHING: Mapping[str, Any] = {}


def money_or_none(value: object, name: str, currency: str) -> int | None:
    """Return ``value`` in minor units of ``currency``; None when it is None. Junk is ``Unreadable``."""
    if value == "0.00":  # what most discounts and taxes are: spared the parsing, thousands of times a second
        return 0
    return None if value is None else as_money(value, name, currency)


def find_money(source: Mapping[str, Any], name: str, currency: str) -> int | None:
    """Return the field as ``money_or_none`` does."""
    return money_or_none(source.get(name), name, currency)


def find_number_money(source: Mapping[str, Any], name: str, currency: str) -> int | None:
    """Return the field, a decimal string or a JSON number, in minor units; None when absent or null.

    A refund's lines carry their money as a number: 89.99. Its shortest text is the amount that was meant.
    """
    value = source.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return read_money({name: plain_number(value)}, name, currency)
    return find_money(source, name, currency)


def shop_money_or_none(bag: object, currency: str) -> int | None:
    """Return a money bag's amount in the shop's own currency; None where there is no such bag."""
    money = bag.get("shop_money") if isinstance(bag, dict) else None
    return find_money(money, "amount", currency) if isinstance(money, dict) else None


def find_shop_money(source: Mapping[str, Any], name: str, currency: str) -> int | None:
    """Return the field as ``shop_money_or_none`` does."""
    return shop_money_or_none(source.get(name), currency)


def find_shop_currency(source: Mapping[str, Any], name: str) -> str:
    """Return the shop's own currency as a money bag states it; empty where there is none."""
    bag = find_object(source, name).get("shop_money")
    return find_text(bag, "currency_code") if isinstance(bag, dict) else ""


def find_object(source: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the field, a JSON object; an empty one when it is absent or something else."""
    value = source.get(name)
    return value if isinstance(value, dict) else _NOTHING


def id_or_none(value: object, name: str) -> int | None:
    """Return ``value`` as an id; None when it is None. Junk is ``Unreadable``."""
    return None if value is None else as_id(value, name)


def find_id(source: Mapping[str, Any], name: str) -> int | None:
    """Return the field as ``id_or_none`` does."""
    return id_or_none(source.get(name), name)


def find_province(address: Mapping[str, Any]) -> str:
    """Return where an address is, as ISO 3166-2 has it: ``CA-BC``; the country alone where that is all."""
    country = find_text(address, "country_code")
    province = find_text(address, "province_code")
    return f"{country}-{province}" if country and province else country


def plain_number(value: float | str) -> str:
    """Return a number's shortest text without an exponent: 0.05 is "0.05", 1e-05 is "0.00001"."""
    return format(Decimal(repr(value) if isinstance(value, float) else str(value)), "f")


def told_when(source: Mapping[str, Any], item: WorkItem, now: datetime) -> datetime:
    """Return the body's ``updated_at``; where Shopify left it null, when the event tells it happened."""
    return item.told_at(now) if source.get("updated_at") is None else read_instant(source, "updated_at")


def read_gid(source: Mapping[str, Any], name: str) -> int:
    """Return the field, an id or the global id that ends in it (``gid://shopify/Return/12``), as an id."""
    value = source.get(name)
    if isinstance(value, str) and (number := value.rpartition("/")[2]).isascii() and number.isdigit():
        return read_id({name: int(number)}, name)
    return read_id(source, name)


def find_gid(source: Mapping[str, Any], name: str) -> int | None:
    """Return the field as ``read_gid`` does; None when it is absent or null. Junk is ``Unreadable``."""
    return None if source.get(name) is None else read_gid(source, name)
