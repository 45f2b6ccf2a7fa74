"""Orders that Shopify deleted: their rows stay, and are no revenue any more."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.core.pg_arrays import instant_array, int_array, text_array
from services.shopify.orders.payload import Order
from services.shopify.orders.refund_store import OrderKey

_FIND = """
select o.shop_id, o.order_gid from unnest(%(shop_id)s::int[], %(gid)s::text[]) as v(shop_id, gid)
  join orders o on o.shop_id = v.shop_id and o.order_gid = v.gid
"""

_RECORD = """
update orders o set deleted_at = v.at
  from unnest(%(shop_id)s::int[], %(gid)s::text[], %(at)s::timestamptz[]) as v(shop_id, gid, at)
 where o.shop_id = v.shop_id and o.order_gid = v.gid and (o.deleted_at is null or o.deleted_at > v.at)
returning o.shop_id, o.order_gid, o.name
"""


class OrderDeletion(NamedTuple):
    """Shopify deleted an order. Its event carries the id and nothing else."""

    shop_id: int
    gid: str
    deleted_at: datetime
    work_id: int

    @property
    def key(self) -> OrderKey:
        """Which order this is about."""
        return (self.shop_id, self.gid)


def plan_deletions(
    read: Iterable[object], recorded: Collection[OrderKey]
) -> tuple[dict[OrderKey, OrderDeletion], dict[int, OrderDeletion]]:
    """Return the earliest deletion of each order, and by work item those of orders that are not recorded.

    An order is recorded where it is in ``recorded`` or where an entry of ``read`` before the deletion is one.
    """
    known, deletions, unknown = set(recorded), dict[OrderKey, OrderDeletion](), dict[int, OrderDeletion]()
    for entry in read:
        if isinstance(entry, Order):
            known.add((entry.shop_id, entry.gid))
        elif isinstance(entry, OrderDeletion) and entry.key not in known:
            unknown[entry.work_id] = entry
        elif isinstance(entry, OrderDeletion):
            earliest = deletions.setdefault(entry.key, entry)
            deletions[entry.key] = min(earliest, entry, key=lambda deletion: deletion.deleted_at)
    return deletions, unknown


def find_recorded(tx: Connection, keys: Collection[OrderKey]) -> set[OrderKey]:
    """Return those of ``keys`` that have a row."""
    if not keys:
        return set()
    values = {"shop_id": int_array(s for s, _ in keys), "gid": text_array([gid for _, gid in keys])}
    return {(r[0], r[1]) for r in tx.exec_driver_sql(_FIND, values)}


def record_deletions(tx: Connection, deletions: Collection[OrderDeletion]) -> dict[OrderKey, str]:
    """Each recorded order is deleted since the earliest time received; return the names of those changed."""
    if not deletions:
        return {}
    values = {
        "shop_id": int_array(d.shop_id for d in deletions),
        "gid": text_array([d.gid for d in deletions]),
        "at": instant_array(d.deleted_at for d in deletions),
    }
    return {(r[0], r[1]): r[2] for r in tx.exec_driver_sql(_RECORD, values)}
