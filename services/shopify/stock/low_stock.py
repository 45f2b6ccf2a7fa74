"""Which stock is running out: levels under their reorder point, and how many days they still last."""

from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.shopify.stock.level_moves import movements_sql

WINDOW = timedelta(days=30)
"""Sales of this long before the report tell how fast a sku goes."""

_TENTH = Decimal("0.1")


class LowStock(NamedTuple):
    """A level under its reorder point. ``location`` is its name, or "" where nobody told it.

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
    """A level as it stands. ``shopify_available`` is what Shopify is known to hold, where it is."""

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


# The sales of the items in question are summed once for each of them. A level that Shopify disconnected, and
# one whose item, variant or location was deleted there, is no stock.
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
select lines.sku, title, lines.inventory_item_id, location_id, location, available, shopify_available,
       reorder_point, observed_at, coalesce(sales.sold, 0)
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
    """Return the shop's levels under their reorder point, the one that runs out first at the top.

    A level without a reorder point is not watched. Pieces sold are those of the 30 days before ``as_of``
    (aware), less what came back onto the shelf, of the item at all locations: each location of an item is
    held against all of its sales. Stock that does not sell comes last: it is under its point, and
    lasts.
    """
    lines = _find_lines(tx, shop_id, as_of, watch_all=False)
    low = [
        LowStock(
            line.sku, line.title, line.location_id, line.location, line.available, line.reorder_point,
            line.sold_30d, line.days_cover,
        )
        for line in lines
        if line.reorder_point is not None
    ]  # fmt: skip
    return sorted(low, key=_urgency)


def find_stock(tx: Connection, shop_id: int, as_of: datetime, sku: str = "") -> list[StockLine]:
    """Return the shop's levels, or those of ``sku``, by sku and location."""
    lines = _find_lines(tx, shop_id, as_of, watch_all=True, sku=sku)
    return sorted(lines, key=lambda line: (line.sku, line.location_id, line.inventory_item_id))


def _urgency(low: LowStock) -> tuple[bool, Decimal, int, str, int]:
    cover = low.days_cover
    missing = low.available - low.reorder_point
    return cover is None, cover or Decimal(0), missing, low.sku, low.location_id


def _find_lines(
    tx: Connection, shop_id: int, as_of: datetime, *, watch_all: bool, sku: str = ""
) -> list[StockLine]:
    values: dict[str, Any] = {
        "shop_id": shop_id, "all": watch_all, "sku": sku, "since": as_of - WINDOW, "as_of": as_of,
    }  # fmt: skip
    return [_line(row) for row in tx.exec_driver_sql(_FIND, values)]


def _line(row: Any) -> StockLine:
    sold = int(row[9])
    cover = None
    if sold:
        cover = (Decimal(max(row[5], 0)) * WINDOW.days / sold).quantize(_TENTH, ROUND_HALF_UP)
    return StockLine(
        sku=row[0], title=row[1], inventory_item_id=row[2], location_id=row[3], location=row[4],
        available=row[5], shopify_available=row[6], reorder_point=row[7], sold_30d=sold, days_cover=cover,
        observed_at=row[8],
    )  # fmt: skip
