"""Orders that Shopify deleted: their rows stay, and are no revenue any more."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.core.arrays import instant_array, int_array, text_array
from services.storefront.newest import UNTOLD
from services.storefront.refunds import OrderKey

_RECORD_DELETIONS = """
insert into orders as o (shop_id, order_gid, name, total_cents, currency, financial_status, placed_at,
                         updated_at, deleted_at)
select v.shop_id, v.gid, '', 0, '', '', %(untold)s, %(untold)s, v.at
  from unnest(%(shop_id)s::int[], %(gid)s::text[], %(at)s::timestamptz[]) as v(shop_id, gid, at)
on conflict (shop_id, order_gid) do update set deleted_at = excluded.deleted_at
 where o.deleted_at is null or o.deleted_at > excluded.deleted_at
returning shop_id, order_gid, name
"""


class Deletion(NamedTuple):
    """Shopify deleted an order. Its event carries the id and nothing else."""

    shop_id: int
    gid: str
    deleted_at: datetime
    work_id: int


def record_deletions(tx: Connection, deletions: Collection[Deletion]) -> dict[OrderKey, str]:
    """Each order is deleted since the earliest time told; return the names of those that changed by it.

    Of an order that nobody told of yet, a blank row remembers it: what comes late finds it deleted.
    """
    if not deletions:
        return {}
    values = {
        "untold": UNTOLD,
        "shop_id": int_array(d.shop_id for d in deletions),
        "gid": text_array([d.gid for d in deletions]),
        "at": instant_array(d.deleted_at for d in deletions),
    }
    return {(r[0], r[1]): r[2] for r in tx.exec_driver_sql(_RECORD_DELETIONS, values)}
