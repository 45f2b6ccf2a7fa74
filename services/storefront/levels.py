"""Stock levels: what Shopify was seen to hold, and every sale and return since.

``available = observed_available + sum of the sku's movements later than observed_at``. A level that
Shopify reports at a time already holds every order it took before that time, so whichever webhook comes
first, nothing counts twice. A movement knows its sku and not its shelf, so it counts at one location of
the sku: the shop's ``stock_location_id`` where the sku has a level there, else the smallest location id.
A level that is off the shelf (``disconnected_at``) is no such location: its figure is what was last seen.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, CursorResult

from services.core.arrays import instant_array, int_array, text_array
from services.core.bulk import write_new
from services.core.locks import Lock, lock_stock_buckets

Sku = tuple[int, str]
"""(shop, sku)."""


class Movement(NamedTuple):
    """``delta`` pieces of a sku came or went at ``at``; ``source`` makes it happen once."""

    shop_id: int
    source: str
    sku: str
    delta: int
    at: datetime


class Level(NamedTuple):
    """A level whose figures changed."""

    shop_id: int
    inventory_item_id: int
    location_id: int
    sku: str


class Shift(NamedTuple):
    """A level's figure went from ``before`` to ``after``.

    ``sources``, with spaces between, are the movements that did it, each by its pieces; or, where
    ``is_recount``, all of them together. A level off the shelf has nothing to tell Shopify.
    """

    level: Level
    before: int
    after: int
    sources: str = ""
    is_recount: bool = False
    is_on_shelf: bool = True


_IN_ORDER = """
 order by l.shop_id, (l.inventory_item_id || ':' || l.location_id) collate "C" for update of l
"""

_LOCK_LEVELS = Lock.LEVELS.mark(f"""
select from unnest(%(shop_id)s::int[], %(sku)s::text[]) as v(shop_id, sku)
  join inventory_levels l on l.shop_id = v.shop_id and l.sku = v.sku {_IN_ORDER}""")

_LOCK_MORE_LEVELS = Lock.LEVELS.mark(f"""
select from (
  select b.shop_id, b.inventory_item_id, b.location_id
    from unnest(%(shop_id)s::int[], %(sku)s::text[]) as v(shop_id, sku)
    join inventory_levels b on b.shop_id = v.shop_id and b.sku = v.sku
   union
  select * from unnest(%(level_shop)s::int[], %(item)s::bigint[], %(location)s::bigint[])
) as wanted join inventory_levels l using (shop_id, inventory_item_id, location_id) {_IN_ORDER}""")  # noqa: S608

# Joined sideways, one index probe for each sku: a plain join of sets whose size PostgreSQL cannot guess
# becomes a loop over every pair.
_TARGET = """
join lateral (
  select l.inventory_item_id, l.location_id, l.observed_at
    from inventory_levels l left join shop_config c on c.shop_id = l.shop_id
   where l.shop_id = t.shop_id and l.sku = t.sku and l.disconnected_at is null
   order by (l.location_id::text = c.stock_location_id) is true desc, l.location_id, l.inventory_item_id
   limit 1
) as target on true"""

_REMEMBER = """
  insert into stock_movements as m (shop_id, source, sku, delta, at)
  select * from unnest(%(shop_id)s::int[], %(source)s::text[], %(sku)s::text[], %(delta)s::int[],
                       %(at)s::timestamptz[])"""

_OR_CORRECT = """
  on conflict (shop_id, source) do update set delta = excluded.delta, at = excluded.at
   where m.delta <> excluded.delta or m.at <> excluded.at"""

_COUNT = f"""
with touched as (
  REMEMBERED returning shop_id, source, sku, delta, at, xmax = 0 as is_new
), shift as (
  select t.shop_id, target.inventory_item_id, target.location_id, sum(t.delta) as delta,
         string_agg(t.source, ' ') as sources
    from touched t {_TARGET}
   where t.is_new and t.at > target.observed_at
   group by t.shop_id, target.inventory_item_id, target.location_id
), moved as (
  update inventory_levels l set available = l.available + s.delta, changed_at = %(now)s
    from shift s
   where l.shop_id = s.shop_id and l.inventory_item_id = s.inventory_item_id
     and l.location_id = s.location_id and s.delta <> 0
  returning l.shop_id, l.inventory_item_id, l.location_id, l.sku, (l.available - s.delta)::int,
            l.available, s.sources
)
select * from moved
union all select shop_id, null, null, sku, null, null, string_agg(source, ' ')
            from touched where not is_new group by shop_id, sku
"""  # noqa: S608 - the text joined in is our own

_WRITE_UNCOUNTED = (_REMEMBER, _REMEMBER + _OR_CORRECT)
_WRITE_COUNTED = (
    _COUNT.replace("REMEMBERED", _REMEMBER),
    _COUNT.replace("REMEMBERED", _REMEMBER + _OR_CORRECT),
)

_RECOUNT = f"""
with touched as (
  select distinct * from unnest(%(shop_id)s::int[], %(sku)s::text[]) as v(shop_id, sku) where sku <> ''
), counted as (
  select l.shop_id, l.inventory_item_id, l.location_id, l.available as before,
         l.observed_available + coalesce((
           select sum(m.delta) from stock_movements m
            where m.shop_id = l.shop_id and m.sku = l.sku and m.at > l.observed_at
              and l.inventory_item_id = target.inventory_item_id and l.location_id = target.location_id
         ), 0) as available
    from touched t left {_TARGET.strip()}
    join inventory_levels l on l.shop_id = t.shop_id and l.sku = t.sku
)
update inventory_levels l set available = c.available, changed_at = %(now)s
  from counted c
 where l.shop_id = c.shop_id and l.inventory_item_id = c.inventory_item_id and l.location_id = c.location_id
   and l.available <> c.available
returning l.shop_id, l.inventory_item_id, l.location_id, l.sku, c.before, l.available,
          l.disconnected_at is null
"""  # noqa: S608


_TAKE_BACK = """
delete from stock_movements m
 using unnest(%(shop_id)s::int[], %(source)s::text[]) as v(shop_id, source)
 where m.shop_id = v.shop_id and m.source = v.source
returning m.shop_id, m.sku, m.source
"""


def record_movements(
    tx: Connection,
    movements: Sequence[Movement],
    now: datetime,
    taken_back: Sequence[Movement] = (),
    *,
    are_new: bool = False,
) -> list[Shift]:
    """Each movement counts once; return what it did to the levels, at most one shift a level.

    One already recorded changes nothing, unless its pieces differ (an edited order): then the newer
    figure replaces the older. New ones are added to their level, so a sku with a long history costs no
    more than a new one. Those ``taken_back`` never happened: of a line that an edit removed, or that
    has another sku now. ``are_new``: there are many, of things that nobody told of before.
    """
    if not movements and not taken_back:
        return []
    levels = lock_stock(tx, {(m.shop_id, m.sku) for m in (*movements, *taken_back)}, is_shared=True)
    undone = _take_back(tx, taken_back) if taken_back else {}
    written = _write(tx, movements, now, are_counted=levels > 0, are_new=are_new)
    if not levels:
        return []
    rows = written.all()
    moved = [Shift(Level(r[0], r[1], r[2], r[3]), r[4], r[5], r[6]) for r in rows if r[1] is not None]
    edited = {(int(r[0]), str(r[3])): str(r[6]) for r in rows if r[1] is None}
    for key, sources in undone.items():
        edited[key] = f"{sources} {edited.get(key, '')}".strip()
    return _join(moved, recount_levels(tx, edited, now), edited) if edited else moved


def _take_back(tx: Connection, taken_back: Sequence[Movement]) -> dict[Sku, str]:
    values = {
        "shop_id": int_array(m.shop_id for m in taken_back),
        "source": text_array([m.source for m in taken_back]),
    }
    undone: dict[Sku, str] = {}
    for shop_id, sku, source in tx.exec_driver_sql(_TAKE_BACK, values):
        undone[shop_id, sku] = f"{undone.get((shop_id, sku), '')} {source}".strip()
    return undone


def _write(
    tx: Connection, movements: Sequence[Movement], now: datetime, *, are_counted: bool, are_new: bool
) -> CursorResult[*tuple[Any, ...]]:
    insert, upsert = _WRITE_COUNTED if are_counted else _WRITE_UNCOUNTED
    shop_ids, sources, skus, deltas, times = zip(*movements, strict=True) if movements else ((),) * 5
    values: dict[str, Any] = {
        "shop_id": int_array(shop_ids),
        "source": text_array(sources),
        "sku": text_array(skus),
        "delta": int_array(deltas),
        "at": instant_array(times),
        "now": now,
    }

    def correct() -> CursorResult[*tuple[Any, ...]]:
        return tx.exec_driver_sql(upsert, values)

    return write_new(tx, lambda: tx.exec_driver_sql(insert, values), correct) if are_new else correct()


def _join(moved: list[Shift], recounted: list[Shift], edited: Mapping[Sku, str]) -> list[Shift]:
    """Return one shift a level. What was moved and then counted anew is one way, with all its sources."""
    shifts = {shift.level: shift for shift in moved}
    for again in recounted:
        level = again.level
        first = shifts.get(level)
        sources = f"{edited[level.shop_id, level.sku]} {first.sources if first else ''}".strip()
        before = first.before if first else again.before
        shifts[level] = Shift(level, before, again.after, sources, True, again.is_on_shelf)
    return list(shifts.values())


def recount_levels(tx: Connection, skus: Collection[Sku], now: datetime) -> list[Shift]:
    """Every level of ``skus`` is what its observation and movements come to; return those that changed.

    The caller holds ``lock_stock`` for them.
    """
    if not skus:
        return []
    rows = tx.exec_driver_sql(
        _RECOUNT,
        {"shop_id": int_array(s for s, _ in skus), "sku": text_array([sku for _, sku in skus]), "now": now},
    )
    return [Shift(Level(*row[:4]), row[4], row[5], is_on_shelf=row[6]) for row in rows]


_SKUS = "select distinct shop_id, sku from inventory_levels where shop_id = %(shop_id)s and sku <> ''"


def recount_shop(tx: Connection, shop_id: int, now: datetime) -> list[Shift]:
    """Every level of the shop is what its observation and movements come to; return those that changed.

    For a shop whose ``stock_location_id`` changed: its movements count at another location from now on.
    The caller plans the pushes of what it returns. Costs a pass over the shop's levels.
    """
    skus = [(int(r[0]), str(r[1])) for r in tx.exec_driver_sql(_SKUS, {"shop_id": shop_id})]
    lock_stock(tx, skus)
    return recount_levels(tx, skus, now)


def lock_stock(
    tx: Connection, skus: Collection[Sku], *, is_shared: bool = False, levels: Collection[Level] = ()
) -> int:
    """``tx`` alone counts the levels of ``skus`` until it ends; return how many levels that are.

    The locks of the skus keep a level that is just being inserted from missing a movement that is just
    being recorded. Those who only record movements share them (``is_shared``): where there is a level, its
    row, locked before the movement is written, makes them take turns. ``levels`` are rows that are locked
    as well, whatever their sku: for what a push learned, which is written by row.
    """
    known = [(shop_id, sku) for shop_id, sku in skus if sku]
    if not known and not levels:
        return 0
    lock_stock_buckets(tx, known, is_shared=is_shared)
    values = {"shop_id": int_array(s for s, _ in known), "sku": text_array([sku for _, sku in known])}
    if not levels:
        return tx.exec_driver_sql(_LOCK_LEVELS, values).rowcount
    return tx.exec_driver_sql(_LOCK_MORE_LEVELS, values | level_arrays(levels, shop="level_shop")).rowcount


def level_arrays(levels: Collection[Level], *, shop: str = "shop_id") -> dict[str, str]:
    """Return ``levels`` as the arrays ``shop_id`` (or ``shop``), ``item`` and ``location`` of a statement."""
    return {
        shop: int_array(level.shop_id for level in levels),
        "item": int_array(level.inventory_item_id for level in levels),
        "location": int_array(level.location_id for level in levels),
    }
