"""The month's sales tax as files: every item with its tax, and what it comes to per province and tax.

Sums are written as decimals of their currency, which is what an accountant adds up; within the program they
are whole minor units.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from services.closing.tax_lines import TaxedItem
from services.closing.tax_profile import TaxProfile
from services.closing.tax_rates import CHANNEL, COLUMNS, OTHER, TAXES
from services.core.csv_cells import BOM, csv_line
from services.core.money import format_minor

LINES_NAME, SUMMARY_NAME = "sales-tax.csv", "sales-tax-summary.csv"

LINE_COLUMNS = (
    "date", "order", "kind", "sku", "title", "quantity", "province", "currency", "net",
    *(f"{tax.lower()}_charged" for tax in (*TAXES, OTHER)),
    *(f"{tax.lower()}_expected" for tax in TAXES),
    "difference", "channel_charged",
)  # fmt: skip

SUMMARY_COLUMNS = (
    "province", "tax", "currency", "taxable_net", "charged", "refunded", "net_to_remit", "expected",
    "difference", "registration_number", "not_registered",
)  # fmt: skip

NO_TAX = "none"
"""The summary's word for what was sold without any tax, due or charged: exempt goods, gift cards."""

ZERO_RATED = "zero-rated"
"""The summary's word for what was delivered outside Canada. Source: Excise Tax Act, Schedule VI, Part V."""


class TaxSum(NamedTuple):
    """What one tax of one province came to in one currency. ``base`` is net of what was given back."""

    base: int = 0
    charged: int = 0
    refunded: int = 0
    expected: int = 0
    is_expected: bool = False
    is_doubtful: bool = False

    @property
    def to_remit(self) -> int:
        """What the shop owes; nothing of a tax for which it is not registered: that is a doubt."""
        return 0 if self.is_doubtful else self.charged - self.refunded


TaxKey = tuple[str, str, str]
"""Currency, province, tax."""


class TaxSums:
    """Adds up taxed items, as many as there are provinces and taxes and not one for each item."""

    def __init__(self) -> None:
        self.sums: dict[TaxKey, TaxSum] = {}

    def add(self, taxed: TaxedItem) -> None:
        """``taxed`` is in the sums."""
        expected = taxed.expected or {}
        names = taxed.charged.keys() | expected.keys() | ({ZERO_RATED} if taxed.is_export else set())
        for tax in names or {NO_TAX}:
            key = (taxed.item.currency, taxed.item.province, tax)
            old = self.sums.get(key, TaxSum())
            cents = taxed.charged.get(tax, 0)
            is_back = taxed.item.is_back
            self.sums[key] = TaxSum(
                old.base + taxed.net,
                old.charged + (0 if is_back else cents),
                old.refunded - (cents if is_back else 0),
                old.expected + expected.get(tax, 0),
                old.is_expected or taxed.expected is not None,
                old.is_doubtful or tax in taxed.doubtful,
            )

    def sorted(self) -> Iterator[tuple[TaxKey, TaxSum]]:
        """Yield the sums by currency, province and tax, the taxes in the order of the return."""
        order = {tax: place for place, tax in enumerate((*COLUMNS, ZERO_RATED, NO_TAX))}
        for key in sorted(self.sums, key=lambda key: (key[0], key[1], order[key[2]])):
            yield key, self.sums[key]


def write_tax_lines(file: BinaryIO, rows: Iterable[TaxedItem]) -> Iterator[TaxedItem]:
    """Write each row into ``file`` as it passes, and yield it on. No customer is in it."""
    file.write(BOM + csv_line(LINE_COLUMNS))
    for row in rows:
        item, currency = row.item, row.item.currency
        file.write(
            csv_line(
                (
                    row.day, item.order_name, item.kind, item.sku, item.title,
                    item.pieces or None, item.province, currency, amount(row.net, currency),
                    *(amount(row.charged.get(tax, 0), currency) for tax in (*TAXES, OTHER)),
                    *(_expected(row, tax) for tax in TAXES),
                    None if row.difference is None else amount(row.difference, currency),
                    amount(row.charged.get(CHANNEL, 0), currency),
                )
            )
        )  # fmt: skip
        yield row


def write_tax_summary(file: BinaryIO, sums: TaxSums, profile: TaxProfile) -> None:
    """Write what was charged, given back, and is to be remitted, per currency, province and tax.

    Tax that the channel remits is not to be remitted here. What was charged without a registration is under
    ``not_registered``, and not under ``net_to_remit``.
    """
    file.write(BOM + csv_line(SUMMARY_COLUMNS))
    for (currency, province, tax), found in sums.sorted():
        collected = found.charged - found.refunded
        told = (found.expected, collected - found.expected) if found.is_expected else (None, None)
        to_remit = 0 if tax == CHANNEL else found.to_remit
        doubt = collected if found.is_doubtful else None
        file.write(
            csv_line(
                (
                    province, tax, currency,
                    *(
                        None if cents is None else amount(cents, currency)
                        for cents in (found.base, found.charged, found.refunded, to_remit, *told)
                    ),
                    profile.number_of(tax, province), None if doubt is None else amount(doubt, currency),
                )
            )
        )  # fmt: skip


@lru_cache(maxsize=65_536)
def amount(minor: int, currency: str) -> str:
    """Return ``minor`` units as a plain decimal number: ``-12.50``, of JPY ``1250``, of KWD ``1.250``."""
    return format_minor(minor, currency).removesuffix(f" {currency}")


def _expected(row: TaxedItem, tax: str) -> str | None:
    return None if row.expected is None else amount(row.expected.get(tax, 0), row.item.currency)
