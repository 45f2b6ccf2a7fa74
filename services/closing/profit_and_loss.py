"""The month's profit and loss statement: lines, sums and notes, in whole minor units. Pure."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import NamedTuple

from services.closing.corrections import Correction, shift_month
from services.closing.tax_files import amount, find_amount
from services.closing.tax_rates import COLUMNS
from services.closing.totals import UNKNOWN_FEES, UNREAD_DAYS, Accounts
from services.core.counts import format_count

CSV_NAME = "profit-and-loss.csv"

REVENUE = {
    "gross_sales": "Gross sales",
    "discounts": "Discounts",
    "returns": "Returns",
    "refund_adjustments": "Refunds beyond or below the goods",
    "shipping": "Shipping charged",
    "shipping_refunds": "Shipping given back",
}
COSTS = {"payment_fees": "Payment fees (Stripe)", "disputes_lost": "Disputes lost"}
ROUNDING = {"cash_rounding": "Rounding of cash"}
COST_OF_GOODS = {"cost_of_goods": "Cost of goods sold"}
OF_SALES = {
    "unpaid_sales": "Of net sales: orders not paid yet",
    "zero_rated_sales": "Of net sales: delivered outside Canada, zero-rated",
}
MEMO = {
    "gift_cards_sold": "Gift cards sold (owed, not revenue)",
    "tips": "Tips (not revenue)",
    "duties": "Duties (not revenue)",
    "additional_fees": "Additional fees of shipping abroad (not revenue)",
}
CHANNEL_TAX = {"channel_tax": "Tax that the sales channel remits, not to be remitted here"}
_OF_PROFIT = {**REVENUE, **COST_OF_GOODS, **COSTS, **ROUNDING}
LABELS = {**_OF_PROFIT, **OF_SALES, **MEMO, **CHANNEL_TAX}
_PROFIT = "Profit after payments"
_SUMS = {"Net sales": REVENUE, "Gross profit": {**REVENUE, **COST_OF_GOODS}, _PROFIT: _OF_PROFIT}
"""The accounts of each sum of the statement, by its label."""
_OF_FEES = (COSTS["payment_fees"], _PROFIT)

_NOTES = (
    "An order counts in the month it was placed, paid or not, and a refund in the month it was given, "
    "by the clock of {zone}. Test orders, deleted ones, those whose payment was voided or expired, and "
    "those cancelled before they were paid do not count.",
    "Prices are without sales tax. Sales tax is collected for the government and is no revenue; "
    "gift cards are owed until they are spent.",
    "Cost of goods is pieces sold less pieces returned, at the cost of a piece when the month was closed.",
    "Payment fees are Stripe's fees of the month; a dispute counts in the month it began.",
    "A closed month does not change: later differences are listed under corrections.",
)
UNREAD_DAYS_BEFORE = "days of the month before whose orders were not read"
_NOTES_OF_COUNTS = {
    "pieces without cost": (
        "piece sold",
        "pieces sold",
        "INCOMPLETE: no cost is recorded for {} (see cost-of-goods.csv), so the cost of goods is too low.",
    ),
    UNKNOWN_FEES: (
        "payment",
        "",
        "INCOMPLETE: the fee of {} is not known yet, so payment fees are too low. The nightly reconciliation "
        "reads it from Stripe: fleet jobs run daily-reconciliation.",
    ),
    "orders not paid": (
        "order is",
        "orders are",
        "{} not paid yet; unpaid sales have a separate line.",
    ),
    "orders without tax detail": (
        "order",
        "",
        "INCOMPLETE: Shopify sent {} without tax, which is counted without tax.",
    ),
    UNREAD_DAYS: (
        "day",
        "",
        "INCOMPLETE: the orders of the first {} of the month were not read from Shopify, which shows an app "
        "without the scope read_all_orders the last 60 days only. Orders read later are corrections.",
    ),
    UNREAD_DAYS_BEFORE: (
        "day",
        "",
        "INCOMPLETE: the orders of the first {} of the month before were not read from Shopify, so its "
        "column is too low.",
    ),
    "refunds without order": (
        "refund",
        "",
        "INCOMPLETE: the order of {} is not recorded.",
    ),
}
"""What is missing or incomplete, by the name of its count: the counted noun, its plural, and the note."""


class StatementLine(NamedTuple):
    """One line of the statement. ``before`` is None if the line has no figure of the month before."""

    section: str
    label: str
    currency: str
    cents: int
    before: int | None
    is_sum: bool = False
    is_unknown: bool = False

    @property
    def amount(self) -> str:
        """The figure as a decimal number; INCOMPLETE if none of it is known."""
        return "INCOMPLETE" if self.is_unknown else amount(self.cents, self.currency)


class ProfitStatement(NamedTuple):
    """The content of the statement, for the CSV and the PDF file."""

    shop_name: str
    period: str
    before: str
    zone: str
    lines: Sequence[StatementLine]
    notes: Sequence[str]


def plan_statement(
    *,
    shop_name: str,
    shop_currency: str,
    period: str,
    zone: str,
    accounts: Accounts,
    accounts_before: Accounts,
    corrections: Sequence[Correction],
    counts: Mapping[str, int],
) -> ProfitStatement:
    """Return the statement of ``period`` by currency; ``accounts_before`` are those of the month before."""
    used = {code for month in (accounts, accounts_before) for code, by_name in month.items() if by_name}
    used |= {shop_currency, *(c.currency for c in corrections)}
    order = sorted(used, key=lambda currency: (currency != shop_currency, currency))
    unknown_fees = counts.get(UNKNOWN_FEES, 0)
    lines = [
        _mark_incomplete(line) if unknown_fees and line.label in _OF_FEES else line
        for currency in order
        for line in _plan_currency(
            currency, accounts.get(currency, {}), accounts_before.get(currency, {}), corrections
        )
    ]
    notes = [note.format(zone=zone) for note in _NOTES] + list_count_notes(counts)
    return ProfitStatement(shop_name, period, shift_month(period, -1), zone, lines, notes)


def list_count_notes(counts: Mapping[str, int]) -> list[str]:
    """Return a note for each of ``counts`` that makes the month incomplete or needs an explanation."""
    return [
        note.format(format_count(counts[name], noun, plural))
        for name, (noun, plural, note) in _NOTES_OF_COUNTS.items()
        if counts.get(name)
    ]


def net_sales(accounts: Mapping[str, int]) -> int:
    """Return revenue net of discounts and refunds, without tax."""
    return _sum(accounts, "Net sales")


def sum_statement(accounts: Mapping[str, int], counts: Mapping[str, int]) -> dict[str, int]:
    """Return the statement's three sums by label; the profit is INCOMPLETE while fees are unknown."""
    is_marked = bool(counts.get(UNKNOWN_FEES))
    return {
        f"{label}: INCOMPLETE" if is_marked and label == _PROFIT else label: _sum(accounts, label)
        for label in _SUMS
    }


def sum_tax(accounts: Mapping[str, int]) -> dict[str, int]:
    """Return the amount to remit of each tax over all provinces, in the order of the return."""
    sums = dict.fromkeys(COLUMNS, 0)
    for account, cents in accounts.items():
        if account.startswith("tax:"):
            sums[account.rpartition(":")[2]] += cents
    return {tax: cents for tax, cents in sums.items() if cents}


def format_account(account: str) -> str:
    """Return the label of an account: ``tax:CA-BC:PST`` is "PST of CA-BC"."""
    if account.startswith(("tax:", "doubt:")):
        kind, province, tax = account.split(":")
        label = f"{format_tax(tax)} of {'an unknown province' if province == '?' else province}"
        return f"DOUBT: {label}, charged without a registration" if kind == "doubt" else label
    return LABELS.get(account, account)


def format_month(period: str) -> str:
    """Return ``2026-10`` as "October 2026"."""
    return f"{date(int(period[:4]), int(period[5:7]), 1):%B %Y}"


def statement_columns(statement: ProfitStatement) -> Mapping[str, Callable[[StatementLine], object]]:
    """Return the columns of ``profit-and-loss.csv``; two of them are named by month."""
    return {
        "section": lambda line: line.section,
        "line": lambda line: line.label,
        "currency": lambda line: line.currency,
        statement.period: lambda line: line.amount,
        statement.before: lambda line: find_amount(line.before, line.currency),
    }


def _plan_currency(
    currency: str, now: Mapping[str, int], before: Mapping[str, int], corrections: Sequence[Correction]
) -> list[StatementLine]:
    def list_lines(section: str, names: Mapping[str, str], *, keep_zero: bool = False) -> list[StatementLine]:
        found = [
            StatementLine(section, label, currency, now.get(name, 0), before.get(name, 0))
            for name, label in names.items()
        ]
        return [line for line in found if keep_zero or line.cents or line.before]

    def total(section: str, label: str) -> StatementLine:
        return StatementLine(section, label, currency, _sum(now, label), _sum(before, label), is_sum=True)

    late = [c for c in corrections if c.currency == currency]
    of_profit = [c for c in late if c.account in _OF_PROFIT]
    found = [
        *list_lines("Revenue", REVENUE, keep_zero=True),
        total("Revenue", "Net sales"),
        *list_lines("Revenue", OF_SALES),
        *list_lines("Cost of goods", COST_OF_GOODS, keep_zero=True),
        total("Cost of goods", "Gross profit"),
        *list_lines("Payments", COSTS, keep_zero=True),
        *list_lines("Payments", ROUNDING),
        total("Payments", _PROFIT),
        *_plan_corrections("Corrections of closed months", of_profit),
    ]
    if of_profit:
        cents = _sum(now, _PROFIT) + sum(c.change for c in of_profit)
        label = "Profit with corrections"
        found.append(StatementLine("Corrections of closed months", label, currency, cents, None, is_sum=True))
    section = "Sales tax (not revenue)"
    taxes, taxes_before = sum_tax(now), sum_tax(before)
    found += [
        StatementLine(
            section, f"{format_tax(tax)} to remit", currency, taxes.get(tax, 0), taxes_before.get(tax, 0)
        )
        for tax in COLUMNS
        if tax in taxes or tax in taxes_before
    ]
    doubts = sorted(account for account in now.keys() | before.keys() if account.startswith("doubt:"))
    found += list_lines(section, CHANNEL_TAX | {account: format_account(account) for account in doubts})
    of_tax = [c for c in late if c.account in CHANNEL_TAX or c.account.startswith(("tax:", "doubt:"))]
    found += _plan_corrections(section, of_tax)
    found += list_lines("Owed", MEMO)
    found += _plan_corrections("Owed", [c for c in late if c.account in MEMO or c.account in OF_SALES])
    return found


def _mark_incomplete(line: StatementLine) -> StatementLine:
    """Return ``line`` marked as incomplete; without any known fee its amount is unknown."""
    is_unknown = line.label == COSTS["payment_fees"] and not line.cents
    return line._replace(label=f"{line.label}: INCOMPLETE", is_unknown=is_unknown)


def _plan_corrections(section: str, corrections: Sequence[Correction]) -> list[StatementLine]:
    return [
        StatementLine(
            section, f"{format_month(c.period)}: {format_account(c.account)}", c.currency, c.change, None
        )
        for c in corrections
    ]


def format_tax(tax: str) -> str:
    return "Other tax" if tax == "other" else tax


def _sum(accounts: Mapping[str, int], label: str) -> int:
    return sum(accounts.get(name, 0) for name in _SUMS[label])
