"""Sales by day, staff, customer and SKU, from the items of the month close, so that the sums agree."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.closing.tax_lines import TaxedItem

_NAMES = """
select customer_id, name from customers
 where shop_id = %(shop_id)s and customer_id = any(%(customer_id)s) and name <> ''
"""

_STAFF = "select coalesce(settings -> 'staff', '{}'::jsonb) from shop_config where shop_id = %(shop_id)s"


class DaySales(NamedTuple):
    """A day in the shop's zone, in minor units; net sales that are not paid yet are ``unpaid_cents`` only."""

    currency: str
    day: date
    net_cents: int
    refunded_cents: int
    orders: int
    unpaid_cents: int = 0


class TopSeller(NamedTuple):
    """A best seller by net sales. ``label`` identifies it, ``name`` is shown."""

    label: str
    name: str
    net_cents: int
    pieces: int
    orders: int


@dataclass(slots=True)
class _SalesSum:
    """The sales of a day, or of one name."""

    net: int = 0
    refunded: int = 0
    unpaid: int = 0
    pieces: int = 0
    orders: set[str] = field(default_factory=set)

    def add(self, taxed: TaxedItem) -> None:
        item = taxed.item
        if not item.is_paid:
            self.unpaid += taxed.net
            return
        self.net += taxed.net
        self.refunded -= taxed.net if item.is_refund else 0
        self.pieces += -item.pieces if item.is_refund else item.pieces
        if item.kind == "sale":
            self.orders.add(item.order_gid)


@dataclass(slots=True)
class SalesTotals:
    """Sales by (currency, day), and since ``tops_since`` by (kind of name, currency, name)."""

    tops_since: date
    by_day: dict[tuple[str, date], _SalesSum] = field(default_factory=lambda: defaultdict(_SalesSum))
    by_name: dict[tuple[str, str, str], _SalesSum] = field(default_factory=lambda: defaultdict(_SalesSum))
    titles: dict[str, str] = field(default_factory=dict)

    def days(self) -> list[DaySales]:
        return [
            DaySales(currency, day, found.net, found.refunded, len(found.orders), found.unpaid)
            for (currency, day), found in sorted(self.by_day.items())
        ]

    def top_sellers(self, kind: str, currency: str, limit: int = 3) -> list[TopSeller]:
        """Return the ``limit`` best sellers of ``kind``: ``staff``, ``customer`` or ``sku``."""
        titles = self.titles if kind == "sku" else {}
        found = [
            TopSeller(name, titles.get(name, name), sold.net, sold.pieces, len(sold.orders))
            for (*scope, name), sold in self.by_name.items()
            if scope == [kind, currency] and sold.net > 0
        ]
        return sorted(found, key=lambda top: (-top.net_cents, -top.pieces, top.label))[:limit]


def sum_sales(items: Iterable[TaxedItem], tops_since: date) -> SalesTotals:
    """Return the sums of ``items``, oldest first, without gift cards, which are money owed."""
    sales = SalesTotals(tops_since)
    for taxed in items:
        item = taxed.item
        if item.is_gift_card:
            continue
        sales.by_day[item.currency, taxed.day].add(taxed)
        if taxed.day < tops_since:
            continue
        customer = "" if item.customer_id is None else str(item.customer_id)
        for kind, name in (("staff", item.staff), ("customer", customer), ("sku", item.sku)):
            if name:
                sales.by_name[kind, item.currency, name].add(taxed)
        if item.sku and item.title:
            sales.titles[item.sku] = item.title
    return sales


def name_staff(tx: Connection, shop_id: int, top_sellers: list[TopSeller]) -> list[TopSeller]:
    """Return ``top_sellers`` with the names of ``fleet shops staff`` for labels such as ``user:123``."""
    names = tx.exec_driver_sql(_STAFF, {"shop_id": shop_id}).scalar() or {}
    named = []
    for top in top_sellers:
        number = top.label.removeprefix("user:")
        unnamed = top.label if number == top.label else f"Staff {number}"
        named.append(top._replace(name=names.get(number) or unnamed))
    return named


def name_customers(tx: Connection, shop_id: int, top_sellers: list[TopSeller]) -> list[TopSeller]:
    """Return ``top_sellers`` by name; a customer without a name, or whose name was redacted, by number."""
    values: dict[str, Any] = {"shop_id": shop_id, "customer_id": [int(top.label) for top in top_sellers]}
    names = (
        {str(row.customer_id): row.name for row in tx.exec_driver_sql(_NAMES, values)} if top_sellers else {}
    )
    return [top._replace(name=names.get(top.label, f"Customer {top.label}")) for top in top_sellers]
