"""What a shop sold and took back in a month, item by item, streamed: neither side ever holds them all.

An order counts in the month in which it was placed, as its invoice does, and a refund in the month in
which it was given. Left out are orders that were deleted, and those cancelled before anything was paid: no
sale came of them. A gift card is in the rows, and is no revenue.
"""

from collections.abc import Generator, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

AT_ONCE = 200
"""Rows that travel together."""

Kind = Literal["sale", "shipping", "refund", "shipping refund"]

COUNTS = """
 o.deleted_at is null
 and not (o.cancelled_at is not null
          and o.financial_status in ('pending', 'authorized', 'voided', 'expired', 'unpaid', ''))
"""
"""Which orders came to a sale. Every statement about a month has this condition."""


PLACE = """
 coalesce(nullif(o.province, ''),
          (select nullif(w.province, '') from locations w
            where w.shop_id = o.shop_id and w.location_id = o.location_id), %(home)s)
"""
"""Where an order is taxed: where it goes; over the counter, where the counter is."""


class Item(NamedTuple):
    """One line sold, refunded or shipped. All sums are positive; ``kind`` says which way they go.

    ``amount`` is what was asked for it after ``discount``, its tax included if ``taxes_included``;
    ``taxes`` are the tax lines of the sale, and ``tax_cents`` what a refund gave back of them.
    """

    at: datetime
    order_gid: str
    kind: Kind
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


class Month(NamedTuple):
    """A shop's month as its clocks bound it. ``home`` is the province of what is handed over the counter."""

    shop_id: int
    begins: datetime
    ends: datetime
    home: str = ""


_ITEMS = f"""
with sold as (
  select o.*, {PLACE} as place_of_supply from orders o
   where o.shop_id = %(shop_id)s and o.placed_at >= %(begins)s and o.placed_at < %(ends)s and {COUNTS}
), refunded as (
  select r.refund_id, r.refunded_at, r.shipping_cents as back_cents, r.shipping_tax_cents, o.*,
         {PLACE} as place_of_supply
    from order_refunds r join orders o using (shop_id, order_gid)
   where r.shop_id = %(shop_id)s and r.refunded_at >= %(begins)s and r.refunded_at < %(ends)s and {COUNTS}
)
select * from (
select o.placed_at as at, o.order_gid, 'sale' as kind, l.line_id as place, o.name, o.placed_at,
       o.place_of_supply, o.currency, o.taxes_included, l.sku, l.title, l.quantity, l.discount_cents,
       l.price_cents * l.quantity - l.discount_cents, l.taxes, 0::bigint, l.is_taxable, l.is_gift_card
  from sold o join order_lines l using (shop_id, order_gid)
 where l.quantity > 0
union all
select o.placed_at, o.order_gid, 'shipping', 0, o.name, o.placed_at, o.place_of_supply, o.currency,
       o.taxes_included, '', '', 0, o.off_cents, o.shipping_cents - o.off_cents, o.shipping_taxes, 0,
       exists (select 1 from order_lines l where l.shop_id = o.shop_id and l.order_gid = o.order_gid
                  and l.is_taxable and not l.is_gift_card), false
  from (select s.*, greatest(0, least(s.shipping_cents, coalesce(s.discount_cents, 0) - coalesce((
               select sum(l.discount_cents) from order_lines l
                where l.shop_id = s.shop_id and l.order_gid = s.order_gid), 0)))::bigint as off_cents
          from sold s) o
 where o.shipping_cents is not null and (o.shipping_cents <> o.off_cents or o.shipping_taxes is not null)
union all
select o.refunded_at, o.order_gid, 'refund', f.refund_line_id, o.name, o.placed_at, o.place_of_supply,
       o.currency, o.taxes_included, coalesce(l.sku, ''), coalesce(l.title, ''), f.quantity, 0,
       f.subtotal_cents, l.taxes, f.tax_cents, coalesce(l.is_taxable, true), coalesce(l.is_gift_card, false)
  from refunded o
  join order_refund_lines f on f.shop_id = o.shop_id and f.refund_id = o.refund_id
  left join order_lines l on l.shop_id = o.shop_id and l.order_gid = o.order_gid and l.line_id = f.line_id
 where f.quantity > 0
union all
select o.refunded_at, o.order_gid, 'shipping refund', o.refund_id, o.name, o.placed_at, o.place_of_supply,
       o.currency, false, '', '', 0, 0, o.back_cents, o.shipping_taxes, o.shipping_tax_cents,
       exists (select 1 from order_lines l where l.shop_id = o.shop_id and l.order_gid = o.order_gid
                  and l.is_taxable and not l.is_gift_card), false
  from refunded o
 where o.back_cents <> 0 or o.shipping_tax_cents <> 0
) items
 order by at, order_gid collate "C", kind collate "C", place
"""  # noqa: S608 - the condition is a constant of this module


def stream_items(tx: Connection, month: Month) -> Generator[Item, None, None]:
    """Yield the month's items, oldest first, in one order that depends on nothing but the rows.

    Shopify's price of shipping is before discounts: what of them is on no line was on it.

    What Shopify says of a refunded line includes its tax where the order's prices do; of refunded shipping
    it never does.
    """
    for row in stream(tx, _ITEMS, month._asdict()):
        yield Item(*row)


def stream(
    tx: Connection, statement: str, values: Mapping[str, Any]
) -> Generator[tuple[Any, ...], None, None]:
    """Yield the rows of ``statement`` while the server still sends them."""
    driver = tx.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - ``driver_url`` sees to it
    try:
        with driver.cursor() as cursor:
            rows = cursor.stream(statement, values, binary=True, size=AT_ONCE)
            try:
                yield from rows
            finally:
                # A stream that is left is cancelled, and the transaction fails with it.
                for _ in rows:
                    pass
    except psycopg.OperationalError as fault:
        raise OperationalError(statement, None, fault, connection_invalidated=driver.broken) from fault
