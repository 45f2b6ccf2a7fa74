"""Two workers on one object take turns: advisory locks that the end of the transaction lets go."""

from collections.abc import Collection

from sqlalchemy import Connection

from services.core.arrays import int_array, text_array

_LOCK = """
select pg_advisory_xact_lock(place) from (
  select distinct hashtextextended(key, shop_id) as place
    from unnest(%(shop_id)s::int[], %(key)s::text[]) as v(shop_id, key) order by place
) sorted
"""

_LOCK_BUCKETS = """
select case when %(is_shared)s then pg_advisory_xact_lock_shared(%(family)s, bucket)
            else pg_advisory_xact_lock(%(family)s, bucket) end from (
  select distinct (hashtextextended(key, shop_id) & 255)::int as bucket
    from unnest(%(shop_id)s::int[], %(key)s::text[]) as v(shop_id, key) order by bucket
) sorted
"""


def lock_objects(tx: Connection, objects: Collection[tuple[int, str]]) -> None:
    """``tx`` alone works on these (shop, key) until it ends; others wait here.

    In one statement and in sorted order, so that two sets that share objects cannot deadlock. Read
    after this, in a new statement: only that sees what the previous holder committed.
    """
    if objects:
        tx.exec_driver_sql(
            _LOCK, {"shop_id": int_array(s for s, _ in objects), "key": text_array([k for _, k in objects])}
        )


def lock_buckets(
    tx: Connection, family: int, objects: Collection[tuple[int, str]], *, is_shared: bool = False
) -> None:
    """``tx`` alone works on the buckets that these (shop, key) fall into, of 256 in ``family``.

    With ``is_shared`` it does so beside others that share them, and none that does not.

    For locks that a set needs by the thousand: PostgreSQL's lock table is finite (64 a connection by
    default), and a large set meets most buckets anyway.
    """
    if objects:
        tx.exec_driver_sql(
            _LOCK_BUCKETS,
            {
                "family": family,
                "is_shared": is_shared,
                "shop_id": int_array(s for s, _ in objects),
                "key": text_array([k for _, k in objects]),
            },
        )
