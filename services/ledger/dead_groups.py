"""Dead letters by topic, shop and error code."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row

_FIND = """
with dead as (
  select topic, shop_id, coalesce(error_code, '') as error_code, created_at from work_queue
   where status = 'dead' and (%(shop_id)s::int[] is null or shop_id = any(%(shop_id)s::int[]))
   limit %(most)s
), groups as (
  select topic, shop_id, error_code, count(*) as count, min(created_at) as oldest, max(created_at) as newest
    from dead group by topic, shop_id, error_code
)
select *, count(*) over () as groups, sum(count) over ()::bigint as items from groups
 order by count desc, topic, shop_id, error_code limit %(limit)s
"""


def list_dead_groups(
    tx: Connection, shop_ids: Collection[int] | None, most: int, limit: int
) -> Sequence[Row[Any]]:
    """Return the largest ``limit`` groups of at most ``most`` dead items; ``shop_ids`` None: of all shops.

    Each row has the number of all groups and of all items too.
    """
    values = {"shop_id": None if shop_ids is None else sorted(shop_ids), "most": most, "limit": limit}
    return tx.exec_driver_sql(_FIND, values).all()
