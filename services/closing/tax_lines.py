"""One item's sales tax: what was charged, under which name, and what the rates say. Pure."""

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from services.closing.month_rows import Item
from services.closing.tax_profile import TaxProfile
from services.closing.tax_rates import COLUMNS, OTHER, Rate, find_rates
from services.closing.tax_shares import name_taxes, round_half_up, split_minor


class Taxed(NamedTuple):
    """An item with its tax. What was given back is negative; sums are minor units of the item's currency.

    ``expected`` None: the rates know nothing of that province, and nobody is told that anything is wrong.
    """

    item: Item
    day: date
    net: int
    charged: Mapping[str, int]
    expected: Mapping[str, int] | None

    @property
    def difference(self) -> int | None:
        """What was charged over what was expected; None where nothing is."""
        return None if self.expected is None else sum(self.charged.values()) - sum(self.expected.values())


def plan_taxed(item: Item, zone: ZoneInfo, profile: TaxProfile) -> Taxed:
    """Return ``item`` with what it was taxed and should have been, by the rates of the day it was sold.

    The tax of a refund is shared out as the sale's was, so that its parts come to it to the cent; one of
    a sale without tax lines is ``other``.
    """
    rates = _rates(item.province, item.placed_at.astimezone(zone).date())
    charged = name_taxes(item.taxes, item.province, rates or ())
    is_back = item.kind.endswith("refund")
    if is_back:
        charged = _share_back(item.tax_cents, charged)
    net = item.amount - sum(charged.values()) if item.taxes_included else item.amount
    expected = None if rates is None else _expect(item, rates, profile)
    sign = -1 if is_back else 1
    return Taxed(
        item,
        item.at.astimezone(zone).date(),
        sign * net,
        {tax: sign * cents for tax, cents in charged.items()},
        None if expected is None else {tax: sign * cents for tax, cents in expected.items()},
    )


def _share_back(tax_cents: int, sold: Mapping[str, int]) -> dict[str, int]:
    if not tax_cents:
        return {}
    names = [tax for tax in COLUMNS if tax in sold]
    if not names:
        return {OTHER: tax_cents}
    parts = split_minor(tax_cents, [sold[tax] for tax in names])
    return {tax: part for tax, part in zip(names, parts, strict=True) if part}


def _expect(item: Item, rates: Sequence[Rate], profile: TaxProfile) -> dict[str, int]:
    """Return what each tax should come to, by itself and half a cent up; a price with tax has it within."""
    if not item.is_taxable or item.is_gift_card:
        return {}
    due = [rate for rate in rates if profile.collects(rate.tax, rate.province)]
    whole = 1 + sum(rate.share for rate in due) if item.taxes_included else Decimal(1)
    sums = {rate.tax: round_half_up(item.amount * rate.share / whole) for rate in due}
    return {tax: cents for tax, cents in sums.items() if cents}


@lru_cache(maxsize=4096)
def _rates(province: str, day: date) -> tuple[Rate, ...] | None:
    return find_rates(province, day)
