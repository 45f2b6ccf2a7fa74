"""Low stock: reorder points, the levels below them, and how many days each lasts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.audit.append import append_all
from services.audit.chain import AuditEntry, Mutation
from services.core.csv_files import find_id, parse_count, parse_csv, raise_faults
from services.core.errors import InputInvalid
from services.core.locks import LockKind
from services.core.pg_arrays import arrays
from services.shopify.stock.audit_text import level_mutation
from services.shopify.stock.levels import Level
from services.shopify.stock.movement_levels import movements_sql

MAX_REORDER_POINT = 1_000_000

WINDOW = timedelta(days=30)
"""The time before the report whose sales determine the days of cover."""


class LowStock(NamedTuple):
    """A level below its reorder point. ``location`` is its name, or "" if it is not known.

    ``days_cover`` is how long the pieces last at the sales rate of the last 30 days; None without sales.
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
    """A level. ``shopify_available`` is Shopify's last known figure."""

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


# Sales are summed once per item. Excludes levels that Shopify disconnected, and those whose item, variant or
# location was deleted.
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


def list_low_stock(tx: Connection, shop_id: int, as_of: datetime) -> list[LowStock]:
    """Return the shop's levels below their reorder point; the one that runs out first is first.

    Excludes levels without a reorder point. Pieces sold are those of the 30 days before ``as_of`` (aware),
    less returns, of the item at all locations. Levels without sales come last.
    """
    names, rows = LowStock._fields, _find(tx, shop_id, as_of, is_all=False)
    return sorted((LowStock(**{name: getattr(row, name) for name in names}) for row in rows), key=_sort_key)


_COUNT_POINTS = """
select count(reorder_point), count(*) from inventory_levels
 where shop_id = %(shop_id)s and disconnected_at is null
"""


def count_reorder_points(tx: Connection, shop_id: int) -> tuple[int, int]:
    """Return how many of the shop's levels have a reorder point, and how many levels there are."""
    points, levels = tx.exec_driver_sql(_COUNT_POINTS, {"shop_id": shop_id}).one()
    return points, levels


def find_stock(tx: Connection, shop_id: int, as_of: datetime, sku: str = "") -> list[StockLine]:
    """Return the shop's levels, or those of ``sku``, by SKU and location."""
    names, rows = StockLine._fields, _find(tx, shop_id, as_of, is_all=True, sku=sku)
    lines = [StockLine(**{name: getattr(row, name) for name in names}) for row in rows]
    return sorted(lines, key=lambda line: (line.sku, line.location_id, line.inventory_item_id))


def _sort_key(low: LowStock) -> tuple[bool, Decimal, int, str, int]:
    cover = low.days_cover
    missing = low.available - low.reorder_point
    return cover is None, cover or Decimal(0), missing, low.sku, low.location_id


def _find(
    tx: Connection, shop_id: int, as_of: datetime, *, is_all: bool, sku: str = ""
) -> Sequence[Row[Any]]:
    values = {"shop_id": shop_id, "all": is_all, "sku": sku, "as_of": as_of, "since": as_of - WINDOW}
    return tx.exec_driver_sql(_FIND, values | {"days": WINDOW.days}).all()


_FIND_POINTS = LockKind.LEVELS.mark("""
select v.place, l.inventory_item_id, l.location_id, l.sku, l.reorder_point
  from unnest(%(sku)s::text[], %(location)s::bigint[]) with ordinality as v(sku, location, place)
  join inventory_levels l on l.shop_id = %(shop_id)s and l.sku = v.sku and l.disconnected_at is null
                         and (v.location is null or l.location_id = v.location)
 order by (l.inventory_item_id || ':' || l.location_id) collate "C" for update of l
""")

_SET_POINTS = """
update inventory_levels l set reorder_point = v.point
  from unnest(%(item)s::bigint[], %(location)s::bigint[], %(point)s::int[]) as v(item, location, point)
 where l.shop_id = %(shop_id)s and l.inventory_item_id = v.item and l.location_id = v.location
"""


class ReorderInvalid(InputInvalid):
    """One or more reorder points are wrong. The message lists the faults by line."""


class ReorderPoint(NamedTuple):
    """The new point of a SKU (None: no point) at one location or all; ``line`` is the line in its file."""

    sku: str
    point: int | None
    location_id: int | None = None
    line: int = 0


class ReorderChange(NamedTuple):
    """A level's reorder point changes from ``before`` to ``after``; None: no point."""

    sku: str
    inventory_item_id: int
    location_id: int
    before: int | None
    after: int | None


def parse_point(text: str) -> int | None:
    """Return the reorder point in ``text``; None if it is empty. Raises ``ReorderInvalid``."""
    try:
        return parse_count(text.strip(), "reorder_point", MAX_REORDER_POINT) if text.strip() else None
    except ValueError as fault:
        raise ReorderInvalid(str(fault)) from None


def parse_reorder_csv(text: str) -> list[ReorderPoint]:
    """Return the lines of a file; raise ``ReorderInvalid`` naming each wrong line."""
    columns = ("sku", "reorder_point", "location_id")
    points = parse_csv(text, columns, ("sku", "reorder_point"), _parse_line, ReorderInvalid)
    if not points:
        raise ReorderInvalid("the file has no line below its first")
    return points


def _parse_line(cells: Mapping[str, str], line: int) -> ReorderPoint:
    if not cells["sku"]:
        raise ValueError("sku is empty")
    point = cells["reorder_point"]
    reorder_point = parse_count(point, "reorder_point", MAX_REORDER_POINT) if point else None
    return ReorderPoint(cells["sku"], reorder_point, find_id(cells["location_id"], "location_id"), line)


def list_reorder_changes(tx: Connection, shop_id: int, wanted: Sequence[ReorderPoint]) -> list[ReorderChange]:
    """Return the changes by ``wanted``, and lock those levels; a point that is already set is no change.

    Raises ``ReorderInvalid`` for a SKU without a level in the shop, and for two lines about one level.
    """
    values = arrays("sku location", [(point.sku, point.location_id) for point in wanted])
    rows = tx.exec_driver_sql(_FIND_POINTS, values | {"shop_id": shop_id}).all()
    places = {row.place for row in rows}
    counts = Counter((row.inventory_item_id, row.location_id) for row in rows)
    faults: list[str] = []
    lines = [f"line {point.line}: " if point.line else "" for point in wanted]
    for place, point in enumerate(wanted, start=1):
        if place not in places:
            where = "" if point.location_id is None else f" at location {point.location_id}"
            faults.append(f"{lines[place - 1]}the shop has no stock of {point.sku!r}{where}")
    changes: list[ReorderChange] = []
    for row in rows:
        point = wanted[row.place - 1]
        if counts[row.inventory_item_id, row.location_id] > 1:
            where = f"the level of {row.sku!r} at location {row.location_id}"
            faults.append(f"{lines[row.place - 1]}{where} is named more than once")
        elif row.reorder_point != point.point:
            changes.append(
                ReorderChange(row.sku, row.inventory_item_id, row.location_id, row.reorder_point, point.point)
            )
    raise_faults(faults, ReorderInvalid)
    return sorted(changes)


def record_reorder_points(
    tx: Connection, shop_id: int, changes: Sequence[ReorderChange], now: datetime, *, by: str, request_id: str
) -> None:
    """Set the reorder points of ``changes``; ``by`` is the author in the audit."""
    if not changes:
        return
    points = [(change.inventory_item_id, change.location_id, change.after) for change in changes]
    tx.exec_driver_sql(_SET_POINTS, arrays("item location point", points) | {"shop_id": shop_id})
    rows = [_describe(shop_id, change) for change in changes]
    append_all(tx, [AuditEntry(shop_id, by, "stock.reorder_point", request_id, rows)], now)


def _describe(shop_id: int, change: ReorderChange) -> Mutation:
    level = Level(shop_id, change.inventory_item_id, change.location_id, change.sku)
    was, new = ("none" if point is None else point for point in (change.before, change.after))
    summary = f"reorder point of {level.label.removeprefix('stock of ')}: {was} -> {new}"
    return level_mutation(level, summary, {"reorder_point": change.before}, {"reorder_point": change.after})
