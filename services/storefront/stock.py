"""Stock as Shopify tells it: what it holds of an inventory item at a location, at a time."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.arrays import instant_array, int_array, text_array
from services.core.errors import Refused
from services.core.locks import lock_objects
from services.core.reading import read_count, read_id, read_instant, read_object, read_set
from services.ledger.said import said_by
from services.ledger.work import Done, Effects, Outcome, WorkItem
from services.storefront.levels import Level, Shift, Sku, lock_stock, recount_levels
from services.storefront.push_plan import Cause, plan_pushes
from services.storefront.said_stock import level_label, say_counted, say_shift

LevelKey = tuple[int, int, int]
"""(shop, inventory item, location)."""


class Observation(NamedTuple):
    """Shopify held ``available`` pieces of an item at a location at ``observed_at``."""

    shop_id: int
    inventory_item_id: int
    location_id: int
    available: int
    observed_at: datetime
    event_id: int | None
    request_id: str
    work_id: int

    @property
    def key(self) -> LevelKey:
        """Which level this is about."""
        return (self.shop_id, self.inventory_item_id, self.location_id)

    @property
    def version(self) -> tuple[datetime, int]:
        """What makes one observation newer: its time, and within one second the lower figure.

        Shopify's times are whole seconds. Of two figures for one second the lower is believed, since
        selling what is not there costs more than a shelf left short until the next word.
        """
        return (self.observed_at, -self.available)


class Known(NamedTuple):
    """A level as its row has it; ``sku`` is what it should be: the variant's, where one is known."""

    sku: str
    row_sku: str
    version: tuple[datetime, int] | None
    shopify_available: int | None
    available: int | None

    @property
    def figures(self) -> dict[str, Any] | None:
        """What the audit tells of the row; None where there is none yet."""
        if self.version is None:
            return None
        return {
            "available": self.available,
            "observed_at": self.version[0],
            "observed_available": -self.version[1],
            "shopify_available": self.shopify_available,
            "sku": self.row_sku,
        }


_FIND = """
select v.shop_id, v.item, v.location, coalesce(t.sku, l.sku, ''), coalesce(l.sku, ''), l.observed_at,
       l.observed_available, l.shopify_available, l.available
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[]) as v(shop_id, item, location)
  left join inventory_levels l on l.shop_id = v.shop_id and l.inventory_item_id = v.item
                              and l.location_id = v.location
  left join variants t on t.shop_id = v.shop_id and t.inventory_item_id = v.item
"""

_UPSERT = """
insert into inventory_levels as l (shop_id, inventory_item_id, location_id, sku, available,
                                   observed_available, observed_at, shopify_available, changed_at)
select shop_id, item, location, sku, available, available, observed_at, available, %(now)s
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[], %(sku)s::text[],
              %(available)s::int[], %(observed_at)s::timestamptz[])
       as v(shop_id, item, location, sku, available, observed_at)
on conflict (shop_id, inventory_item_id, location_id) do update set
   sku = excluded.sku, observed_available = excluded.observed_available, observed_at = excluded.observed_at,
   shopify_available = excluded.shopify_available,
   available = case when excluded.sku = '' then excluded.available else l.available end,
   changed_at = excluded.changed_at
"""


def ingest_inventory_levels(tx: Connection, items: Sequence[WorkItem], now: datetime) -> Effects:
    """Every level holds its newest observation and counts the movements since.

    An older observation is ``stale``. A level that then differs from what Shopify said has a push
    planned. Where Shopify does not count the item (``available`` is null), the event is ``untracked``.
    """
    read = read_set(items, _read_observation, "shopify.unreadable_inventory_level")
    seen = [entry for entry in read if isinstance(entry, Observation)]
    best: dict[LevelKey, Observation] = {}
    for entry in seen:
        if entry.key not in best or entry.version > best[entry.key].version:
            best[entry.key] = entry
    lock_objects(tx, {(entry.shop_id, item_lock(entry.inventory_item_id)) for entry in seen})
    known = _find_known(tx, best)
    won = {
        k: entry for k, entry in best.items() if (have := known[k].version) is None or entry.version > have
    }
    recounted = _record_observations(tx, list(won.values()), known, now)
    observed = [
        Level(*key, known[key].sku)
        for key, entry in won.items()
        if entry.available != known[key].shopify_available
    ]
    changed = list({*(shift.level for shift in recounted), *observed})
    causes = {(e.shop_id, known[e.key].sku): Cause(e.event_id, e.request_id) for e in won.values()}

    def settle(entry: Observation | Refused | None) -> Outcome:
        if not isinstance(entry, Observation):
            return entry or Done("untracked")
        newest = won[entry.key].version if entry.key in won else known[entry.key].version
        return Done() if entry.version == newest else Done("stale")

    told = {item.id: item for item in items}
    said = _say_observations(won, known, recounted)
    audit = [said_by(told[work_id], mutations) for work_id, mutations in said.items()]
    return Effects([settle(entry) for entry in read], plan_pushes(tx, changed, causes), audit)


def _say_observations(
    won: Mapping[LevelKey, Observation], known: Mapping[LevelKey, Known], recounted: Collection[Shift]
) -> dict[int, list[Mutation]]:
    """Return what to say of each work item: its own level, and any other that was counted anew for it.

    A level that stands beside the observed ones changes where its sku's movements find another home;
    that is told by the last event that touched the sku.
    """
    said: dict[int, list[Mutation]] = {}
    shifts = {(s.level.shop_id, s.level.inventory_item_id, s.level.location_id): s for s in recounted}
    causes: dict[Sku, int] = {}
    for key, entry in won.items():
        row = known[key]
        causes[entry.shop_id, row.sku] = causes[entry.shop_id, row.row_sku] = entry.work_id
        if key in shifts:
            available = shifts[key].after
        else:
            available = entry.available if row.available is None or not row.sku else row.available
        after = {
            "available": available,
            "observed_at": entry.observed_at,
            "observed_available": entry.available,
            "shopify_available": entry.available,
            "sku": row.sku,
        }
        label = level_label(row.sku, entry.inventory_item_id, entry.location_id)
        row_id = f"{entry.inventory_item_id}:{entry.location_id}"
        said[entry.work_id] = [say_counted(label, row_id, row.figures, after)]
    for key, shift in shifts.items():
        if key not in won:
            work_id = causes[shift.level.shop_id, shift.level.sku]
            said[work_id].append(say_shift(shift, "a new count of its sku"))
    return said


def item_lock(inventory_item_id: int) -> str:
    """Return the key under which an inventory item's levels and variant are changed one at a time."""
    return f"inventory-item:{inventory_item_id}"


def _read_observation(item: WorkItem) -> Observation | None:
    source = read_object(item.body)
    if item.event_topic == "inventory_levels/disconnect" or source.get("available") is None:
        return None
    return Observation(
        shop_id=item.shop_id,
        inventory_item_id=read_id(source, "inventory_item_id"),
        location_id=read_id(source, "location_id"),
        available=read_count(source, "available"),
        observed_at=read_instant(source, "updated_at"),
        event_id=item.event_id,
        request_id=item.request_id,
        work_id=item.id,
    )


def _find_known(tx: Connection, keys: Collection[LevelKey]) -> dict[LevelKey, Known]:
    if not keys:
        return {}
    rows = tx.exec_driver_sql(
        _FIND,
        {
            "shop_id": int_array(shop_id for shop_id, _, _ in keys),
            "item": int_array(item for _, item, _ in keys),
            "location": int_array(location for _, _, location in keys),
        },
    )
    return {
        (r[0], r[1], r[2]): Known(r[3], r[4], None if r[5] is None else (r[5], -r[6]), r[7], r[8])
        for r in rows
    }


def _record_observations(
    tx: Connection, entries: Sequence[Observation], known: Mapping[LevelKey, Known], now: datetime
) -> list[Shift]:
    """Write the newest observations and count the levels of their skus anew; return what that shifted."""
    if not entries:
        return []
    skus = {(e.shop_id, sku) for e in entries for sku in (known[e.key].sku, known[e.key].row_sku)}
    lock_stock(tx, skus)
    tx.exec_driver_sql(
        _UPSERT,
        {
            "shop_id": int_array(e.shop_id for e in entries),
            "item": int_array(e.inventory_item_id for e in entries),
            "location": int_array(e.location_id for e in entries),
            "sku": text_array([known[e.key].sku for e in entries]),
            "available": int_array(e.available for e in entries),
            "observed_at": instant_array(e.observed_at for e in entries),
            "now": now,
        },
    )
    return recount_levels(tx, skus, now)
