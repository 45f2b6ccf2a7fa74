"""The sales tax of one item: charged, by the name of the tax, and expected by the rates. Pure."""

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from services.closing.allocation import find_liable, name_taxes, read_share, round_half_up, split_minor
from services.closing.items import SaleItem
from services.closing.tax_profile import TaxProfile
from services.closing.tax_rates import CHANNEL, COLUMNS, OTHER, TaxRate, find_rates


class TaxedItem(NamedTuple):
    """An item with its tax. Refunds are negative; sums are minor units of the item's currency.

    ``net`` and ``discount`` are without tax and without removed pieces. ``expected`` is None for a province
    without rates; then no difference is shown. ``is_export``: the goods leave Canada, so their supply is
    zero-rated. ``doubtful`` are the taxes that the shop charged without a registration.
    """

    item: SaleItem
    day: date
    net: int
    charged: Mapping[str, int]
    expected: Mapping[str, int] | None
    discount: int = 0
    is_export: bool = False
    doubtful: frozenset[str] = frozenset()

    @property
    def difference(self) -> int | None:
        """The charged tax less the expected; None without an expectation."""
        return None if self.expected is None else sum(self.charged.values()) - sum(self.expected.values())


def plan_taxed(item: SaleItem, zone: ZoneInfo, profile: TaxProfile, home: str = "") -> TaxedItem:
    """Return ``item`` with its charged tax and the expected one by the rates of the day of the sale.

    The tax of a refund is split as the sale's was, so that the sum of its parts is exact; that of a sale
    without tax lines is ``other``. ``home`` is the shop's province.
    """
    rates = find_rates(item.province, item.placed_at.astimezone(zone).date())
    charged = name_taxes(item.taxes, item.province, rates or ())
    if item.is_refund:
        charged = _share_back(item.tax_cents, charged)
    net = item.amount - sum(charged.values()) if item.taxes_included else item.amount
    discount = _find_net_discount(item, net)
    if item.removed:
        keep = (item.pieces, item.removed)
        net, discount = (split_minor(cents, keep)[0] for cents in (net, discount))
        charged = {tax: split_minor(cents, keep)[0] for tax, cents in charged.items()}
    expected = _find_expected(item, rates, profile, charged)
    sign = -1 if item.is_refund else 1
    return TaxedItem(
        item,
        item.at.astimezone(zone).date(),
        sign * net,
        {tax: sign * cents for tax, cents in charged.items()},
        None if expected is None else {tax: sign * cents for tax, cents in expected.items()},
        discount,
        _is_in_canada(home) and not _is_in_canada(item.province),
        frozenset(
            tax for tax in charged if tax not in (OTHER, CHANNEL) and not profile.collects(tax, item.province)
        ),
    )


def _is_in_canada(province: str) -> bool:
    return province.partition("-")[0] == "CA"


def _find_net_discount(item: SaleItem, net: int) -> int:
    """Return the discount without tax, in proportion to the amount; by the rates if that is zero."""
    if not item.taxes_included or not item.discount:
        return item.discount
    if item.amount > 0:
        return round_half_up(Decimal(item.discount) * net / item.amount)
    shares = (read_share(line.get("rate")) or Decimal(0) for line in item.taxes or ())
    return round_half_up(item.discount / sum(shares, Decimal(1)))


def _share_back(tax_cents: int, sold: Mapping[str, int]) -> dict[str, int]:
    if not tax_cents:
        return {}
    names = [tax for tax in COLUMNS if tax in sold]
    if not names:
        return {OTHER: tax_cents}
    parts = split_minor(tax_cents, [sold[tax] for tax in names])
    return {tax: part for tax, part in zip(names, parts, strict=True) if part}


def _find_expected(
    item: SaleItem, rates: Sequence[TaxRate] | None, profile: TaxProfile, charged: Mapping[str, int]
) -> dict[str, int] | None:
    """Return the expected sum of each tax; None for a province without rates.

    Tax that the channel remits is expected under ``channel``. No rate applies to an adjustment: the refunded
    tax is the expected one.
    """
    if rates is None:
        return None
    if item.kind == "refund adjustment":
        return dict(charged)
    expected = _expect(item, rates, profile)
    for tax in find_liable(item.taxes, item.province, rates) & expected.keys():
        expected[CHANNEL] = expected.get(CHANNEL, 0) + expected.pop(tax)
    return expected


def _expect(item: SaleItem, rates: Sequence[TaxRate], profile: TaxProfile) -> dict[str, int]:
    """Return the expected sum of each tax, each rounded half up; a price with tax contains it."""
    if not item.is_taxable or item.is_gift_card:
        return {}
    due = [
        rate
        for rate in rates
        if profile.collects(rate.tax, rate.province) and not (item.is_pst_exempt and rate.tax == "PST")
    ]
    whole = 1 + sum(rate.share for rate in due) if item.taxes_included else Decimal(1)
    amount = item.amount
    if item.removed:
        amount = split_minor(amount, (item.pieces, item.removed))[0]
    sums = {rate.tax: round_half_up(amount * rate.share / whole) for rate in due}
    return {tax: cents for tax, cents in sums.items() if cents}
