"""What a closed month and a reconciliation must not do at once: one writes, the other waits its turn."""

from datetime import date

from sqlalchemy import Connection

from services.core.locks import lock_objects

_IS_CLOSED = """
select exists (select 1 from closed_periods
                where shop_id = %(shop_id)s and begins_on <= %(day)s and %(day)s < ends_before)
"""


def lock_books(tx: Connection, shop_id: int) -> None:
    """``tx`` alone writes breaks of the shop, or closes one of its periods, until it ends.

    Whoever closes a period takes this before the row is there, or a reconciliation that just looked
    would still write into the period. It is held for a moment only: never over a call to a provider.
    """
    lock_objects(tx, [(shop_id, "books")])


def is_closed(tx: Connection, shop_id: int, day: date) -> bool:
    """Return whether ``day`` lies in a closed period. Stays true; that it is false holds under the lock."""
    return bool(tx.exec_driver_sql(_IS_CLOSED, {"shop_id": shop_id, "day": day}).scalar())
