"""Advisory locks until the end of the transaction, taken in one global order."""

from collections.abc import Collection
from enum import IntEnum

from sqlalchemy import Connection

from services.core.pg_arrays import arrays

LEADER_LOCK = 0x5F1EE8
"""The session lock of the beat that leads; the other locks are of two numbers."""


class LockKind(IntEnum):
    """Kinds of locks, in the order in which every transaction takes them.

    A transaction takes all locks of one kind in one statement, sorted, and afterwards none of a smaller kind;
    it may take a lock again. So there is no deadlock. The test suite checks the order in every transaction.
    """

    PRODUCTS = 1
    """Before the objects, because only a product's row lists its inventory items."""
    OBJECTS = 2
    STOCK = 3
    """Buckets of skus, after the objects: the sku of a locked inventory item cannot change."""
    LEVELS = 4
    """Rows of ``inventory_levels``, by shop and key of their pushes."""
    INCIDENTS = 5
    """Incidents of pool items: batches of orders and of push results write them, after the levels."""
    BODIES = 6
    """Bodies of a shop's events: a replay, which copies them, locks shared; a redaction excludes replays."""
    CHAINS = 7
    """Audit chains: locked last, immediately before the commit."""

    def mark(self, statement: str) -> str:
        """Return ``statement`` with a comment that names its kind, for PostgreSQL's log and the tests."""
        return f"/* lock {self.value} {self.name.lower()} */{statement}"


_LOCK = """
select case when %(is_shared)s then pg_advisory_xact_lock_shared(place)
            else pg_advisory_xact_lock(place) end from (
  select distinct hashtextextended(key, shop_id) as place
    from unnest(%(shop_id)s::int[], %(key)s::text[]) as v(shop_id, key) order by place
) sorted
"""

_LOCK_BUCKETS = """
select case when %(is_shared)s then pg_advisory_xact_lock_shared(1, bucket)
            else pg_advisory_xact_lock(1, bucket) end from (
  select distinct (hashtextextended(key, shop_id) & 255)::int as bucket
    from unnest(%(shop_id)s::int[], %(key)s::text[]) as v(shop_id, key) order by bucket
) sorted
"""

_STATEMENTS = {LockKind.STOCK: LockKind.STOCK.mark(_LOCK_BUCKETS)} | {
    kind: kind.mark(_LOCK)
    for kind in (LockKind.PRODUCTS, LockKind.OBJECTS, LockKind.INCIDENTS, LockKind.BODIES)
}


def lock_objects(
    tx: Connection,
    objects: Collection[tuple[int, str]],
    kind: LockKind = LockKind.OBJECTS,
    *,
    is_shared: bool = False,
) -> None:
    """Lock these (shop, key) for ``tx`` until it ends; ``is_shared``: a shared lock.

    Read after this, in a new statement: only that reads what the previous holder committed. Call it once per
    transaction and ``kind``; see ``LockKind``.
    """
    if objects:
        tx.exec_driver_sql(_STATEMENTS[kind], {**arrays("shop_id key", objects), "is_shared": is_shared})


def lock_bodies(tx: Connection, shop_ids: Collection[int], *, is_shared: bool) -> None:
    """Lock the bodies of these shops' events for ``tx`` until it ends; read them after this."""
    lock_objects(tx, [(shop_id, "bodies") for shop_id in shop_ids], LockKind.BODIES, is_shared=is_shared)


def lock_stock_buckets(
    tx: Connection, objects: Collection[tuple[int, str]], *, is_shared: bool = False
) -> None:
    """Lock the buckets of these (shop, key), of 256, for ``tx`` until it ends; ``is_shared``: a shared lock.

    For batches that need thousands of locks: PostgreSQL's lock table is limited (64 per connection by
    default).
    """
    lock_objects(tx, objects, LockKind.STOCK, is_shared=is_shared)
