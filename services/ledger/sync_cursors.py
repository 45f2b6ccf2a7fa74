"""Sync cursors: up to when a provider's own list was read, per shop and stream."""

from datetime import datetime

from sqlalchemy import Connection

_FIND = """
select synced_until from sync_cursors
 where shop_id = %(shop_id)s and provider = %(provider)s and stream = %(stream)s
"""

_UPSERT = """
insert into sync_cursors as c (shop_id, provider, stream, synced_until, synced_at)
values (%(shop_id)s, %(provider)s, %(stream)s, %(synced_until)s, %(now)s)
on conflict (shop_id, provider, stream) do update set
   synced_until = greatest(c.synced_until, excluded.synced_until), synced_at = excluded.synced_at
"""


def find_cursor(tx: Connection, shop_id: int, provider: str, stream: str) -> datetime | None:
    """Return up to when ``stream`` was read completely; None if it never was.

    Start reading a little earlier: a provider's list may lag behind its events.
    """
    key = {"shop_id": shop_id, "provider": provider, "stream": stream}
    return tx.exec_driver_sql(_FIND, key).scalar()


def upsert_cursor(
    tx: Connection, shop_id: int, provider: str, stream: str, synced_until: datetime, now: datetime
) -> None:
    """Record that ``stream`` was read completely up to ``synced_until``. A cursor never moves back.

    Call it in the transaction that records the last rows of what was read: a crash then loses nothing.
    """
    key = {"shop_id": shop_id, "provider": provider, "stream": stream}
    tx.exec_driver_sql(_UPSERT, key | {"synced_until": synced_until, "now": now})
