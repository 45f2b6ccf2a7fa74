"""What a shop sold: net of discounts, taxes and what was given back, by day and by who, whom and what.

A sale counts on the day its order was placed and a refund on the day it was given, by the rule of the
monthly close, so that weeks and months add up alike. Gift cards are money owed, not sold.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.closing.month_rows import COUNTS
from services.jobs.due import day_bounds

# One row for each line sold and each line given back, in [begins, ends).
_SALES = """
with sales as (
  select o.currency, o.placed_at as at, o.order_gid, o.customer_id,
         coalesce(nullif(l.staff_label, ''), o.staff_label) as staff, l.sku, l.title,
         l.quantity as pieces, true as is_sale,
         l.quantity * l.price_cents - l.discount_cents
           - case when o.taxes_included then line_tax(l.taxes) else 0 end as net_cents
    from orders o join order_lines l on l.shop_id = o.shop_id and l.order_gid = o.order_gid
   where o.shop_id = %(shop_id)s and o.placed_at >= %(begins)s and o.placed_at < %(ends)s
     and not l.is_gift_card and COUNTS
  union all
  select o.currency, f.refunded_at, o.order_gid, o.customer_id,
         coalesce(nullif(l.staff_label, ''), o.staff_label), l.sku, l.title, -r.quantity, false,
         -(r.subtotal_cents - case when o.taxes_included then r.tax_cents else 0 end)
    from order_refunds f
    join order_refund_lines r on r.shop_id = f.shop_id and r.refund_id = f.refund_id
    join orders o on o.shop_id = f.shop_id and o.order_gid = f.order_gid
    join order_lines l on l.shop_id = r.shop_id and l.order_gid = r.order_gid and l.line_id = r.line_id
   where f.shop_id = %(shop_id)s and f.refunded_at >= %(begins)s and f.refunded_at < %(ends)s
     and not l.is_gift_card and COUNTS
)
""".replace("COUNTS", COUNTS).replace(
    "line_tax(l.taxes)",
    """coalesce((
           select sum((t ->> 'cents')::bigint) from jsonb_array_elements(l.taxes) t), 0)""",
)

# A day's bounds come from our own zone data: the database's may be of another year, and laws change clocks.
_DAYS = f"""{_SALES}
select s.currency, d.day, sum(s.net_cents)::bigint,
       coalesce(-sum(s.net_cents) filter (where not s.is_sale), 0)::bigint,
       count(distinct s.order_gid) filter (where s.is_sale)
  from unnest(%(day)s::date[], %(day_begins)s::timestamptz[], %(day_ends)s::timestamptz[])
       as d(day, begins, ends)
  join sales s on s.at >= d.begins and s.at < d.ends
 group by 1, 2 order by 1, 2
"""  # noqa: S608 - the text joined in is our own

_TOP = f"""{_SALES}
select NAME, sum(net_cents)::bigint, sum(pieces)::bigint, count(distinct order_gid) filter (where is_sale)
  from sales where currency = %(currency)s and NAME is not null and NAME::text <> ''
 group by NAME having sum(net_cents) > 0
 order by 2 desc, 3 desc, NAME limit %(limit)s
"""  # noqa: S608
_TOP_STAFF, _TOP_CUSTOMER, _TOP_SKU = (_TOP.replace("NAME", name) for name in ("staff", "customer_id", "sku"))

_TITLES = """
select distinct on (l.sku) l.sku, l.title from order_lines l
  join orders o on o.shop_id = l.shop_id and o.order_gid = l.order_gid
 where l.shop_id = %(shop_id)s and l.sku = any(%(sku)s) order by l.sku, o.placed_at desc, l.line_id
"""

_NAMES = """
select customer_id, name from customers
 where shop_id = %(shop_id)s and customer_id = any(%(customer_id)s) and name <> ''
"""

_STAFF = "select coalesce(settings -> 'staff', '{}'::jsonb) from shop_config where shop_id = %(shop_id)s"


class DaySales(NamedTuple):
    """A day in the shop's zone: net sales in minor units, what refunds took off, and orders placed."""

    currency: str
    day: date
    net_cents: int
    refunded_cents: int
    orders: int


class Top(NamedTuple):
    """One of the first by net sales. ``name`` is for reading, ``label`` what it is known by."""

    label: str
    name: str
    net_cents: int
    pieces: int
    orders: int


class Window(NamedTuple):
    """A shop and whole days of its: [``begins``, ``ends``), in UTC."""

    shop_id: int
    begins: datetime
    ends: datetime
    zone: ZoneInfo


def find_days(tx: Connection, window: Window) -> list[DaySales]:
    """Return the sales of each day that had any, by currency."""
    first = window.begins.astimezone(window.zone).date()
    last = (window.ends - timedelta(microseconds=1)).astimezone(window.zone).date()
    days = [first + timedelta(days=place) for place in range((last - first).days + 1)]
    bounds = [day_bounds(window.zone, day) for day in days]
    values = _values(window) | {
        "day": days,
        "day_begins": [begins for begins, _ in bounds],
        "day_ends": [ends for _, ends in bounds],
    }
    return [DaySales(*row) for row in tx.exec_driver_sql(_DAYS, values)]


def find_top_staff(tx: Connection, window: Window, currency: str, limit: int = 3) -> list[Top]:
    """Return who sold most. A label such as ``user:123`` has the name that ``fleet shops staff`` gave it."""
    rows = _find_top(tx, _TOP_STAFF, window, currency, limit)
    names = tx.exec_driver_sql(_STAFF, {"shop_id": window.shop_id}).scalar() or {}
    return [row._replace(name=_staff_name(row.label, names)) for row in rows]


def find_top_customers(tx: Connection, window: Window, currency: str, limit: int = 3) -> list[Top]:
    """Return who bought most; one without a name, or whose name was redacted, is told by number."""
    rows = _find_top(tx, _TOP_CUSTOMER, window, currency, limit)
    values = {"shop_id": window.shop_id, "customer_id": [int(row.label) for row in rows]}
    names = {str(r[0]): r[1] for r in tx.exec_driver_sql(_NAMES, values)} if rows else {}
    return [row._replace(name=names.get(row.label, f"Customer {row.label}")) for row in rows]


def find_top_skus(tx: Connection, window: Window, currency: str, limit: int = 3) -> list[Top]:
    """Return what sold best, with the title it was last sold under."""
    rows = _find_top(tx, _TOP_SKU, window, currency, limit)
    values = {"shop_id": window.shop_id, "sku": [row.label for row in rows]}
    titles = {str(r[0]): str(r[1]) for r in tx.exec_driver_sql(_TITLES, values)} if rows else {}
    return [row._replace(name=titles.get(row.label) or row.label) for row in rows]


def _staff_name(label: str, names: Mapping[str, str]) -> str:
    number = label.removeprefix("user:")
    return names.get(number) or (label if number == label else f"Staff {number}")


def _find_top(tx: Connection, sql: str, window: Window, currency: str, limit: int) -> Sequence[Top]:
    values = _values(window) | {"currency": currency, "limit": limit}
    return [Top(str(r[0]), str(r[0]), r[1], r[2], r[3]) for r in tx.exec_driver_sql(sql, values)]


def _values(window: Window) -> dict[str, Any]:
    return {"shop_id": window.shop_id, "begins": window.begins, "ends": window.ends}
