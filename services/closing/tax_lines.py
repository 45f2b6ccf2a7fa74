"""The sales tax of one item: charged, by the name of the tax, and expected by the rates. Pure; no floats."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import NamedTuple
from zoneinfo import ZoneInfo

from services.closing.sale_items import SaleItem
from services.closing.tax_profile import TaxProfile
from services.closing.tax_rates import CHANNEL, COLUMNS, OTHER, TAXES, TaxRate, find_rates

_NAMES = {"GST": "GST|TPS", "PST": "PST|RST|TVP", "HST": "HST|TVH", "QST": "QST|TVQ"}
_NAMED = {tax: re.compile(rf"\b(?:{names})\b", re.IGNORECASE) for tax, names in _NAMES.items()}
_TOLERANCE = Decimal("0.000005")
"""Shopify's rates have at least five decimals; 0.14975 is two taxes of Quebec in one line."""


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
    discount: int
    is_export: bool
    doubtful: frozenset[str]

    @property
    def difference(self) -> int | None:
        return None if self.expected is None else sum(self.charged.values()) - sum(self.expected.values())


def plan_taxed(item: SaleItem, zone: ZoneInfo, profile: TaxProfile) -> TaxedItem:
    """Return ``item`` with its charged tax and the expected one by the rates of the day of the sale.

    The tax of a refund is split in proportion to the sale's, with an exact sum; if the sale has no tax lines,
    it is ``other``.
    """
    rates = find_rates(item.province, item.placed_at.astimezone(zone).date())
    charged: dict[str, int] = {}
    liable = set()
    for tax, cents, is_liable in _name_taxes(item, rates or ()):
        name = CHANNEL if is_liable else tax
        charged[name] = charged.get(name, 0) + cents
        liable |= {tax} if is_liable else set()
    charged = {tax: cents for tax, cents in charged.items() if cents}
    if item.is_refund:
        charged = _split_refund(item.tax_cents, charged)
    net = item.amount - sum(charged.values()) if item.taxes_included else item.amount
    discount = _find_net_discount(item, net)
    net, discount = _keep_sold(item, net), _keep_sold(item, discount)
    charged = {tax: _keep_sold(item, cents) for tax, cents in charged.items()}
    expected = _find_expected(item, rates, profile, charged, liable)
    sign = -1 if item.is_refund else 1
    return TaxedItem(
        item=item,
        day=item.at.astimezone(zone).date(),
        net=sign * net,
        charged={tax: sign * cents for tax, cents in charged.items()},
        expected=None if expected is None else {tax: sign * cents for tax, cents in expected.items()},
        discount=discount,
        is_export=_is_in_canada(profile.province) and not _is_in_canada(item.province),
        doubtful=frozenset(
            tax for tax in charged if tax not in (OTHER, CHANNEL) and not profile.collects(tax, item.province)
        ),
    )


def _name_taxes(item: SaleItem, rates: Sequence[TaxRate]) -> Iterator[tuple[str, int, bool]]:
    """Yield (tax, cents, whether the sales channel remits it) of Shopify's tax lines.

    Titles are free text in English or French. A title with several taxes ("GST/HST", "TPS/TVQ") or none is
    identified by its rate: that of one tax of the province, or of all of them in one line. Outside Canada
    every tax is ``other``: the GST of Australia is another tax.
    """
    for line in item.taxes or ():
        cents, is_liable = int(line["cents"]), bool(line.get("liable"))
        title = str(line.get("title") or "")
        named = [tax for tax in TAXES if _NAMED[tax].search(title)]
        if item.province and not _is_in_canada(item.province):
            yield OTHER, cents, is_liable
        elif len(named) == 1:
            yield named[0], cents, is_liable
        else:
            found = _match_rates(_read_share(line.get("rate")), named, rates)
            weights = [int(rate.share * 100_000) for rate in found]
            parts = split_minor(cents, weights) if found else [cents]
            names = [rate.tax for rate in found] or [OTHER]
            yield from ((tax, part, is_liable) for tax, part in zip(names, parts, strict=True))


def _match_rates(
    charged: Decimal | None, named: Sequence[str], rates: Sequence[TaxRate]
) -> Sequence[TaxRate]:
    """Return the rate that was ``charged``, or all ``rates`` if it is their sum; else nothing."""
    if charged is None:
        return ()
    for rate in rates:
        if abs(rate.share - charged) < _TOLERANCE and (not named or rate.tax in named):
            return (rate,)
    is_sum = len(rates) > 1 and abs(sum(rate.share for rate in rates) - charged) < _TOLERANCE
    return rates if is_sum else ()


def _is_in_canada(province: str) -> bool:
    return province.partition("-")[0] == "CA"


def _keep_sold(item: SaleItem, cents: int) -> int:
    """Return the part of ``cents`` that belongs to the pieces that were not removed."""
    return split_minor(cents, (item.pieces, item.removed))[0] if item.removed else cents


def _find_net_discount(item: SaleItem, net: int) -> int:
    """Return the discount without tax, in proportion to the amount; by the rates if that is zero."""
    if not item.taxes_included or not item.discount:
        return item.discount
    if item.amount > 0:
        return _round_half_up(Decimal(item.discount) * net / item.amount)
    shares = (_read_share(line.get("rate")) or Decimal(0) for line in item.taxes or ())
    return _round_half_up(item.discount / sum(shares, Decimal(1)))


def _split_refund(tax_cents: int, sold: Mapping[str, int]) -> dict[str, int]:
    names = [tax for tax in COLUMNS if tax in sold] or [OTHER]
    parts = split_minor(tax_cents, [sold.get(tax, 1) for tax in names])
    return {tax: part for tax, part in zip(names, parts, strict=True) if part}


def _find_expected(
    item: SaleItem,
    rates: Sequence[TaxRate] | None,
    profile: TaxProfile,
    charged: Mapping[str, int],
    liable: set[str],
) -> dict[str, int] | None:
    """Return the expected sum of each tax, each rounded half up; None for a province without rates.

    Tax that the channel remits is expected under ``channel``. No rate applies to an adjustment: the refunded
    tax is the expected one.
    """
    if rates is None:
        return None
    if item.kind == "refund adjustment":
        return dict(charged)
    if not item.is_taxable or item.is_gift_card:
        return {}
    applied = [
        rate
        for rate in rates
        if profile.collects(rate.tax, rate.province) and not (item.is_pst_exempt and rate.tax == "PST")
    ]
    whole = 1 + sum(rate.share for rate in applied) if item.taxes_included else Decimal(1)
    amount = _keep_sold(item, item.amount)
    sums: dict[str, int] = {}
    for rate in applied:
        if cents := _round_half_up(amount * rate.share / whole):
            name = CHANNEL if rate.tax in liable else rate.tax
            sums[name] = sums.get(name, 0) + cents
    return sums


def split_minor(total: int, weights: Sequence[int]) -> list[int]:
    """Return whole parts of ``total`` in proportion to ``weights``; their sum is ``total``.

    The rest of the division is added to the largest remainders, the first of equal ones first. If all weights
    are zero, or one is negative, the first part is the total.
    """
    whole = sum(weights)
    if whole <= 0 or min(weights) < 0:
        return [total, *[0] * (len(weights) - 1)]
    size = abs(total)
    parts = [size * weight // whole for weight in weights]
    order = sorted(range(len(weights)), key=lambda place: (-(size * weights[place] % whole), place))
    for place in order[: size - sum(parts)]:
        parts[place] += 1
    return [-part for part in parts] if total < 0 else parts


def _round_half_up(amount: Decimal) -> int:
    """Return the nearest whole minor unit; a half is rounded away from zero, as in the tax return."""
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))


def _read_share(rate: object) -> Decimal | None:
    """Return a tax line's rate, such as 0.05; None if it is missing or not a number."""
    try:
        return None if rate is None else Decimal(str(rate))
    except InvalidOperation:
        return None
