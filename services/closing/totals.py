"""What a month came to: one figure for each account and currency, from the rows of the books.

An account is what a correction can be about: ``gross_sales``, or ``tax:CA-BC:PST`` for a tax to remit. Sums
that follow from others (net sales, profit) are not kept, so they cannot contradict them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.closing.counting import COUNTS, IS_PAID, PIECES_REMOVED, REFUND_COUNTS
from services.closing.items import SalesPeriod, stream, stream_items
from services.closing.tax_files import TaxSums
from services.closing.tax_lines import TaxedItem, plan_taxed
from services.closing.tax_profile import TaxProfile
from services.closing.tax_rates import CHANNEL
from services.shopify.orders.tables import DUTIES_REMOVED

FORMAT = "shopfleet-month/3"

_SINCE_3 = frozenset(("additional_fees",))
NEW_ACCOUNTS = {
    "shopfleet-month/1": _SINCE_3
    | {"unpaid_sales", "tips", "duties", "channel_tax", "zero_rated_sales", "cash_rounding"},
    "shopfleet-month/2": _SINCE_3,
}
"""Accounts that a month of an older format has not, so that their figures of today are no correction."""

Accounts = dict[str, dict[str, int]]
"""Minor units by currency and account. What lowers the profit is negative."""

Costs = Mapping[tuple[str, str], int | None]
"""What a piece cost, by currency and SKU; None where nobody knew."""


class CostLine(NamedTuple):
    """What was sold of one SKU, net of returns, and what a piece of it cost the shop."""

    currency: str
    sku: str
    pieces: int
    cost_cents: int | None


@dataclass(slots=True)
class MonthFigures:
    """A month's accounts, the tax behind them, and how many rows they were made from."""

    accounts: Accounts = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    taxes: TaxSums = field(default_factory=TaxSums)
    costs: list[CostLine] = field(default_factory=list)

    def add(self, currency: str, account: str, cents: int) -> None:
        """``cents`` more are in the account; one that never had any does not exist."""
        if cents:
            of = self.accounts.setdefault(currency, {})
            of[account] = of.get(account, 0) + cents

    def add_item(self, taxed: TaxedItem) -> None:
        """An item sold, shipped or given back is in its accounts."""
        item = taxed.item
        self.counts[item.kind] += 1
        self.taxes.add(taxed)
        for tax, cents in taxed.charged.items():
            self.add(item.currency, _tax_account(taxed, tax), cents)
        if item.is_gift_card:
            self.add(item.currency, "gift_cards_sold", taxed.net)
            return
        if item.kind == "sale":
            self.add(item.currency, "gross_sales", taxed.net + taxed.discount)
            self.add(item.currency, "discounts", -taxed.discount)
        else:
            self.add(item.currency, _ACCOUNTS[item.kind], taxed.net)
        if not item.is_paid:
            self.add(item.currency, "unpaid_sales", taxed.net)
        if taxed.is_export:
            self.add(item.currency, "zero_rated_sales", taxed.net)


_ACCOUNTS = {
    "included duties": "gross_sales",
    "conversion": "gross_sales",
    "refund": "returns",
    "refunded duties": "returns",
    "shipping": "shipping",
    "shipping refund": "shipping_refunds",
    "refund adjustment": "refund_adjustments",
}


def _tax_account(taxed: TaxedItem, tax: str) -> str:
    """Return the account of a tax: to remit, left to the sales channel, or charged without a registration."""
    if tax == CHANNEL:
        return "channel_tax"
    return f"{'doubt' if tax in taxed.doubtful else 'tax'}:{taxed.item.province or '?'}:{tax}"


# What an order has and is no sale: Shopify's total includes tip, duties and fees, not the rounding of cash.
# Of a lost dispute the balance's entries are the loss in the balance's currency, where they are known.
_TOLD = f"""
select o.currency, v.account, sum(v.cents)::bigint
  from orders o
 cross join lateral (values ('tips', o.tip_cents), ('duties', o.duties_cents - {DUTIES_REMOVED}),
                            ('additional_fees', o.additional_fees_cents),
                            ('cash_rounding', o.rounding_cents)) as v(account, cents)
 where o.shop_id = %(shop_id)s and o.placed_at >= %(begins)s and o.placed_at < %(ends)s
   and v.cents <> 0 and {COUNTS}
 group by o.currency, v.account
union all
select o.currency, v.account, -sum(v.cents)::bigint
  from order_refunds r join orders o using (shop_id, order_gid)
 cross join lateral (values ('tips', r.tip_cents), ('duties', r.duties_cents),
                            ('additional_fees', r.additional_fees_cents),
                            ('cash_rounding', r.rounding_cents)) as v(account, cents)
 where r.shop_id = %(shop_id)s and r.refunded_at >= %(begins)s and r.refunded_at < %(ends)s
   and v.cents <> 0 and {REFUND_COUNTS}
 group by o.currency, v.account
union all
select currency, 'payment_fees',
       -sum(fee_cents + case when kind in ('stripe_fee', 'stripe_fx_fee', 'tax_fee', 'network_cost',
                                           'application_fee') then -amount_cents else 0 end)::bigint
  from balance_entries
 where shop_id = %(shop_id)s and created_at >= %(begins)s and created_at < %(ends)s
 group by currency
union all
select t.currency, 'payment_fees', -sum(t.fee_cents)::bigint
  from transactions t
 where t.shop_id = %(shop_id)s and t.occurred_at >= %(begins)s and t.occurred_at < %(ends)s
   and t.fee_cents is not null
   and not exists (select 1 from balance_entries b
                    where b.shop_id = t.shop_id and b.source_id = t.provider_id)
 group by t.currency
union all
select coalesce(b.currency, t.currency), 'disputes_lost',
       sum(coalesce(b.amount_cents, -t.amount_cents))::bigint
  from transactions t
  left join balance_entries b on b.shop_id = t.shop_id and b.source_id = t.provider_id
 where t.shop_id = %(shop_id)s and t.occurred_at >= %(begins)s and t.occurred_at < %(ends)s
   and t.kind = 'dispute' and t.status = 'lost'
 group by 1
"""  # noqa: S608 - the condition is our own

_COUNTED = f"""
select (select count(*) from orders o
         where o.shop_id = %(shop_id)s and o.placed_at >= %(begins)s and o.placed_at < %(ends)s and {COUNTS}),
       (select count(*) from order_refunds r
         where r.shop_id = %(shop_id)s and r.refunded_at >= %(begins)s and r.refunded_at < %(ends)s
           and r.status = 'success'
           and not exists (select 1 from orders o where o.shop_id = r.shop_id and o.order_gid = r.order_gid)),
       (select count(*) from orders o
         where o.shop_id = %(shop_id)s and o.placed_at >= %(begins)s and o.placed_at < %(ends)s
           and o.tax_cents is null and {COUNTS}),
       (select count(*) from orders o
         where o.shop_id = %(shop_id)s and o.placed_at >= %(begins)s and o.placed_at < %(ends)s
           and {COUNTS} and not {IS_PAID}),
       (select count(*) from transactions t
         where t.shop_id = %(shop_id)s and t.occurred_at >= %(begins)s and t.occurred_at < %(ends)s
           and t.kind = 'charge' and t.status = 'paid' and t.fee_cents is null
           and not exists (select 1 from balance_entries b
                            where b.shop_id = t.shop_id and b.source_id = t.provider_id))
"""  # noqa: S608

UNKNOWN_FEES = "payments without fee"
_COUNT_NAMES = (
    "orders", "refunds without order", "orders without tax detail", "orders not paid", UNKNOWN_FEES
)  # fmt: skip

# A SKU that several stocked items share has the cost of the newest of them that is still sold.
_COSTS = f"""
select p.currency, p.sku, sum(p.pieces)::bigint, c.cost_cents
  from (select o.currency, l.sku, l.quantity - {PIECES_REMOVED} as pieces
          from orders o join order_lines l using (shop_id, order_gid)
         where o.shop_id = %(shop_id)s and o.placed_at >= %(begins)s and o.placed_at < %(ends)s
           and not l.is_gift_card and not l.is_tip and {COUNTS}
        union all
        select o.currency, l.sku, -f.quantity
          from order_refunds r join orders o using (shop_id, order_gid)
          join order_refund_lines f
            on f.shop_id = r.shop_id and f.order_gid = r.order_gid and f.refund_id = r.refund_id
          join order_lines l
            on l.shop_id = f.shop_id and l.order_gid = f.order_gid and l.line_id = f.line_id
         where r.shop_id = %(shop_id)s and r.refunded_at >= %(begins)s and r.refunded_at < %(ends)s
           and not l.is_gift_card and not l.is_tip and {REFUND_COUNTS}) p
  left join (select distinct on (i.sku) i.sku, i.cost_cents, s.currency
               from inventory_items i join shops s on s.id = i.shop_id
              where i.shop_id = %(shop_id)s and i.sku <> '' and i.cost_cents is not null
              order by i.sku, i.deleted_at desc nulls first, i.updated_at desc, i.inventory_item_id) c
         on c.sku = p.sku and c.currency = p.currency
 group by p.currency, p.sku, c.cost_cents
having sum(p.pieces) <> 0
 order by p.currency collate "C", p.sku collate "C"
"""  # noqa: S608


def stream_taxed(
    tx: Connection, month: SalesPeriod, zone: ZoneInfo, profile: TaxProfile
) -> Iterator[TaxedItem]:
    """Yield the month's items with their tax, as the database sends them."""
    for item in stream_items(tx, month):
        yield plan_taxed(item, zone, profile, month.home)


def get_figures(
    tx: Connection, month: SalesPeriod, zone: ZoneInfo, profile: TaxProfile, costs: Costs | None = None
) -> MonthFigures:
    """Return what the month comes to by today's rows. ``costs``: those of its closing, if it was closed."""
    figures = MonthFigures()
    for taxed in stream_taxed(tx, month, zone, profile):
        figures.add_item(taxed)
    complete_figures(tx, month, figures, costs)
    return figures


def complete_figures(
    tx: Connection, month: SalesPeriod, figures: MonthFigures, costs: Costs | None = None
) -> None:
    """What is not told item by item is in ``figures``: costs, fees, disputes, counts.

    A month that was closed keeps the costs it was closed with: what a piece costs today says nothing of then.
    """
    values = month._asdict()
    for currency, account, cents in tx.exec_driver_sql(_TOLD, values):
        figures.add(currency, account, cents)
    for row in stream(tx, _COSTS, values):
        line = CostLine(*row)
        if costs is not None:
            line = line._replace(cost_cents=costs.get((line.currency, line.sku), line.cost_cents))
        figures.costs.append(line)
        if line.cost_cents is None:
            figures.counts["pieces without cost"] += max(0, line.pieces)
        else:
            figures.add(line.currency, "cost_of_goods", -line.pieces * line.cost_cents)
    counted = tx.exec_driver_sql(_COUNTED, values).one()
    figures.counts.update({name: count for name, count in zip(_COUNT_NAMES, counted, strict=True) if count})


def to_stored(figures: MonthFigures, zone: ZoneInfo, home: str, profile: TaxProfile) -> dict[str, Any]:
    """Return what ``closed_periods.figures`` keeps: accounts that came to nothing are left out.

    The registrations decide what is to be remitted, so a later one changes no closed month.
    """
    accounts = {
        currency: {account: cents for account, cents in sorted(of.items()) if cents}
        for currency, of in sorted(figures.accounts.items())
    }
    return {
        "format": FORMAT,
        "zone": zone.key,
        "home": home,
        "registered": None if profile.registered is None else sorted(profile.registered),
        "accounts": {currency: of for currency, of in accounts.items() if of},
        "counts": dict(sorted(figures.counts.items())),
    }
