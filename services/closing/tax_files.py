"""The month's sales tax as files: every item with its tax, and the sums per province and tax.

Amounts are written as decimals of their currency, as an accountant adds them up; within the program they are
whole minor units.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import NamedTuple

from services.closing.tax_lines import TaxedItem
from services.closing.tax_profile import TaxProfile
from services.closing.tax_rates import CHANNEL, COLUMNS, OTHER, TAXES
from services.core.money import format_minor

LINES_NAME, SUMMARY_NAME = "sales-tax.csv", "sales-tax-summary.csv"

NO_TAX = "none"
"""The summary's word for sales without any tax, due or charged: exempt goods, gift cards."""

ZERO_RATED = "zero-rated"
"""The summary's word for deliveries outside Canada. Source: Excise Tax Act, Schedule VI, Part V."""


class TaxKey(NamedTuple):
    """One tax of one province in one currency."""

    currency: str
    province: str
    tax: str


class TaxSum(NamedTuple):
    """The sum of one tax of one province in one currency. ``base`` is net of refunds."""

    base: int = 0
    charged: int = 0
    refunded: int = 0
    expected: int = 0
    is_expected: bool = False
    is_doubtful: bool = False

    @property
    def collected(self) -> int:
        """The charged tax less the refunded."""
        return self.charged - self.refunded

    @property
    def difference(self) -> int | None:
        """The collected tax less the expected; None without an expectation."""
        return self.collected - self.expected if self.is_expected else None

    @property
    def to_remit(self) -> int:
        """The tax that the shop owes; zero without a registration, which is a doubt."""
        return 0 if self.is_doubtful else self.collected


class SummaryRow(NamedTuple):
    """One row of ``sales-tax-summary.csv``."""

    key: TaxKey
    found: TaxSum

    def amount(self, minor: int | None) -> str | None:
        """Return ``minor`` units of the row's currency as a decimal number."""
        return find_amount(minor, self.key.currency)


class TaxSums:
    """Adds up taxed items per province and tax."""

    def __init__(self) -> None:
        self.sums: dict[TaxKey, TaxSum] = {}

    def add(self, taxed: TaxedItem) -> None:
        """Add ``taxed`` to the sums."""
        expected = taxed.expected or {}
        names = taxed.charged.keys() | expected.keys() | ({ZERO_RATED} if taxed.is_export else set())
        for tax in names or {NO_TAX}:
            key = TaxKey(taxed.item.currency, taxed.item.province, tax)
            old = self.sums.get(key, TaxSum())
            cents = taxed.charged.get(tax, 0)
            is_refund = taxed.item.is_refund
            self.sums[key] = TaxSum(
                base=old.base + taxed.net,
                charged=old.charged + (0 if is_refund else cents),
                refunded=old.refunded - (cents if is_refund else 0),
                expected=old.expected + expected.get(tax, 0),
                is_expected=old.is_expected or taxed.expected is not None,
                is_doubtful=old.is_doubtful or tax in taxed.doubtful,
            )

    def sorted(self) -> Iterator[SummaryRow]:
        """Yield the sums by currency, province and tax, the taxes in the order of the return."""
        order = {tax: place for place, tax in enumerate((*COLUMNS, ZERO_RATED, NO_TAX))}
        for key in sorted(self.sums, key=lambda key: (key.currency, key.province, order[key.tax])):
            yield SummaryRow(key, self.sums[key])


@lru_cache(maxsize=65_536)
def amount(minor: int, currency: str) -> str:
    """Return ``minor`` units as a plain decimal number: ``-12.50``, of JPY ``1250``, of KWD ``1.250``."""
    return format_minor(minor, currency).removesuffix(f" {currency}")


def find_amount(minor: int | None, currency: str) -> str | None:
    """Return ``minor`` units as ``amount`` does; None for None."""
    return None if minor is None else amount(minor, currency)


def _charged(tax: str, row: TaxedItem) -> str:
    return amount(row.charged.get(tax, 0), row.item.currency)


def _expected(tax: str, row: TaxedItem) -> str | None:
    return None if row.expected is None else amount(row.expected.get(tax, 0), row.item.currency)


LINE_COLUMNS: Mapping[str, Callable[[TaxedItem], object]] = {
    "date": lambda row: row.day,
    "order": lambda row: row.item.order_name,
    "kind": lambda row: row.item.kind,
    "sku": lambda row: row.item.sku,
    "title": lambda row: row.item.title,
    "quantity": lambda row: row.item.pieces or None,
    "province": lambda row: row.item.province,
    "currency": lambda row: row.item.currency,
    "net": lambda row: amount(row.net, row.item.currency),
    **{f"{tax.lower()}_charged": partial(_charged, tax) for tax in (*TAXES, OTHER)},
    **{f"{tax.lower()}_expected": partial(_expected, tax) for tax in TAXES},
    "difference": lambda row: find_amount(row.difference, row.item.currency),
    "channel_charged": partial(_charged, CHANNEL),
}
"""The columns of ``sales-tax.csv``. None is about a customer."""


def summary_columns(profile: TaxProfile) -> Mapping[str, Callable[[SummaryRow], object]]:
    """Return the columns of ``sales-tax-summary.csv``, one row for each currency, province and tax.

    Tax that the channel remits is not to be remitted here. What was charged without a registration is in
    ``not_registered``, and not in ``net_to_remit``.
    """
    return {
        "province": lambda row: row.key.province,
        "tax": lambda row: row.key.tax,
        "currency": lambda row: row.key.currency,
        "taxable_net": lambda row: row.amount(row.found.base),
        "charged": lambda row: row.amount(row.found.charged),
        "refunded": lambda row: row.amount(row.found.refunded),
        "net_to_remit": lambda row: row.amount(0 if row.key.tax == CHANNEL else row.found.to_remit),
        "expected": lambda row: row.amount(row.found.expected if row.found.is_expected else None),
        "difference": lambda row: row.amount(row.found.difference),
        "registration_number": lambda row: profile.number_of(row.key.tax, row.key.province),
        "not_registered": lambda row: row.amount(row.found.collected if row.found.is_doubtful else None),
    }
