"""Whether what we call takes our credentials: red at the first refusal, green at the next success."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.audit.chain import Entry, Mutation

_FIND_STATUS = """
select status from connections where shop_id is not distinct from %(shop_id)s::int and provider = %(provider)s
"""

_RECORD_OK = """
update connections set status = 'ok', code = '', detail = '', since = %(now)s, updated_at = %(now)s
 where shop_id is not distinct from %(shop_id)s::int and provider = %(provider)s and status <> 'ok'
returning id
"""

_RECORD_FIRST_OK = """
insert into connections (shop_id, provider, status, since, updated_at)
values (%(shop_id)s, %(provider)s, 'ok', %(now)s, %(now)s)
on conflict (shop_id, provider) do nothing
"""

_RECORD_BROKEN = """
with was as (
  select status from connections
   where shop_id is not distinct from %(shop_id)s::int and provider = %(provider)s
)
insert into connections as c (shop_id, provider, status, code, detail, since, updated_at)
values (%(shop_id)s, %(provider)s, 'broken', %(code)s, %(detail)s, %(now)s, %(now)s)
on conflict (shop_id, provider) do update set
   status = 'broken', code = excluded.code, detail = excluded.detail, updated_at = excluded.updated_at,
   since = case when c.status = 'broken' then c.since else excluded.since end
returning c.id, coalesce((select status from was), 'ok') = 'ok'
"""

_FIND = """
select shop_id, provider, status, code, detail, since, updated_at from connections
 order by shop_id nulls first, provider
"""

BROKEN_LINES = """
select 'connections_broken' as kind, provider as label, provider as name, shop_id, since,
       null::timestamptz as until, '' as by, concat_ws(': ', nullif(code, ''), nullif(detail, '')) as why
  from connections where status = 'broken'
"""
"""Every broken connection as a condition: see ``services.jobs.conditions``."""


class ConnectionState(NamedTuple):
    """Whether a provider takes our credentials, as of ``updated_at``; ``shop_id`` None: the fleet's own."""

    shop_id: int | None
    provider: str
    status: str
    code: str
    detail: str
    since: datetime
    updated_at: datetime


def record_connection_ok(tx: Connection, shop_id: int | None, provider: str, now: datetime) -> list[Entry]:
    """The connection is ``ok``. Returns what the audit says where it was broken."""
    values: dict[str, Any] = {"shop_id": shop_id, "provider": provider, "now": now}
    # Only a change is written: what works a thousand times a minute must not lock a row as often.
    status = tx.exec_driver_sql(_FIND_STATUS, values).scalar()
    if status is None:
        tx.exec_driver_sql(_RECORD_FIRST_OK, values)
    mended = tx.exec_driver_sql(_RECORD_OK, values).scalar() if status == "broken" else None
    if mended is None:
        return []
    return [_entry(shop_id, provider, mended, "connection.mended", f"connection {provider} works again", "")]


def record_connection_broken(
    tx: Connection, shop_id: int | None, provider: str, code: str, detail: str, now: datetime
) -> list[Entry]:
    """The connection is ``broken`` since ``now``, or since it was. Returns what the audit says of it."""
    values = {"shop_id": shop_id, "provider": provider, "code": code, "detail": detail[:500], "now": now}
    row_id, was_ok = tx.exec_driver_sql(_RECORD_BROKEN, values).one()
    if not was_ok:
        return []
    summary = f"connection {provider} is broken: {code}"
    return [_entry(shop_id, provider, row_id, "connection.broken", summary, code)]


def find_connections(tx: Connection) -> Sequence[ConnectionState]:
    """Return every connection that was ever used, the fleet's own first."""
    return [ConnectionState(*row) for row in tx.exec_driver_sql(_FIND)]


def _entry(shop_id: int | None, provider: str, row_id: int, action: str, summary: str, code: str) -> Entry:
    after = {"provider": provider, "status": "broken" if code else "ok", "code": code}
    return Entry(shop_id, "fleet", action, "", [Mutation("connections", str(row_id), summary, None, after)])
