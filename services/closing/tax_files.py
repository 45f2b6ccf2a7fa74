"""The month's sales tax as files: every item with its tax, and the sums per province and tax, as decimals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

from services.closing.tax_lines import TaxedItem
from services.closing.tax_profile import TaxProfile
from services.closing.tax_rates import CHANNEL, COLUMNS, OTHER, TAXES
from services.core.money import format_minor

LINES_NAME, SUMMARY_NAME = "sales-tax.csv", "sales-tax-summary.csv"

NO_TAX = "none"
"""The summary's name for sales without any tax, due or charged: exempt goods, gift cards."""

ZERO_RATED = "zero-rated"
"""The summary's name for deliveries outside Canada. Source: Excise Tax Act, Schedule VI, Part V."""


@dataclass(slots=True)
class TaxSum:
    """The sum of one tax of one province in one currency. ``base`` is net of refunds."""

    currency: str
    province: str
    tax: str
    base: int = 0
    charged: int = 0
    refunded: int = 0
    expected: int = 0
    is_expected: bool = False
    is_doubtful: bool = False
    corrects: str = ""
    """The closed month that this sum corrects; its ``charged`` is then the change of the tax to remit."""

    @property
    def collected(self) -> int:
        return self.charged - self.refunded

    def amount(self, minor: int) -> str:
        return amount(minor, self.currency)


class TaxSums:
    """Adds up taxed items by (currency, province, tax)."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, str, str], TaxSum] = {}

    def add(self, taxed: TaxedItem) -> None:
        expected = taxed.expected or {}
        names = taxed.charged.keys() | expected.keys() | ({ZERO_RATED} if taxed.is_export else set())
        for tax in names or {NO_TAX}:
            key = (taxed.item.currency, taxed.item.province, tax)
            found = self.sums.get(key) or self.sums.setdefault(key, TaxSum(*key))
            cents = taxed.charged.get(tax, 0)
            found.base += taxed.net
            if taxed.item.is_refund:
                found.refunded -= cents
            else:
                found.charged += cents
            found.expected += expected.get(tax, 0)
            found.is_expected |= taxed.expected is not None
            found.is_doubtful |= tax in taxed.doubtful

    def sorted(self) -> list[TaxSum]:
        """Return the sums by currency, province and tax, the taxes in the order of the return."""
        order = (*COLUMNS, ZERO_RATED, NO_TAX)
        return sorted(self.sums.values(), key=lambda s: (s.currency, s.province, order.index(s.tax)))


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


def summary_columns(profile: TaxProfile) -> Mapping[str, Callable[[TaxSum], object]]:
    """Return the columns of ``sales-tax-summary.csv``, one row for each currency, province and tax.

    A row with ``corrects`` has only the change of what was to remit for that closed month.

    ``net_to_remit`` excludes tax that the channel remits, and tax charged without a registration, which is in
    ``not_registered``. Without rates there is no difference.
    """
    return {
        "province": lambda row: row.province,
        "tax": lambda row: row.tax,
        "currency": lambda row: row.currency,
        "taxable_net": lambda row: None if row.corrects else row.amount(row.base),
        "charged": lambda row: None if row.corrects else row.amount(row.charged),
        "refunded": lambda row: None if row.corrects else row.amount(row.refunded),
        "net_to_remit": lambda row: row.amount(0 if row.tax == CHANNEL or row.is_doubtful else row.collected),
        "expected": lambda row: row.amount(row.expected) if row.is_expected else None,
        "difference": lambda row: row.amount(row.collected - row.expected) if row.is_expected else None,
        "registration_number": lambda row: profile.registration_number(row.tax, row.province),
        "not_registered": lambda row: row.amount(row.collected) if row.is_doubtful else None,
        "corrects": lambda row: row.corrects or None,
    }
