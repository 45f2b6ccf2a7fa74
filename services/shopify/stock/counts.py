"""Stock counts and corrections that people enter: a counted level is ours, and is pushed.

A count is the pieces in stock, including those of open orders. The pieces for sale are the count less what
Shopify holds back at that moment: ``available = pieces - (on_hand - available)``, both read from Shopify. Its
``on_hand`` is ``available`` plus committed, reserved, damaged, safety stock and quality control.
Source: https://shopify.dev/docs/apps/build/orders-fulfillment/inventory-management-apps
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.core.csv_files import find_id, parse_count, parse_csv, raise_faults
from services.core.errors import InputInvalid, ShopfleetError, describe_unknown
from services.providers.shopify_admin import ShopifyLevel, ShopLevelKey
from services.shopify.stock.levels import LEVELS_BY_KEY, LevelKey, find_stock_owners, level_arrays
from services.shops.shops import get_shop_by_id

MAX_PIECES = 1_000_000_000


class CountRefused(ShopfleetError):
    """A count or correction cannot be recorded. The message names every wrong line, and the reason."""


class CountInvalid(CountRefused, InputInvalid):
    """Lines name no clear level, or a wrong value."""


class CountLine(NamedTuple):
    """A count as entered: an item by its id or its SKU; ``location_id`` None is the shop's own.

    ``number`` is the line in a file; 0 without a file.
    """

    inventory_item_id: int | None
    sku: str
    location_id: int | None
    pieces: int
    number: int = 0


class LevelCount(NamedTuple):
    """``pieces`` of an item are at a location, including those of open orders."""

    key: ShopLevelKey
    pieces: int


class CountChange(NamedTuple):
    """The change of a level by a count; ``held_back`` pieces are not for sale at Shopify at that moment."""

    sku: str
    inventory_item_id: int
    location_id: int
    pieces: int
    held_back: int
    before: int
    available: int


_FIND_LEVELS = f"""
select l.shop_id, l.inventory_item_id, l.location_id, l.sku, l.available,
       l.counted_at is not null as is_counted, l.disconnected_at is null as is_stocked {LEVELS_BY_KEY}
"""

_FIND_ITEMS = """
select distinct inventory_item_id from (
  select inventory_item_id from inventory_levels where shop_id = %(shop_id)s and sku = %(sku)s
   union
  select inventory_item_id from variants
   where shop_id = %(shop_id)s and sku = %(sku)s and deleted_at is null
) known order by 1
"""

_FIND_LOCATIONS = """
select distinct location_id from inventory_levels
 where shop_id = %(shop_id)s and disconnected_at is null order by 1 limit 20
"""
_FIND_SKUS = """
select sku from inventory_levels where shop_id = %(shop_id)s and sku <> ''
 union
select sku from variants where shop_id = %(shop_id)s and sku <> '' and deleted_at is null order by 1
"""


def parse_counts_csv(text: str) -> list[CountLine]:
    """Return the counts of a file; raise ``CountInvalid`` naming each wrong line, field and value."""
    columns = ("inventory_item_id", "sku", "location_id", "pieces")
    return parse_csv(text, columns, ("pieces",), _parse_line, CountInvalid)


def _parse_line(cells: Mapping[str, str], number: int) -> CountLine:
    item, location = (find_id(cells[name], name) for name in ("inventory_item_id", "location_id"))
    pieces = parse_count(cells["pieces"], "pieces", MAX_PIECES)
    return CountLine(item, cells["sku"], location, pieces, number)


def resolve_counts(
    tx: Connection, shop_id: int, stock_location_id: str, lines: Sequence[CountLine]
) -> list[LevelCount]:
    """Return the counts of ``lines``; raise ``CountInvalid`` naming every line without one clear level.

    ``stock_location_id`` is the shop's own location: the default of lines without one. A shop that has stock
    at a single location needs none.
    """
    places = tx.exec_driver_sql(_FIND_LOCATIONS, {"shop_id": shop_id}).scalars().all()
    default = int(stock_location_id or 0) or (places[0] if len(places) == 1 else 0)
    counts: list[LevelCount] = []
    faults: list[str] = []
    for line in lines:
        try:
            location = line.location_id or default
            if not location:
                numbers = f" of {', '.join(map(str, places))}" if places else ""
                raise CountInvalid(
                    f"location: name one{numbers} with --location, or set the shop's with "
                    "`fleet shops set SHOP --stock-location-id`"
                )
            if (line.inventory_item_id is None) == (not line.sku):
                both = "both are" if line.sku else "none is"
                raise CountInvalid(f"name the item by its number or by its sku: {both} given")
            item = line.inventory_item_id or _get_item(tx, shop_id, line.sku)
            counts.append(LevelCount(ShopLevelKey(item, location), line.pieces))
        except CountInvalid as fault:
            faults.append(f"line {line.number}: {fault}" if line.number else str(fault))
    occurrences = Counter(count.key for count in counts)
    faults += [
        f"item {item} at location {location} is counted twice: keep one line"
        for (item, location), times in sorted(occurrences.items())
        if times > 1
    ]
    raise_faults(faults, CountInvalid)
    return counts


def _get_item(tx: Connection, shop_id: int, sku: str) -> int:
    items = tx.exec_driver_sql(_FIND_ITEMS, {"shop_id": shop_id, "sku": sku}).scalars().all()
    if len(items) == 1:
        return int(items[0])
    if not items:
        known = tx.exec_driver_sql(_FIND_SKUS, {"shop_id": shop_id}).scalars()
        raise CountInvalid(f"sku={describe_unknown(sku, known)}")
    numbers = ", ".join(map(str, items))
    raise CountInvalid(f"sku={sku!r} belongs to the inventory items {numbers}: name one with --item")


def plan_counts(
    tx: Connection,
    shop_id: int,
    counts: Sequence[LevelCount],
    held: Mapping[ShopLevelKey, ShopifyLevel] | None = None,
) -> list[CountChange]:
    """Return the changes of the shop's levels by ``counts``; ``held`` are Shopify's levels at this moment.

    Without ``held`` this only checks the counts. Raises ``CountInvalid`` naming every level that is unknown
    or not stocked.
    """
    check_owner(tx, shop_id)
    known = find_levels(tx, [LevelKey(shop_id, *count.key) for count in counts])
    faults: list[str] = []
    changes: list[CountChange] = []
    for key, pieces in counts:
        level, at_shopify = known.get(LevelKey(shop_id, *key)), (held or {}).get(key)
        name = f"item {key.inventory_item_id} at location {key.location_id}"
        if level is None or not level.is_stocked:
            faults.append(f"{name}: no such level is recorded; `fleet backfill run` reads the shop's levels")
        elif held is None:
            continue
        elif at_shopify is None or at_shopify.on_hand is None:
            faults.append(f"{name}: Shopify does not stock the item there; activate it in Shopify first")
        else:
            held_back = at_shopify.on_hand - at_shopify.available
            available = pieces - held_back
            changes.append(CountChange(level.sku, *key, pieces, held_back, level.available, available))
    raise_faults(faults, CountInvalid)
    return changes


def check_owner(tx: Connection, shop_id: int) -> None:
    counting, pooling = find_stock_owners(tx, {shop_id})
    if pooling:
        raise CountRefused(
            "the shop's stock belongs to a pool: correct the figure in Shopify's admin of one of its shops, "
            "which updates the pool and its other shops"
        )
    if not counting:
        raise CountRefused(
            "the shop's stock owner is shopify, so its figures are Shopify's: correct them there, or run "
            f"`fleet shops set {get_shop_by_id(tx, shop_id).slug} --stock-owner shopfleet` first"
        )


def find_levels(tx: Connection, keys: Collection[LevelKey]) -> dict[LevelKey, Row[Any]]:
    return {LevelKey.from_row(row): row for row in tx.exec_driver_sql(_FIND_LEVELS, level_arrays(keys))}
