"""The sales taxes of a province on a day. The rates are data: ``tax_rates.toml`` in this folder."""

import tomllib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from importlib.resources import files
from itertools import groupby, pairwise
from typing import Any, NamedTuple

from services.core.errors import ShopfleetError, suggest

TAXES = ("GST", "PST", "HST", "QST")
"""The taxes of Canada by their names in the files. Every other tax is ``OTHER``."""

OTHER = "other"
CHANNEL = "channel"
"""Any tax that the sales channel remits, so that the shop must not."""
COLUMNS = (*TAXES, OTHER, CHANNEL)

_RULES = {"rounding": "half_up_per_line", "gift_cards": "not_taxed", "shipping": "as_goods"}
"""The rules that the code applies; the file repeats them for its readers."""


class RatesInvalid(ShopfleetError):
    """The table of rates contradicts itself. The message names the tax, the province and the day."""


class TaxRate(NamedTuple):
    """``tax`` is ``share`` of a price in ``province`` from ``valid_from`` to the day ``valid_until``."""

    tax: str
    province: str
    share: Decimal
    valid_from: date
    valid_until: date | None


@lru_cache(maxsize=4096)
def find_rates(province: str, day: date) -> tuple[TaxRate, ...] | None:
    """Return the taxes of ``province`` (``CA-BC``) on ``day``; None if the table has none."""
    known = _table().get(province, ())
    return tuple(rate for rate in known if rate.valid_from <= day <= (rate.valid_until or day)) or None


def find_place_fault(code: str) -> str:
    """Return why ``code`` is no place of delivery such as ``CA-BC`` or ``US-WA``; nothing if it is one.

    Canada's provinces are those with rates; other countries are those of ISO 3166.
    """
    country, _, part = code.partition("-")
    if country == "CA":
        return "" if code in _table() else suggest(code, _table())
    is_place = country in _countries() and part.isalnum() and part == part.upper() and len(part) <= 3
    return "" if is_place else "should be a country and its province such as CA-BC"


def parse_rates(source: Mapping[str, Any]) -> dict[str, tuple[TaxRate, ...]]:
    """Return the rates of each province; raise ``RatesInvalid`` if the table contradicts itself."""
    if source.get("rules") != _RULES:
        raise RatesInvalid(
            f"rules are {source.get('rules')}: they should be {_RULES}, which the code applies"
        )
    rates = [
        TaxRate(entry["tax"], province, _share(entry), entry["valid_from"], entry.get("valid_until"))
        for entry in source["rate"]
        for province in entry["provinces"]
    ]
    rates.sort(key=lambda rate: (rate.province, TAXES.index(rate.tax), rate.valid_from))
    for old, new in pairwise(rates):
        is_next = (old.province, old.tax) == (new.province, new.tax)
        if is_next and (old.valid_until is None or old.valid_until >= new.valid_from):
            raise RatesInvalid(
                f"{new.tax} of {new.province} has two rates on {new.valid_from}: "
                "end the first with valid_until"
            )
    return {province: tuple(group) for province, group in groupby(rates, key=lambda rate: rate.province)}


def _share(entry: Mapping[str, Any]) -> Decimal:
    try:
        if entry["tax"] in TAXES and isinstance(entry["percent"], str):
            return Decimal(entry["percent"]) / 100
    except InvalidOperation:
        pass
    raise RatesInvalid(
        f"{entry['tax']} has percent={entry['percent']!r}: the tax should be one of {', '.join(TAXES)} "
        "and its percent a text such as '9.975'"
    )


@lru_cache(maxsize=1)
def _countries() -> frozenset[str]:
    lines = files("tzdata.zoneinfo").joinpath("iso3166.tab").read_text("utf-8").splitlines()
    return frozenset(line[:2] for line in lines if not line.startswith("#"))


@lru_cache(maxsize=1)
def _table() -> dict[str, tuple[TaxRate, ...]]:
    return parse_rates(tomllib.loads(files(__package__).joinpath("tax_rates.toml").read_text("utf-8")))
