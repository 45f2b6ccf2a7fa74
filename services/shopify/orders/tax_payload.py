"""Parses the taxes and the shipping of an order, and shares amounts out to the cent. Pure."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate, pairwise

import orjson

from services.core.fields import as_list, find_text
from services.shopify.payload_fields import MoneyReader, is_number

_RATE_PLACES = Decimal("0.0000001")

Taxes = dict[tuple[str, str, bool], int]
"""Minor units of each tax, by title, rate and whether the sales channel remits it."""


def parse_taxes(tax_lines: object, money: MoneyReader) -> Taxes:
    """Return the taxes of a line. A price that is null is that of ``price_set``, else 0, with a doubt."""
    taxes = Taxes()
    for tax in money.each("tax_lines", as_list(tax_lines, "tax_lines") if tax_lines else ()):
        rate, price = tax.get("rate"), tax.get("price")
        title, is_liable = find_text(tax, "title"), tax.get("channel_liable") is True
        if price is None:
            cents = money.shop_amount(tax.get("price_set"), "price_set")
            money.doubt(f"price is null: {'nothing' if cents is None else 'its price_set'} is recorded")
        else:
            cents = money.amount(price, "price")
        key = (title, format_rate(rate) if is_number(rate) else "", is_liable)
        taxes[key] = taxes.get(key, 0) + (cents or 0)
    return taxes


def parse_shipping(total: object, shipping_lines: object, money: MoneyReader) -> tuple[int | None, Taxes]:
    """Return the price of shipping before discounts, None where nothing states it, and the taxes on it.

    Lines that an edit removed do not count, though Shopify leaves them in ``total``. Without ``total`` the
    price is the sum of the lines.
    """
    lines = as_list(shipping_lines, "shipping_lines") if shipping_lines else []
    cents = money.shop_amount(total, "total_shipping_price_set")
    is_sum_of_lines = any(line.get("is_removed") is True for line in lines) or (cents is None and bool(lines))
    prices, taxes = 0, Taxes()
    for line in money.each("shipping_lines", lines):
        if line.get("is_removed") is True:
            continue
        if is_sum_of_lines:
            prices += money.amount_or_none(line.get("price"), "price") or 0
        add_taxes(taxes, parse_taxes(line.get("tax_lines"), money))
    return prices if is_sum_of_lines else cents, taxes


@lru_cache(maxsize=256)
def format_rate(rate: float) -> str:
    """Return a tax rate as a share: 0.05 and 5.0, which is percent, are both "0.05"; no tax is 100 % or more.

    Digits beyond the seventh decimal come from floating point and are dropped.
    """
    share = Decimal(repr(rate)) / (100 if rate >= 1 else 1)
    return format(share.quantize(_RATE_PLACES).normalize(), "f")


def add_taxes(taxes: Taxes, more: Taxes) -> None:
    """Add ``more`` to ``taxes``."""
    for key, cents in more.items():
        taxes[key] = taxes.get(key, 0) + cents


def split_taxes(taxes: Taxes, amounts: Sequence[int]) -> list[Taxes]:
    """Return a share of ``taxes`` for each of ``amounts``, in proportion; the shares add up exactly."""
    shares = [Taxes() for _ in amounts]
    for key, cents in taxes.items():
        for share, part in zip(shares, split_cents(cents, amounts), strict=True):
            share[key] = part
    return shares


def split_cents(cents: int, amounts: Sequence[int]) -> list[int]:
    """Return a share of ``cents`` for each of ``amounts``, in proportion; the shares add up exactly."""
    weights = amounts if sum(amounts) > 0 else [1] * len(amounts)
    total = sum(weights)
    until = [(2 * cents * weight + total) // (2 * total) for weight in accumulate(weights)]
    return [upper - lower for lower, upper in pairwise([0, *until])]


def format_taxes(taxes: Mapping[tuple[str, str, bool], int]) -> str | None:
    """Return the JSON of the ``taxes`` columns, ``liable`` only where the channel remits; None for none."""
    if not taxes:
        return None
    return orjson.dumps(
        [
            {"title": title, "rate": rate, "cents": cents} | ({"liable": True} if is_liable else {})
            for (title, rate, is_liable), cents in taxes.items()
        ]
    ).decode()


def load_taxes(column: str | None) -> Taxes:
    """Return the taxes of what ``format_taxes`` made."""
    return {
        (tax["title"], tax["rate"], tax.get("liable", False)): tax["cents"]
        for tax in orjson.loads(column or "[]")
    }
