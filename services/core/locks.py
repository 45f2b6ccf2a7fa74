"""Two workers on one object take turns: locks until the transaction ends, taken in one global order."""

from collections.abc import Collection
from enum import IntEnum

from sqlalchemy import Connection

from services.core.pg_arrays import int_array, text_array


class Lock(IntEnum):
    """What a transaction locks, in the order in which every transaction locks it.

    All that it needs of one kind it locks in one statement, sorted, and after that no smaller kind. To lock
    again what it holds already is free. So of any two transactions one can always go on: none ever waits for
    one that waits for it. The suite watches the order in every transaction that a test runs.
    """

    PRODUCTS = 1
    """Before the objects: only the row of a product names its inventory items."""
    OBJECTS = 2
    STOCK = 3
    """The buckets of skus: only a locked inventory item has a sku that stays."""
    LEVELS = 4
    """The rows of ``inventory_levels``, by shop and by the key of their pushes."""
    CHAINS = 5
    """Of the audit: locked last, until the commit."""

    def mark(self, statement: str) -> str:
        """Return ``statement`` with the kind of its locks, as PostgreSQL's log and the suite read it."""
        return f"/* lock {self.value} {self.name.lower()} */{statement}"


_LOCK = """
select pg_advisory_xact_lock(place) from (
  select distinct hashtextextended(key, shop_id) as place
    from unnest(%(shop_id)s::int[], %(key)s::text[]) as v(shop_id, key) order by place
) sorted
"""

_LOCK_OBJECTS = {kind: kind.mark(_LOCK) for kind in (Lock.PRODUCTS, Lock.OBJECTS)}

_LOCK_STOCK = Lock.STOCK.mark("""
select case when %(is_shared)s then pg_advisory_xact_lock_shared(1, bucket)
            else pg_advisory_xact_lock(1, bucket) end from (
  select distinct (hashtextextended(key, shop_id) & 255)::int as bucket
    from unnest(%(shop_id)s::int[], %(key)s::text[]) as v(shop_id, key) order by bucket
) sorted
""")


def lock_objects(tx: Connection, objects: Collection[tuple[int, str]], kind: Lock = Lock.OBJECTS) -> None:
    """``tx`` alone works on these (shop, key) until it ends; others wait here.

    Read after this, in a new statement: only that sees what the previous holder committed. Once a
    transaction for each ``kind``; see ``Lock``.
    """
    if objects:
        tx.exec_driver_sql(
            _LOCK_OBJECTS[kind],
            {"shop_id": int_array(s for s, _ in objects), "key": text_array([k for _, k in objects])},
        )


def lock_stock_buckets(
    tx: Connection, objects: Collection[tuple[int, str]], *, is_shared: bool = False
) -> None:
    """``tx`` alone works on the buckets that these (shop, key) fall into, of 256.

    With ``is_shared`` it does so beside others that share them, and none that does not.

    For locks that a set needs by the thousand: PostgreSQL's lock table is finite (64 a connection by
    default), and a large set meets most buckets anyway.
    """
    if objects:
        tx.exec_driver_sql(
            _LOCK_STOCK,
            {
                "is_shared": is_shared,
                "shop_id": int_array(s for s, _ in objects),
                "key": text_array([k for _, k in objects]),
            },
        )
