"""The totals of a month: one figure for each account and currency, from today's rows.

A correction is about one account: ``gross_sales``, or ``tax:CA-BC:PST`` for a tax to remit. Sums of accounts
(net sales, profit) are not stored, so they cannot contradict the accounts.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.closing.sale_items import (
    IS_COUNTED,
    IS_PAID,
    IS_REFUND_COUNTED,
    PIECES_REMOVED,
    SalesPeriod,
    stream,
    stream_items,
)
from services.closing.tax_files import TaxSums
from services.closing.tax_lines import TaxedItem, plan_taxed
from services.closing.tax_rates import CHANNEL
from services.shopify.backfill.state import count_unread_days
from services.shopify.orders.tables import DUTIES_REMOVED

FORMAT = "shopfleet-month/3"

_SINCE_3 = frozenset(("additional_fees",))
NEW_ACCOUNTS = {
    "shopfleet-month/1": _SINCE_3
    | {"unpaid_sales", "tips", "duties", "channel_tax", "zero_rated_sales", "cash_rounding"},
    "shopfleet-month/2": _SINCE_3,
}
"""Accounts that a month of an older format lacks; they are not compared."""

Accounts = dict[str, dict[str, int]]
"""Minor units by currency and account. Negative figures reduce the profit."""

Costs = Mapping[tuple[str, str], int | None]
"""The cost of a piece by currency and SKU; None if unknown."""


class CostLine(NamedTuple):
    """The pieces sold of one SKU, net of returns, and the cost of a piece to the shop."""

    currency: str
    sku: str
    pieces: int
    cost_cents: int | None

    @property
    def total_cents(self) -> int | None:
        return None if self.cost_cents is None else self.cost_cents * self.pieces


@dataclass(slots=True)
class MonthFigures:
    """A month's accounts, taxes and costs, and the counts of their rows."""

    accounts: Accounts = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    taxes: TaxSums = field(default_factory=TaxSums)
    costs: list[CostLine] = field(default_factory=list)

    def add(self, currency: str, account: str, cents: int) -> None:
        """Add ``cents`` to the account; an account without cents does not exist."""
        if cents:
            by_name = self.accounts.setdefault(currency, {})
            by_name[account] = by_name.get(account, 0) + cents

    def add_items(self, items: Iterable[TaxedItem]) -> Iterator[TaxedItem]:
        """Add each of ``items`` to its accounts, then yield it."""
        for taxed in items:
            self._add_item(taxed)
            yield taxed

    def _add_item(self, taxed: TaxedItem) -> None:
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
    """Return a tax's account: to remit, remitted by the sales channel, or charged without a registration."""
    if tax == CHANNEL:
        return "channel_tax"
    return f"{'doubt' if tax in taxed.doubtful else 'tax'}:{taxed.item.province or '?'}:{tax}"


# Parts of an order that are no sale: Shopify's total includes tip, duties and fees, not the rounding of cash.
# The loss of a dispute is in its balance entries, in the balance's currency, if they are known.
_SUMS = f"""
select o.currency, v.account, sum(v.cents)::bigint as cents
  from orders o
 cross join lateral (values ('tips', o.tip_cents), ('duties', o.duties_cents - {DUTIES_REMOVED}),
                            ('additional_fees', o.additional_fees_cents),
                            ('cash_rounding', o.rounding_cents)) as v(account, cents)
 where o.shop_id = %(shop_id)s and o.placed_at >= %(begins)s and o.placed_at < %(ends)s
   and v.cents <> 0 and {IS_COUNTED}
 group by o.currency, v.account
union all
select o.currency, v.account, -sum(v.cents)::bigint
  from order_refunds r join orders o using (shop_id, order_gid)
 cross join lateral (values ('tips', r.tip_cents), ('duties', r.duties_cents),
                            ('additional_fees', r.additional_fees_cents),
                            ('cash_rounding', r.rounding_cents)) as v(account, cents)
 where r.shop_id = %(shop_id)s and r.refunded_at >= %(begins)s and r.refunded_at < %(ends)s
   and v.cents <> 0 and {IS_REFUND_COUNTED}
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
"""  # noqa: S608 - the condition is a constant

UNKNOWN_FEES = "payments without fee"
UNREAD_DAYS = "days whose orders were not read"

_COUNTS = f"""
select count(*) as "orders", count(*) filter (where o.tax_cents is null) as "orders without tax detail",
       count(*) filter (where not {IS_PAID}) as "orders not paid",
       (select count(*) from order_refunds r
         where r.shop_id = %(shop_id)s and r.refunded_at >= %(begins)s and r.refunded_at < %(ends)s
           and r.status = 'success'
           and not exists (select 1 from orders o where o.shop_id = r.shop_id and o.order_gid = r.order_gid))
       as "refunds without order",
       (select count(*) from transactions t
         where t.shop_id = %(shop_id)s and t.occurred_at >= %(begins)s and t.occurred_at < %(ends)s
           and t.kind = 'charge' and t.status = 'paid' and t.fee_cents is null
           and not exists (select 1 from balance_entries b
                            where b.shop_id = t.shop_id and b.source_id = t.provider_id))
       as "{UNKNOWN_FEES}"
  from orders o
 where o.shop_id = %(shop_id)s and o.placed_at >= %(begins)s and o.placed_at < %(ends)s and {IS_COUNTED}
"""  # noqa: S608

# A SKU of several inventory items has the cost of the newest one that is still sold.
_COSTS = f"""
select p.currency, p.sku, sum(p.pieces)::bigint as pieces, c.cost_cents
  from (select o.currency, l.sku, l.quantity - {PIECES_REMOVED} as pieces
          from orders o join order_lines l using (shop_id, order_gid)
         where o.shop_id = %(shop_id)s and o.placed_at >= %(begins)s and o.placed_at < %(ends)s
           and not l.is_gift_card and not l.is_tip and {IS_COUNTED}
        union all
        select o.currency, l.sku, -f.quantity
          from order_refunds r join orders o using (shop_id, order_gid)
          join order_refund_lines f
            on f.shop_id = r.shop_id and f.order_gid = r.order_gid and f.refund_id = r.refund_id
          join order_lines l
            on l.shop_id = f.shop_id and l.order_gid = f.order_gid and l.line_id = f.line_id
         where r.shop_id = %(shop_id)s and r.refunded_at >= %(begins)s and r.refunded_at < %(ends)s
           and not l.is_gift_card and not l.is_tip and {IS_REFUND_COUNTED}) p
  left join (select distinct on (i.sku) i.sku, i.cost_cents, s.currency
               from inventory_items i join shops s on s.id = i.shop_id
              where i.shop_id = %(shop_id)s and i.sku <> '' and i.cost_cents is not null
              order by i.sku, i.deleted_at desc nulls first, i.updated_at desc, i.inventory_item_id) c
         on c.sku = p.sku and c.currency = p.currency
 group by p.currency, p.sku, c.cost_cents
having sum(p.pieces) <> 0
 order by p.currency collate "C", p.sku collate "C"
"""  # noqa: S608


def stream_taxed(tx: Connection, period: SalesPeriod) -> Iterator[TaxedItem]:
    for item in stream_items(tx, period):
        yield plan_taxed(item, period.zone, period.profile)


_discard = deque[TaxedItem](maxlen=0).extend


def get_figures(
    tx: Connection,
    month: SalesPeriod,
    costs: Costs | None = None,
    write_items: Callable[[Iterator[TaxedItem]], object] = _discard,
) -> MonthFigures:
    """Return the month's figures from today's rows; call ``write_items`` with the stream of its items.

    The ``costs`` of a closed month replace today's costs.
    """
    figures = MonthFigures()
    write_items(figures.add_items(stream_taxed(tx, month)))
    values = month.parameters
    for row in tx.exec_driver_sql(_SUMS, values):
        figures.add(row.currency, row.account, row.cents)
    for line in stream(tx, _COSTS, values, CostLine):
        if costs is not None:
            line = line._replace(cost_cents=costs.get((line.currency, line.sku), line.cost_cents))  # noqa: PLW2901
        figures.costs.append(line)
        if line.total_cents is None:
            figures.counts["pieces without cost"] += max(0, line.pieces)
        else:
            figures.add(line.currency, "cost_of_goods", -line.total_cents)
    counts = dict(tx.exec_driver_sql(_COUNTS, values).one()._mapping)
    counts[UNREAD_DAYS] = count_unread_days(tx, month.shop_id, month.begins, month.ends, month.zone)
    figures.counts.update({name: count for name, count in counts.items() if count})
    return figures


def make_stored_figures(figures: MonthFigures, month: SalesPeriod) -> dict[str, Any]:
    """Return ``closed_periods.figures``, with the registrations: later ones do not apply to the month."""
    registered = month.profile.registered
    accounts = {
        currency: {account: cents for account, cents in sorted(by_name.items()) if cents}
        for currency, by_name in sorted(figures.accounts.items())
    }
    return {
        "format": FORMAT,
        "zone": month.zone.key,
        "home": month.profile.province,
        "registered": None if registered is None else sorted(registered),
        "accounts": {currency: by_name for currency, by_name in accounts.items() if by_name},
        "counts": dict(sorted(figures.counts.items())),
    }
