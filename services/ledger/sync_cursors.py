"""Watermarks of pulls: how far a provider's own list was read, per shop and stream."""

from datetime import datetime

from sqlalchemy import Connection

_FIND = """
select reached_at from pull_marks
 where shop_id = %(shop_id)s and provider = %(provider)s and stream = %(stream)s
"""

_RECORD = """
insert into pull_marks as m (shop_id, provider, stream, reached_at, pulled_at)
values (%(shop_id)s, %(provider)s, %(stream)s, %(reached_at)s, %(now)s)
on conflict (shop_id, provider, stream) do update set
   reached_at = greatest(m.reached_at, excluded.reached_at), pulled_at = excluded.pulled_at
"""


def find_mark(tx: Connection, shop_id: int, provider: str, stream: str) -> datetime | None:
    """Return up to when ``stream`` was read in full: everything that changed before it is here.

    None where it never was. Read from a little earlier: a provider's list may lag behind its events.
    """
    scope = {"shop_id": shop_id, "provider": provider, "stream": stream}
    return tx.exec_driver_sql(_FIND, scope).scalar()


def record_mark(
    tx: Connection, shop_id: int, provider: str, stream: str, reached_at: datetime, now: datetime
) -> None:
    """``stream`` was read in full up to ``reached_at``; a mark never goes back.

    Call it in the transaction that records the last of what was read: then a crash anywhere loses nothing.
    Of two pulls at once the one that came further counts.
    """
    values = {
        "shop_id": shop_id,
        "provider": provider,
        "stream": stream,
        "reached_at": reached_at,
        "now": now,
    }
    tx.exec_driver_sql(_RECORD, values)
