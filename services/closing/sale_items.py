"""What a shop sold and refunded, item by item, streamed from PostgreSQL, and the conditions for what counts.

A sale is dated by its order, a refund by the day it was given. Gift cards are items but no revenue. The
month's statement, its tax files and the owner's digest all use these conditions: ``o`` is
``orders``, ``l`` is ``order_lines``, ``r`` is ``order_refunds``; the parameters are those of ``SalesPeriod``.
"""

from collections.abc import Generator, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import psycopg
from psycopg.rows import class_row
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from services.closing.tax_profile import TaxProfile
from services.core.pg_arrays import text_array
from services.jobs.definition import Covers
from services.jobs.schedule import period_bounds
from services.shopify.orders.tables import DUTIES_REMOVED

T = TypeVar("T")

ROWS_AT_ONCE = 200
"""Rows of one network message."""

IS_COUNTED = """
 o.deleted_at is null and not o.is_test and o.financial_status not in ('voided', 'expired')
 and not (o.cancelled_at is not null and o.financial_status in ('pending', 'authorized', 'unpaid', ''))
"""
"""An order counts from the day it was placed, as its invoice does, unless it is a test, deleted, voided,
expired, or cancelled before anything was paid."""

IS_REFUND_COUNTED = f"r.status = 'success' and {IS_COUNTED}"
"""A refund counts once its money is returned; a pending or failed one does not count."""

IS_PAID = "o.financial_status in ('paid', 'partially_refunded', 'refunded')"
"""Whether the whole order was paid. Net sales include unpaid orders; the digest's revenue does not."""

PIECES_REMOVED = """
 greatest(0, l.quantity - coalesce(l.current_quantity, l.quantity) - l.refunded_quantity)
"""
"""Pieces of a line that an edit removed without a refund: these were never sold."""

TAX_PLACE = """
 coalesce(nullif(o.province, ''),
          (select nullif(w.province, '') from locations w
            where w.shop_id = o.shop_id and w.location_id = o.location_id), %(home)s)
"""
"""Where an order is taxed: at its destination; if handed over, at the counter or pickup location."""

IS_PST_EXEMPT = """
 (%(exempt)s::text <> '{}' and ('sku:' || lower(l.sku) = any(%(exempt)s::text[]) or exists (
   select from products p
    where p.shop_id = l.shop_id and p.product_id = l.product_id
      and ('type:' || lower(p.product_type) = any(%(exempt)s::text[])
           or exists (select from unnest(string_to_array(lower(p.tags), ',')) t
                       where 'tag:' || btrim(t) = any(%(exempt)s::text[]))))))
"""
"""Whether the tax profile has the product type, tag or SKU as exempt from provincial tax."""

SaleItemKind = Literal[
    "sale", "shipping", "included duties", "conversion",
    "refund", "shipping refund", "refunded duties", "refund adjustment",
]  # fmt: skip


class SaleItem(NamedTuple):
    """One line sold, refunded or shipped. Sums are positive; ``is_refund`` is their direction.

    ``amount`` is the price after ``discount``, with its tax if ``taxes_included``; ``taxes`` are the tax
    lines of the sale, and ``tax_cents`` the refunded part of them. ``quantity`` was ordered, of which
    ``removed`` pieces were never sold: ``discount``, ``amount`` and ``taxes`` are of all pieces. A refund
    adjustment is the money of a refund beyond its parts; it is negative for less (a restocking fee). Included
    and refunded duties are negative, because the prices contain them. A conversion is the rounding difference
    between an order's total and its parts.
    """

    at: datetime
    order_gid: str
    kind: SaleItemKind
    place: int
    order_name: str
    placed_at: datetime
    province: str
    currency: str
    taxes_included: bool
    sku: str
    title: str
    quantity: int
    discount: int
    amount: int
    taxes: list[dict[str, Any]] | None
    tax_cents: int
    is_taxable: bool
    is_gift_card: bool
    removed: int = 0
    is_pst_exempt: bool = False
    is_paid: bool = True
    staff: str = ""
    customer_id: int | None = None

    @property
    def pieces(self) -> int:
        return self.quantity - self.removed

    @property
    def is_refund(self) -> bool:
        """Whether the item reduces sales and tax."""
        return self.kind in ("refund", "shipping refund", "refunded duties", "refund adjustment")


class SalesPeriod(NamedTuple):
    """A shop's time span from ``begins`` up to, not including, ``ends``, with its zone and tax profile."""

    shop_id: int
    begins: datetime
    ends: datetime
    zone: ZoneInfo
    profile: TaxProfile

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the statements; ``exempt`` has what is exempt from provincial tax."""
        exempt = text_array([entry.lower() for entry in self.profile.pst_exempt])
        return self._asdict() | {"home": self.profile.province, "exempt": exempt}


def make_month_period(shop_id: int, period: str, zone: ZoneInfo, profile: TaxProfile) -> SalesPeriod:
    """Return the month ``period``; raise ``ValueError`` if it is none."""
    return SalesPeriod(shop_id, *period_bounds(Covers.MONTH, period, zone), zone, profile)


# Shipping is taxed if a line of its order is; with provincial tax if such a line is not exempt.
_SHIPPING_IS = """
       exists (select from order_lines l where l.shop_id = o.shop_id and l.order_gid = o.order_gid
                  and l.is_taxable and not l.is_gift_card and not o.is_tax_exempt)"""
_SHIPPING_IS_EXEMPT = f"""
       not exists (select from order_lines l where l.shop_id = o.shop_id and l.order_gid = o.order_gid
                      and l.is_taxable and not l.is_gift_card and not {IS_PST_EXEMPT})"""

# All taxes of an order: an adjustment refunds a share of each.
_ORDER_TAXES = """
       (select jsonb_agg(t) from order_lines l, jsonb_array_elements(l.taxes) t
         where l.shop_id = o.shop_id and l.order_gid = o.order_gid)"""

_ITEMS = f"""
with sold as (
  select o.*, {TAX_PLACE} as place_of_supply, {IS_PAID} as is_paid from orders o
   where o.shop_id = %(shop_id)s and o.placed_at >= %(begins)s and o.placed_at < %(ends)s and {IS_COUNTED}
), refunded as (
  select r.refund_id, r.refunded_at, r.shipping_cents as back_cents, r.shipping_tax_cents,
         r.unexplained_cents - r.adjustment_cents as beyond_cents, r.duties_cents as back_duties_cents,
         -r.adjustment_tax_cents as beyond_tax_cents,
         o.*, {TAX_PLACE} as place_of_supply, {IS_PAID} as is_paid
    from order_refunds r join orders o using (shop_id, order_gid)
   where r.shop_id = %(shop_id)s and r.refunded_at >= %(begins)s and r.refunded_at < %(ends)s
     and {IS_REFUND_COUNTED}
)
select * from (
select o.placed_at as at, o.order_gid, 'sale' as kind, l.line_id as place,
       o.name as order_name, o.placed_at, o.place_of_supply as province, o.currency, o.taxes_included, l.sku,
       l.title, l.quantity, l.discount_cents as discount,
       l.price_cents * l.quantity - l.discount_cents as amount, l.taxes, 0::bigint as tax_cents,
       l.is_taxable and not o.is_tax_exempt as is_taxable, l.is_gift_card, {PIECES_REMOVED} as removed,
       {IS_PST_EXEMPT} as is_pst_exempt, o.is_paid,
       coalesce(nullif(l.staff_label, ''), o.staff_label) as staff, o.customer_id
  from sold o join order_lines l using (shop_id, order_gid)
 where not l.is_tip and l.quantity > {PIECES_REMOVED}
union all
select o.placed_at, o.order_gid, 'shipping', 0, o.name, o.placed_at, o.place_of_supply, o.currency,
       o.taxes_included, '', '', 0, o.off_cents, o.shipping_cents - o.off_cents, o.shipping_taxes, 0,
       {_SHIPPING_IS}, false, 0, {_SHIPPING_IS_EXEMPT}, o.is_paid, o.staff_label, o.customer_id
  from (select s.*, greatest(0, least(s.shipping_cents, coalesce(s.discount_cents, 0) - coalesce((
               select sum(l.discount_cents) from order_lines l
                where l.shop_id = s.shop_id and l.order_gid = s.order_gid), 0)))::bigint as off_cents
          from sold s) o
 where o.shipping_cents is not null and (o.shipping_cents <> o.off_cents or o.shipping_taxes is not null)
union all
select o.placed_at, o.order_gid, 'included duties', 0, o.name, o.placed_at, o.place_of_supply, o.currency,
       false, '', '', 0, 0, ({DUTIES_REMOVED}) - o.duties_cents, null, 0, false, false, 0, false, o.is_paid,
       o.staff_label, o.customer_id
  from sold o
 where o.duties_included and o.duties_cents <> 0
union all
select o.placed_at, o.order_gid, 'conversion', 0, o.name, o.placed_at, o.place_of_supply, o.currency, false,
       '', '', 0, 0, o.conversion_cents, null, 0, false, false, 0, false, o.is_paid, o.staff_label,
       o.customer_id
  from sold o
 where o.conversion_cents <> 0
union all
select o.refunded_at, o.order_gid, 'refund', f.refund_line_id, o.name, o.placed_at, o.place_of_supply,
       o.currency, o.taxes_included, coalesce(l.sku, ''), coalesce(l.title, ''), f.quantity, 0,
       f.subtotal_cents, l.taxes, f.tax_cents, coalesce(l.is_taxable, true) and not o.is_tax_exempt,
       coalesce(l.is_gift_card, false), 0, coalesce({IS_PST_EXEMPT}, false), o.is_paid,
       coalesce(nullif(l.staff_label, ''), o.staff_label), o.customer_id
  from refunded o
  join order_refund_lines f
    on f.shop_id = o.shop_id and f.order_gid = o.order_gid and f.refund_id = o.refund_id
  left join order_lines l on l.shop_id = o.shop_id and l.order_gid = o.order_gid and l.line_id = f.line_id
 where f.quantity > 0 and not coalesce(l.is_tip, false)
union all
select o.refunded_at, o.order_gid, 'shipping refund', o.refund_id, o.name, o.placed_at, o.place_of_supply,
       o.currency, false, '', '', 0, 0, o.back_cents, o.shipping_taxes, o.shipping_tax_cents,
       {_SHIPPING_IS}, false, 0, {_SHIPPING_IS_EXEMPT}, o.is_paid, o.staff_label, o.customer_id
  from refunded o
 where o.back_cents <> 0 or o.shipping_tax_cents <> 0
union all
select o.refunded_at, o.order_gid, 'refunded duties', o.refund_id, o.name, o.placed_at, o.place_of_supply,
       o.currency, false, '', '', 0, 0, -o.back_duties_cents, null, 0, false, false, 0, false, o.is_paid,
       o.staff_label, o.customer_id
  from refunded o
 where o.duties_included and o.back_duties_cents <> 0
union all
select o.refunded_at, o.order_gid, 'refund adjustment', o.refund_id, o.name, o.placed_at, o.place_of_supply,
       o.currency, false, '', '', 0, 0, o.beyond_cents, {_ORDER_TAXES}, o.beyond_tax_cents, false, false, 0,
       false, o.is_paid, o.staff_label, o.customer_id
  from refunded o
 where o.beyond_cents <> 0 or o.beyond_tax_cents <> 0
) items
 order by at, order_gid collate "C", kind collate "C", place
"""  # noqa: S608 - the conditions are constants


def stream_items(tx: Connection, period: SalesPeriod) -> Generator[SaleItem, None, None]:
    """Yield the items of the period, oldest first, always in the same order for the same rows.

    Shopify's price of shipping is before discounts: a discount that is on no line was on the shipping. The
    amount of a refunded line includes tax if the order's prices do; that of refunded shipping and of an
    adjustment never does.
    """
    return stream(tx, _ITEMS, period.parameters, SaleItem)


def stream(
    tx: Connection, statement: str, values: Mapping[str, Any], row: type[T]
) -> Generator[T, None, None]:
    """Yield the rows of ``statement`` as ``row``, by column name, while the server still sends them."""
    driver = tx.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - ``driver_url`` ensures it
    try:
        with driver.cursor(row_factory=class_row(row)) as cursor:
            rows = cursor.stream(statement, values, binary=True, size=ROWS_AT_ONCE)
            try:
                yield from rows
            finally:
                # Closing an unfinished stream would cancel it, and the transaction would fail with it.
                for _ in rows:
                    pass
    except psycopg.OperationalError as fault:
        raise OperationalError(statement, None, fault, connection_invalidated=driver.broken) from fault
