"""Reorder points: below how many pieces a level counts as low. Set by a person, one or a file at a time."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.audit.append import Mutation, append_audit
from services.core.errors import ShopfleetError
from services.core.locks import Lock
from services.core.pg_arrays import int_array, text_array
from services.shopify.stock.audit_text import level_label

POINT_HIGHEST = 1_000_000
COLUMNS = ("sku", "reorder_point", "location_id")
FAULTS_SHOWN = 20

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
    """One or more reorder points are wrong. The message lists the faults, each by its line."""


class ReorderPoint(NamedTuple):
    """What is wanted of a sku, at one location or (None) at all of its own. ``point`` None: not watched.

    ``line`` is where it stands in its file, for people; 0 for none.
    """

    sku: str
    point: int | None
    location_id: int | None = None
    line: int = 0


class ReorderChange(NamedTuple):
    """A level's reorder point goes from ``before`` to ``after``; None is not watched."""

    sku: str
    inventory_item_id: int
    location_id: int
    before: int | None
    after: int | None


def parse_point(text: str) -> int | None:
    """Return the reorder point that ``text`` says; nothing says None. Raises ``ReorderInvalid``."""
    if not text.strip():
        return None
    if not (text.strip().isascii() and text.strip().isdecimal()) or int(text) > POINT_HIGHEST:
        raise ReorderInvalid(f"reorder point {text!r} should be a whole number from 0 to {POINT_HIGHEST:,}")
    return int(text)


def parse_reorder_csv(text: str) -> list[ReorderPoint]:
    """Return the lines of a file with the columns sku, reorder_point and, where wanted, location_id.

    The first line names the columns, in any order. Raises ``ReorderInvalid`` with every fault by its line.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), restkey="", strict=True)
    faults: list[str] = []
    points: list[ReorderPoint] = []
    try:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        unknown = [name for name in names if name not in COLUMNS]
        if unknown or len(set(names)) < len(names) or not {"sku", "reorder_point"} <= set(names):
            raise ReorderInvalid(
                f"line 1 is {','.join(names)!r}: it should be sku,reorder_point[,location_id]"
            )
        for row in reader:
            try:
                points.append(_parse_row(row, reader.line_num))
            except ReorderInvalid as fault:
                faults.append(f"line {reader.line_num}: {fault}")
    except csv.Error as fault:
        faults.append(f"line {reader.line_num}: {fault}")
    _raise(faults)
    if not points:
        raise ReorderInvalid("the file holds no line below its first")
    return points


def find_reorder_changes(tx: Connection, shop_id: int, wanted: Sequence[ReorderPoint]) -> list[ReorderChange]:
    """Return what ``wanted`` changes, and lock those levels; a point that is set already changes nothing.

    Raises ``ReorderInvalid`` for a sku that the shop has no level of, and for two lines about one level.
    """
    values = {
        "shop_id": shop_id,
        "sku": text_array([point.sku for point in wanted]),
        "location": int_array(point.location_id for point in wanted),
    }
    rows = tx.exec_driver_sql(_FIND, values).all()
    found = {row[0] for row in rows}
    faults = [
        f"{_place(point)}the shop has no stock of {point.sku!r}"
        + (f" at location {point.location_id}" if point.location_id is not None else "")
        for place, point in enumerate(wanted, start=1)
        if place not in found
    ]
    told = Counter((row[1], row[2]) for row in rows)
    faults += [
        f"{_place(wanted[row[0] - 1])}the level of {row[3]!r} at location {row[2]} is told more than once"
        for row in rows
        if told[row[1], row[2]] > 1
    ]
    _raise(faults)
    changes = [ReorderChange(row[3], row[1], row[2], row[4], wanted[row[0] - 1].point) for row in rows]
    return sorted(change for change in changes if change.before != change.after)


def record_reorder_points(
    tx: Connection,
    shop_id: int,
    changes: Sequence[ReorderChange],
    now: datetime,
    *,
    by: str,
    request_id: str,
) -> None:
    """The levels of ``changes`` have their new reorder points, and the audit says who set them."""
    if not changes:
        return
    values = {
        "shop_id": shop_id,
        "item": int_array(change.inventory_item_id for change in changes),
        "location": int_array(change.location_id for change in changes),
        "point": int_array(change.after for change in changes),
    }
    tx.exec_driver_sql(_SET, values)
    append_audit(
        tx,
        shop_id=shop_id,
        staff_label=by,
        action="stock.reorder_point",
        request_id=request_id,
        now=now,
        mutations=[_say(change) for change in changes],
    )


def _say(change: ReorderChange) -> Mutation:
    label = level_label(change.sku, change.inventory_item_id, change.location_id)
    before, after = ("none" if point is None else point for point in (change.before, change.after))
    return Mutation(
        "inventory_levels",
        f"{change.inventory_item_id}:{change.location_id}",
        f"reorder point of {label.removeprefix('stock of ')}: {before} -> {after}",
        {"reorder_point": change.before},
        {"reorder_point": change.after},
    )


def _parse_row(row: dict[str, str | None], line: int) -> ReorderPoint:
    if "" in row:
        raise ReorderInvalid("there are more fields than the first line names")
    sku, location = (row["sku"] or "").strip(), (row.get("location_id") or "").strip()
    if not sku:
        raise ReorderInvalid("sku is empty")
    if location and not (location.isascii() and location.isdecimal() and int(location) < 2**63):
        raise ReorderInvalid(
            f"location_id {location!r} should be the location's number at Shopify, digits only"
        )
    return ReorderPoint(
        sku, parse_point(row["reorder_point"] or ""), int(location) if location else None, line
    )


def _place(point: ReorderPoint) -> str:
    return f"line {point.line}: " if point.line else ""


def _raise(faults: Sequence[str]) -> None:
    if faults:
        more = len(faults) - FAULTS_SHOWN
        shown = [*faults[:FAULTS_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        raise ReorderInvalid("nothing was changed:\n" + "\n".join(f"  {fault}" for fault in shown))
