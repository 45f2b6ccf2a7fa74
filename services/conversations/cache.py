"""The canvas cache: the page of each phone number and mail address, in ``canvas_cache``."""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.conversations.merchants import Merchant
from services.core.pg_arrays import int_array, text_array

LIFE = timedelta(hours=24)
"""Pages seldom change; the shortest allowed is six hours."""

# In the order of the keys.
_STORE = """
insert into canvas_cache (shop_id, address, merchant_id, page_id, checked_at, expires_at)
select %(shop_id)s, address, %(merchant_id)s, %(page_id)s, %(now)s, %(expires_at)s
  from unnest(%(address)s::text[]) as address order by address
on conflict (shop_id, address) do update set merchant_id = excluded.merchant_id, page_id = excluded.page_id,
   checked_at = excluded.checked_at, expires_at = excluded.expires_at
"""

_FIND_FRESH = """
select merchant_id from canvas_cache
 where merchant_id = any(%(merchant_id)s::bigint[]) and expires_at > %(now)s and page_id <> ''
 group by merchant_id
"""


def store_page(tx: Connection, merchant: Merchant, page_id: str, now: datetime) -> None:
    """Store the page of all addresses of the merchant, as Notion answered just now."""
    values = {
        "shop_id": merchant.shop_id, "merchant_id": merchant.id, "page_id": page_id, "now": now,
        "expires_at": now + LIFE, "address": text_array(merchant.addresses),
    }  # fmt: skip
    tx.exec_driver_sql(_STORE, values)


def find_fresh(tx: Connection, merchant_ids: Collection[int], now: datetime) -> set[int]:
    """Return the merchants whose page is cached and not expired."""
    values = {"merchant_id": int_array(sorted(merchant_ids)), "now": now}
    return set(tx.exec_driver_sql(_FIND_FRESH, values).scalars())
