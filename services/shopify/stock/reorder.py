"""Reorder points: below how many pieces a level counts as low. A person sets one, or a file of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.audit.append import append_all
from services.audit.chain import Entry, Mutation
from services.core.csv_files import find_id, parse_count, parse_csv, raise_faults
from services.core.errors import ShopfleetError
from services.core.locks import Lock
from services.core.pg_arrays import int_array, text_array
from services.shopify.stock.levels import Level

MOST_PIECES = 1_000_000

_FIND = Lock.LEVELS.mark("""
select v.place, l.inventory_item_id, l.location_id, l.sku, l.reorder_point
  from unnest(%(sku)s::text[], %(location)s::bigint[]) with ordinality as v(sku, location, place)
  join inventory_levels l on l.shop_id = %(shop_id)s and l.sku = v.sku and l.disconnected_at is null
                         and (v.location is null or l.location_id = v.location)
 order by (l.inventory_item_id || ':' || l.location_id) collate "C" for update of l
""")

_SET = """
update inventory_levels l set reorder_point = v.point
  from unnest(%(item)s::bigint[], %(location)s::bigint[], %(point)s::int[]) as v(item, location, point)
 where l.shop_id = %(shop_id)s and l.inventory_item_id = v.item and l.location_id = v.location
"""


class ReorderInvalid(ShopfleetError):
    """One or more reorder points are wrong. The message lists the faults by line."""


class ReorderPoint(NamedTuple):
    """The new point of a SKU at one location, or (None) at all its locations. ``point`` None: not watched.

    ``line`` is the line of its file; 0 where there is none.
    """

    sku: str
    point: int | None
    location_id: int | None = None
    line: int = 0


class ReorderChange(NamedTuple):
    """A level's reorder point changes from ``before`` to ``after``; None is not watched."""

    sku: str
    inventory_item_id: int
    location_id: int
    before: int | None
    after: int | None


def parse_point(text: str) -> int | None:
    """Return the reorder point in ``text``; None where it is empty. Raises ``ReorderInvalid``."""
    try:
        return parse_count(text.strip(), "reorder_point", MOST_PIECES) if text.strip() else None
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
    reorder_point = parse_count(point, "reorder_point", MOST_PIECES) if point else None
    return ReorderPoint(cells["sku"], reorder_point, find_id(cells["location_id"], "location_id"), line)


def find_reorder_changes(tx: Connection, shop_id: int, wanted: Sequence[ReorderPoint]) -> list[ReorderChange]:
    """Return what ``wanted`` changes, and lock those levels; a point that is set already changes nothing.

    Raises ``ReorderInvalid`` for a SKU that the shop has no level of, and for two lines about one level.
    """
    values = {
        "shop_id": shop_id,
        "sku": text_array([point.sku for point in wanted]),
        "location": int_array(point.location_id for point in wanted),
    }
    rows = tx.exec_driver_sql(_FIND, values).all()
    places = {row.place for row in rows}
    often = Counter((row.inventory_item_id, row.location_id) for row in rows)
    faults: list[str] = []
    for place, point in enumerate(wanted, start=1):
        if place not in places:
            where = "" if point.location_id is None else f" at location {point.location_id}"
            faults.append(f"{_line(point)}the shop has no stock of {point.sku!r}{where}")
    changes: list[ReorderChange] = []
    for row in rows:
        point = wanted[row.place - 1]
        if often[row.inventory_item_id, row.location_id] > 1:
            where = f"the level of {row.sku!r} at location {row.location_id}"
            faults.append(f"{_line(point)}{where} is named more than once")
        elif row.reorder_point != point.point:
            changes.append(
                ReorderChange(row.sku, row.inventory_item_id, row.location_id, row.reorder_point, point.point)
            )
    raise_faults(faults, ReorderInvalid)
    return sorted(changes)


def record_reorder_points(
    tx: Connection, shop_id: int, changes: Sequence[ReorderChange], now: datetime, *, by: str, request_id: str
) -> None:
    """Set the reorder points of ``changes``; the audit says who set them."""
    if not changes:
        return
    values = {
        "shop_id": shop_id,
        "item": int_array(change.inventory_item_id for change in changes),
        "location": int_array(change.location_id for change in changes),
        "point": int_array(change.after for change in changes),
    }
    tx.exec_driver_sql(_SET, values)
    rows = [_describe(shop_id, change) for change in changes]
    append_all(tx, [Entry(shop_id, by, "stock.reorder_point", request_id, rows)], now)


def _describe(shop_id: int, change: ReorderChange) -> Mutation:
    level = Level(shop_id, change.inventory_item_id, change.location_id, change.sku)
    before, after = ("none" if point is None else point for point in (change.before, change.after))
    return Mutation(
        "inventory_levels",
        level.key.row_id,
        f"reorder point of {level.label.removeprefix('stock of ')}: {before} -> {after}",
        {"reorder_point": change.before},
        {"reorder_point": change.after},
    )


def _line(point: ReorderPoint) -> str:
    return f"line {point.line}: " if point.line else ""
