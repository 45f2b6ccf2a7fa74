"""Secrets that are dead: a provider took them back, and nobody should try them any more."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection

from services.core.arrays import text_array

_FIND_SINCE = """
select max(created_at) from shop_secrets
 where shop_id = %(shop_id)s and name = any(%(name)s::text[]) and expires_at is null
"""

_FORGET = """
with gone as (
  delete from shop_secrets
   where shop_id = %(shop_id)s and name = any(%(name)s::text[]) and created_at <= %(at)s returning name
)
select distinct name from gone order by name
"""


def find_recorded_at(tx: Connection, shop_id: int, names: Collection[str]) -> datetime | None:
    """Return when the newest current secret of ``names`` was recorded; None where there is none."""
    values = {"shop_id": shop_id, "name": text_array(list(names))}
    found: datetime | None = tx.exec_driver_sql(_FIND_SINCE, values).scalar()
    return found


def forget_secrets(tx: Connection, shop_id: int, names: Collection[str], at: datetime) -> list[str]:
    """No secret of ``names`` recorded up to ``at`` is there any more; return the names of those that were."""
    values = {"shop_id": shop_id, "name": text_array(list(names)), "at": at}
    return [str(name) for name in tx.exec_driver_sql(_FORGET, values).scalars()]
