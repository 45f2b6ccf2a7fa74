"""Retires secrets: they stay sealed for some days, so that a mistake can be undone, and are then deleted.

A retired secret has the prefix ``retired:`` in its name, so no query for current or previous ones finds it.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.audit.append import Mutation, append_audit
from services.core.pg_arrays import text_array

SECRETS_KEPT = timedelta(days=7)
"""How long a retired secret stays, sealed and unused."""

_FIND_SINCE = """
select max(created_at) from shop_secrets
 where shop_id = %(shop_id)s and name = any(%(name)s::text[]) and expires_at is null
"""

_RETIRE = """
update shop_secrets set name = 'retired:' || name, expires_at = %(until)s
 where shop_id = %(shop_id)s and name not like 'retired:%%'
   and (%(name)s::text[] is null or name = any(%(name)s::text[]))
returning substr(name, 9)
"""

# The newest of its name, if no current one was recorded since.
_RESTORE = """
update shop_secrets set name = %(name)s, expires_at = null
 where id = (select max(id) from shop_secrets
              where shop_id = %(shop_id)s and name = 'retired:' || %(name)s and expires_at > %(now)s)
   and not exists (select from shop_secrets
                    where shop_id = %(shop_id)s and name = %(name)s and expires_at is null)
returning id
"""

_DELETE = "delete from shop_secrets where name like 'retired:%%' and expires_at <= %(now)s"


def find_recorded_at(tx: Connection, shop_id: int, names: Collection[str]) -> datetime | None:
    """Return when the newest current secret of ``names`` was recorded, or None."""
    values = {"shop_id": shop_id, "name": text_array(list(names))}
    found: datetime | None = tx.exec_driver_sql(_FIND_SINCE, values).scalar()
    return found


def retire_secrets(tx: Connection, shop_id: int, names: Collection[str] | None, now: datetime) -> list[str]:
    """Retire the shop's secrets of ``names`` (None: all); return the name of each row."""
    values = {
        "shop_id": shop_id,
        "name": None if names is None else text_array(list(names)),
        "until": now + SECRETS_KEPT,
    }
    return sorted(str(name) for name in tx.exec_driver_sql(_RETIRE, values).scalars())


def restore_secret(
    tx: Connection, shop_id: int, name: str, now: datetime, *, by: str, request_id: str
) -> bool:
    """Make the newest retired secret of ``name`` current again; return False if there is none."""
    values = {"shop_id": shop_id, "name": name, "now": now}
    if tx.exec_driver_sql(_RESTORE, values).scalar() is None:
        return False
    append_audit(
        tx,
        shop_id=shop_id,
        staff_label=by,
        action="shop.secret",
        request_id=request_id,
        now=now,
        mutations=[Mutation("shop_secrets", f"{shop_id}/{name}", f"took back the retired {name}")],
    )
    return True


def delete_retired_secrets(tx: Connection, now: datetime) -> int:
    """Delete the secrets that were retired ``SECRETS_KEPT`` ago; return how many."""
    return tx.exec_driver_sql(_DELETE, {"now": now}).rowcount
