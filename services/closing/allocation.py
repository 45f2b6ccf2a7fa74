"""Splits sums in whole minor units exactly, and names tax lines. Pure; no floats."""

import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from services.closing.tax_rates import CHANNEL, OTHER, TAXES, TaxRate

_NAMES = {"GST": "GST|TPS", "PST": "PST|RST|TVP", "HST": "HST|TVH", "QST": "QST|TVQ"}
_NAMED = {tax: re.compile(rf"\b(?:{names})\b", re.IGNORECASE) for tax, names in _NAMES.items()}
_CLOSE = Decimal("0.000005")
"""Shopify's rates have at least five decimals; 0.14975 is two taxes of Quebec in one line."""


def split_minor(total: int, weights: Sequence[int]) -> list[int]:
    """Return whole parts of ``total`` in proportion to ``weights``; their sum is ``total``.

    The rest of the division goes to the largest remainders, the first of equal ones first. If all weights are
    zero, or one is negative, the first part is the total.
    """
    if not weights:
        return []
    whole = sum(weights)
    if whole <= 0 or min(weights) < 0:
        return [total, *[0] * (len(weights) - 1)]
    size = abs(total)
    parts = [size * weight // whole for weight in weights]
    order = sorted(range(len(weights)), key=lambda place: (-(size * weights[place] % whole), place))
    for place in order[: size - sum(parts)]:
        parts[place] += 1
    return [-part for part in parts] if total < 0 else parts


def round_half_up(amount: Decimal) -> int:
    """Return the nearest whole minor unit; a half is rounded away from zero, as in the tax return."""
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))


def name_taxes(
    taxes: Sequence[Mapping[str, Any]] | None, province: str, rates: Sequence[TaxRate]
) -> dict[str, int]:
    """Return the sums of Shopify's tax lines per tax (``GST`` ... ``other``, ``channel``).

    Titles are free text in English or French. A title with several taxes ("GST/HST", "TPS/TVQ") or none is
    identified by its rate: that of one tax of the province, or of all of them in one line. Outside Canada
    everything is ``other``: the GST of Australia is not that of the return.
    """
    sums: dict[str, int] = {}
    for line in taxes or ():
        for tax, cents in _name_line(line, province, rates):
            name = CHANNEL if line.get("liable") else tax
            sums[name] = sums.get(name, 0) + cents
    return {tax: cents for tax, cents in sums.items() if cents}


def find_liable(
    taxes: Sequence[Mapping[str, Any]] | None, province: str, rates: Sequence[TaxRate]
) -> frozenset[str]:
    """Return the names of the province's taxes that the sales channel remits."""
    liable = [line for line in taxes or () if line.get("liable")]
    return frozenset(tax for line in liable for tax, _ in _name_line(line, province, rates))


def _name_line(line: Mapping[str, Any], province: str, rates: Sequence[TaxRate]) -> list[tuple[str, int]]:
    cents = int(line["cents"])
    if province.partition("-")[0] not in ("CA", ""):
        return [(OTHER, cents)]
    title = str(line.get("title") or "")
    named = [tax for tax in TAXES if _NAMED[tax].search(title)]
    if len(named) == 1:
        return [(named[0], cents)]
    charged = read_share(line.get("rate"))
    if charged is not None:
        for rate in rates:
            if abs(rate.share - charged) < _CLOSE and (not named or rate.tax in named):
                return [(rate.tax, cents)]
        if len(rates) > 1 and abs(sum(rate.share for rate in rates) - charged) < _CLOSE:
            weights = [int(rate.share * 100_000) for rate in rates]
            parts = split_minor(cents, weights)
            return [(rate.tax, part) for rate, part in zip(rates, parts, strict=True)]
    return [(OTHER, cents)]


def read_share(rate: object) -> Decimal | None:
    """Return a tax line's rate, such as 0.05; None if it is missing or not a number."""
    try:
        return None if rate is None else Decimal(str(rate))
    except InvalidOperation:
        return None
