"""Which stock runs out: levels below their reorder point, and how many days they last."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.shopify.stock.level_moves import movements_sql

WINDOW = timedelta(days=30)
"""The sales of this time before the report give the pace of a SKU."""


class LowStock(NamedTuple):
    """A level below its reorder point. ``location`` is its name, or "" where it is not known.

    ``days_cover`` is how long the pieces last at the pace of the last 30 days; None where none was sold.
    """

    sku: str
    title: str
    location_id: int
    location: str
    available: int
    reorder_point: int
    sold_30d: int
    days_cover: Decimal | None


class StockLine(NamedTuple):
    """A level. ``shopify_available`` is what Shopify is known to hold."""

    sku: str
    title: str
    inventory_item_id: int
    location_id: int
    location: str
    available: int
    shopify_available: int | None
    reorder_point: int | None
    sold_30d: int
    days_cover: Decimal | None
    observed_at: datetime


# Sales are summed once per item. A level that Shopify disconnected, and one whose item, variant or location
# was deleted there, is no stock.
_FIND = f"""
with lines as (
  select l.shop_id, l.sku, coalesce(v.title, '') as title, l.inventory_item_id, l.location_id,
         coalesce(p.name, '') as location, l.available, l.shopify_available, l.reorder_point, l.observed_at
    from inventory_levels l
    left join variants v on v.shop_id = l.shop_id and v.inventory_item_id = l.inventory_item_id
    left join inventory_items i on i.shop_id = l.shop_id and i.inventory_item_id = l.inventory_item_id
    left join locations p on p.shop_id = l.shop_id and p.location_id = l.location_id
   where l.shop_id = %(shop_id)s and l.disconnected_at is null and v.deleted_at is null
     and i.deleted_at is null and p.deleted_at is null
     and (%(all)s or l.available < l.reorder_point) and (%(sku)s = '' or l.sku = %(sku)s)
)
select lines.*, coalesce(sales.sold, 0)::int as sold_30d,
       round(greatest(lines.available, 0) * %(days)s / nullif(sales.sold, 0)::numeric, 1) as days_cover
  from lines
  left join (
    select s.inventory_item_id, greatest(-sum(m.delta), 0) as sold
      from (select distinct shop_id, inventory_item_id, sku from lines) s
     cross join lateral {movements_sql("s", "%(since)s")} m
     where m.at <= %(as_of)s
     group by s.inventory_item_id
  ) sales using (inventory_item_id)
"""  # noqa: S608


def find_low_stock(tx: Connection, shop_id: int, as_of: datetime) -> list[LowStock]:
    """Return the shop's levels below their reorder point, the one that runs out first at the top.

    A level without a reorder point is not watched. Pieces sold are those of the 30 days before ``as_of``
    (aware), less returns, of the item at all locations: each location of an item is compared with all its
    sales. Stock without sales comes last.
    """
    names, rows = LowStock._fields, _find(tx, shop_id, as_of, is_all=False)
    return sorted((LowStock(**{name: getattr(row, name) for name in names}) for row in rows), key=_urgency)


def find_stock(tx: Connection, shop_id: int, as_of: datetime, sku: str = "") -> list[StockLine]:
    """Return the shop's levels, or those of ``sku``, by SKU and location."""
    names, rows = StockLine._fields, _find(tx, shop_id, as_of, is_all=True, sku=sku)
    lines = [StockLine(**{name: getattr(row, name) for name in names}) for row in rows]
    return sorted(lines, key=lambda line: (line.sku, line.location_id, line.inventory_item_id))


def _urgency(low: LowStock) -> tuple[bool, Decimal, int, str, int]:
    cover = low.days_cover
    missing = low.available - low.reorder_point
    return cover is None, cover or Decimal(0), missing, low.sku, low.location_id


def _find(
    tx: Connection, shop_id: int, as_of: datetime, *, is_all: bool, sku: str = ""
) -> Sequence[Row[Any]]:
    values = {"shop_id": shop_id, "all": is_all, "sku": sku, "as_of": as_of, "since": as_of - WINDOW}
    return tx.exec_driver_sql(_FIND, values | {"days": WINDOW.days}).all()
