"""Sync cursors: up to which time a provider's list was read, per shop and stream."""

from datetime import datetime

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from services.ledger.tables import sync_cursors as cursors


def find_cursor(tx: Connection, shop_id: int, provider: str, stream: str) -> datetime | None:
    """Return the time up to which ``stream`` was read completely; None if it never was.

    Start reading a little earlier, because a provider's list may lag behind its events.
    """
    key = (cursors.c.shop_id == shop_id) & (cursors.c.provider == provider) & (cursors.c.stream == stream)
    return tx.scalar(select(cursors.c.synced_until).where(key))


def list_cursors(tx: Connection, shop_id: int, provider: str, prefix: str) -> dict[str, datetime]:
    """Return the times of the streams whose names begin with ``prefix``, by name."""
    is_wanted = cursors.c.stream.startswith(prefix, autoescape=True)
    key = (cursors.c.shop_id == shop_id) & (cursors.c.provider == provider) & is_wanted
    return {row.stream: row.synced_until for row in tx.execute(select(cursors).where(key))}


def upsert_cursor(
    tx: Connection, shop_id: int, provider: str, stream: str, synced_until: datetime, now: datetime
) -> None:
    """Record that ``stream`` was read completely up to ``synced_until``. A cursor never moves back.

    Call it in the transaction that records the last rows that were read, so that a crash loses nothing.
    """
    new = insert(cursors).values(
        shop_id=shop_id, provider=provider, stream=stream, synced_until=synced_until, synced_at=now
    )
    later = func.greatest(cursors.c.synced_until, new.excluded.synced_until)
    tx.execute(
        new.on_conflict_do_update(
            index_elements=cursors.primary_key.columns, set_={"synced_until": later, "synced_at": now}
        )
    )


def delete_cursors(tx: Connection, shop_id: int, provider: str, prefix: str) -> None:
    """Delete the cursors of the streams whose names begin with ``prefix``."""
    key = (cursors.c.shop_id == shop_id) & (cursors.c.provider == provider)
    tx.execute(delete(cursors).where(key, cursors.c.stream.startswith(prefix, autoescape=True)))
