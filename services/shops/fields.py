"""The fields of a shop: how each is checked. Pure."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from services.core.errors import did_you_mean
from services.core.money import CURRENCIES, is_amount
from services.core.setting_urls import is_full_address
from services.core.zone_names import is_zone, suggest_zones
from services.providers.notion import is_object_id

OF_POOL = "pool:"
"""Prefix of the name of a pool, which owns the stock levels of several shops together."""


_RATE = re.compile(r"([A-Z]{3})/(?!\1)([A-Z]{3})=([0-9]{1,9}(?:\.[0-9]{1,9})?)?")


def _is_full_address_or_empty(raw: str) -> bool:
    return not raw or is_full_address(raw)


def _is_contact(value: str) -> bool:
    if not value or is_full_address(value):
        return True
    is_phone = re.fullmatch(r"\+?[0-9][0-9 ().-]{6,24}", value)
    return bool(is_phone or re.fullmatch(r"https://[!-~]{4,200}", value))


def _is_object_id_or_empty(value: str) -> bool:
    return not value or is_object_id(value)


def _is_limit(value: str) -> bool:
    return not value or is_amount(value)


def _are_rates(value: str) -> bool:
    return not value or all(map(_is_rate, value.split(",")))


def _is_rate(text: str) -> bool:
    match = _RATE.fullmatch(text.strip())
    return match is not None and {match[1], match[2]} <= CURRENCIES and float(match[3] or 1) > 0


def merge_rates(before: str, given: str) -> str:
    """Return the rates ``before`` with each pair of ``given`` added, replaced, or without a rate removed.

    Both are valid. An empty ``given`` removes every rate.
    """
    rates = dict(_split_rates(before)) | dict(_split_rates(given)) if given else {}
    return ", ".join(f"{pair}={rate}" for pair, rate in rates.items() if rate)


def replace_rates(before: str, given: str) -> str:
    """Return ``given`` for ``merge_rates`` so that the pairs of ``before`` that it does not have go."""
    pairs = {pair for pair, _ in _split_rates(given)}
    gone = [f"{pair}=" for pair, _ in _split_rates(before) if pair not in pairs]
    return ", ".join([given, *gone]) if given else ""


def _split_rates(text: str) -> list[tuple[str, str]]:
    parts = (one.strip().partition("=") for one in text.split(",") if one.strip())
    return [(pair, rate) for pair, _, rate in parts]


_RULES: Mapping[str, tuple[Callable[[str], object], str]] = {
    "name": (
        lambda value: bool(value.strip()) and len(value) <= 200 and value.isprintable(),
        "1 to 200 printable characters",
    ),
    "timezone": (is_zone, "an IANA name such as America/Vancouver"),
    "currency": (CURRENCIES.__contains__, "a currency of ISO 4217 in three capital letters, such as CAD"),
    "owner_email": (_is_full_address_or_empty, "one mail address such as owner@example.com"),
    "accountant_email": (_is_full_address_or_empty, "one mail address such as books@example.com"),
    "shopify_domain": (
        re.compile(r"([a-z0-9][a-z0-9-]{0,62}\.myshopify\.com)?").fullmatch,
        "the shop's name at Shopify, such as harbour.myshopify.com",
    ),
    "stock_location_id": (
        re.compile("([1-9][0-9]{0,17})?").fullmatch,
        "the location's number at Shopify, at most 18 digits",
    ),
    "stock_owner": (
        re.compile("shopify|shopfleet|pool:[a-z0-9-]{1,40}").fullmatch,
        "shopify, shopfleet or pool:NAME, a name of 1 to 40 of a-z, 0-9 and '-'",
    ),
    "ai_cap": (_is_limit, "an amount for each month with its currency, such as '50.00 CAD'"),
    "sms_budget": (_is_limit, "an amount for each month with its currency, such as '50.00 CAD'"),
    "exchange_rates": (
        _are_rates,
        "rates such as USD/CAD=1.37: one USD is 1.37 CAD; several with a comma; USD/CAD= removes one",
    ),
    "postal_address": (
        lambda value: not value or (value.isprintable() and 8 <= len(value.strip()) <= 200),
        "one line of 8 to 200 printable characters, such as '1 Main St, Victoria BC V8W 1A1, Canada'",
    ),
    "mail_contact": (
        _is_contact,
        "a mail address, a telephone number or a web address, such as hello@example.com",
    ),
    "mails_per_day": (re.compile("[1-9]").fullmatch, "a whole number from 1 to 9"),
    "notion_data_source": (
        _is_object_id_or_empty,
        "the id of a data source at Notion, 32 hexadecimal digits with or without dashes",
    ),
    "ai_uses": (
        re.compile("(summaries|vectors|summaries,vectors)?").fullmatch,
        "summaries, vectors, both with a comma, or empty",
    ),
    "shop_floor": (re.compile("on|off").fullmatch, "on or off"),
}
"""By field, the check of a value and a description of a right one."""


def find_faults(fields: Mapping[str, str]) -> list[str]:
    return [
        f"{field}={value!r} should be {_RULES[field][1]}{_describe_fault(field, value)}"
        for field, value in fields.items()
        if not _RULES[field][0](value)
    ]


def find_rate_faults(fields: Mapping[str, str]) -> list[str]:
    """Return why a rate of ``fields``, which are valid, converts nothing: no limit has its currency.

    A pair without a rate, which is to be removed, is right.
    """
    rates = fields["exchange_rates"]
    pairs = [pair for pair, rate in _split_rates(rates) if rate]
    used = sorted({fields[name][-3:] for name in ("ai_cap", "sms_budget") if fields[name]})
    wrong = [pair for pair in pairs if pair.partition("/")[2] not in used]
    if not wrong:
        return []
    right = (
        f"be into a currency of the shop's limits, which are in {' and '.join(used)}"
        if used
        else "have a limit to count against: set it too, with --ai-cap or --sms-budget"
    )
    return [f"exchange_rates={rates!r}: {' and '.join(wrong)} should {right}"]


@lru_cache(maxsize=1024)  # a file may repeat one mistake in each line
def _describe_fault(field: str, value: str) -> str:
    if field in ("ai_cap", "sms_budget"):
        amount, _, value = value.partition(" ")
        if value in CURRENCIES:
            is_zero = re.fullmatch(r"0+(\.0+)?", amount)
            return "; zero is refused, and '' is no limit" if is_zero else ""
        if not re.fullmatch("[A-Z]{3}", value):
            return ""
        return f"; {value} is no currency of ISO 4217{did_you_mean(value, sorted(CURRENCIES))}"
    if field == "timezone":
        return suggest_zones(value)
    return did_you_mean(value, sorted(CURRENCIES) if field == "currency" else ())


def find_pool_faults(slug: str, owner: str, location_id: str, before: str = "") -> list[str]:
    """Return why the shop ``slug`` of ``owner`` cannot have ``location_id``; ``before`` is the current."""
    if not owner.startswith(OF_POOL):
        return []
    if not location_id:
        return [
            f"stock_location_id='' should be the location of this shop in {owner}: name it with "
            f"--stock-location-id; `fleet stock show --shop {slug} --json` has the numbers"
        ]
    if before and before != location_id:
        return [
            f"stock_location_id={location_id!r} should stay {before} while the shop is in {owner}: "
            "take it out first with --stock-owner shopify"
        ]
    return []
