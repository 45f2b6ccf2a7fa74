"""State of connections: ``broken`` from the first refused credential on, ``ok`` from the next success on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.audit.append import append_all
from services.audit.chain import AuditEntry, Mutation
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.pg_arrays import int_array
from services.providers.call_outcomes import EVERYTHING, CallOutcomes, collect_calls
from services.shops.secret_uses import SecretUses, list_accepted

_FIND_STATUS = """
select status from connections where shop_id is not distinct from %(shop_id)s::int and provider = %(provider)s
"""

_RECORD_OK = """
insert into connections as c (shop_id, provider, status, since, updated_at)
values (%(shop_id)s, %(provider)s, 'ok', %(now)s, %(now)s)
on conflict (shop_id, provider) do update set
   status = 'ok', code = '', detail = '', resource = '',
   since = excluded.since, updated_at = excluded.updated_at
 where c.status <> 'ok'
returning id, xmax <> 0 as was_broken
"""

# The row decides whether the connection was ok, because another worker may have changed it in the meantime.
_RECORD_BROKEN = """
insert into connections as c (shop_id, provider, status, code, detail, resource, since, updated_at)
values (%(shop_id)s, %(provider)s, 'broken', %(code)s, %(detail)s, %(resource)s, %(now)s, %(now)s)
on conflict (shop_id, provider) do update set
   status = 'broken', code = excluded.code, detail = excluded.detail, resource = excluded.resource,
   updated_at = excluded.updated_at,
   since = case when c.status = 'broken' then c.since else excluded.since end
 where (c.status, c.code, c.resource) is distinct from ('broken', excluded.code, excluded.resource)
returning c.id, c.since = %(now)s as is_new
"""

_FIND_STATES = """
select coalesce(shop_id, 0) as shop_id, provider, status, code, resource from connections
 where shop_id = any(%(shop_id)s::int[]) or shop_id is null
"""

# Without a token the app was uninstalled, so the refusal needs no repair.
IN_USE = """not (status = 'broken' and provider = 'shopify' and not exists (
       select from shop_secrets k where k.shop_id = connections.shop_id and k.name = 'shopify-token'))"""

ENDS_AT = """case when exists (
         select from shop_secrets r where r.shop_id = connections.shop_id
            and r.name = connections.provider || '-refresh-token' and r.expires_at is null)
       then refresh_expires_at else coalesce(refresh_expires_at, token_expires_at) end"""
"""When a credential ends. A token that renews itself ends with its refresh token, or at no known time."""

_FIND = f"""
select shop_id, provider, status, code, detail, since, updated_at, resource from connections
 where {IN_USE} order by shop_id nulls first, provider
"""  # noqa: S608 - the text is a constant

BROKEN_LINES = f"""
select 'connections_broken' as kind, provider as label, provider as name, shop_id, since,
       null::timestamptz as until, '' as by, concat_ws(': ', nullif(code, ''), nullif(detail, '')) as why
  from connections where status = 'broken' and {IN_USE}
"""  # noqa: S608 - the text is a constant
"""Every broken connection as a condition: see ``services.jobs.conditions``."""


class ConnectionState(NamedTuple):
    """Whether a provider accepts our credentials; ``shop_id`` is None for the fleet."""

    shop_id: int | None
    provider: str
    status: str
    code: str
    detail: str
    since: datetime
    updated_at: datetime
    resource: str = EVERYTHING


class _PlannedState(NamedTuple):
    """The state that a row of ``connections`` has or gets."""

    status: str
    code: str = ""
    resource: str = EVERYTHING
    detail: str = ""


def record_connection_ok(
    tx: Connection, shop_id: int | None, provider: str, now: datetime
) -> list[AuditEntry]:
    """Set the connection to ``ok``; return the audit entry if it was broken."""
    values = {"shop_id": shop_id, "provider": provider, "now": now}
    # Only a change is written, so that a working connection does not lock its row at each call.
    if tx.exec_driver_sql(_FIND_STATUS, values).scalar() == "ok":
        return []
    row = tx.exec_driver_sql(_RECORD_OK, values).first()
    if row is None or not row.was_broken:
        return []
    summary = f"connection {provider} works again"
    return [_entry(shop_id, provider, row.id, "connection.mended", summary, "")]


def record_connection_broken(
    tx: Connection,
    shop_id: int | None,
    provider: str,
    code: str,
    detail: str,
    now: datetime,
    *,
    resource: str = EVERYTHING,
) -> list[AuditEntry]:
    """Set the connection to ``broken``; return the audit entry if it was not broken before.

    ``resource`` is the only refused part. An unchanged row is not written.
    """
    values = {"shop_id": shop_id, "provider": provider, "now": now}
    values |= {"code": code, "detail": detail[:500], "resource": resource}
    row = tx.exec_driver_sql(_RECORD_BROKEN, values).first()
    if row is None or not row.is_new:
        return []
    summary = f"connection {provider} is broken: {code}"
    return [_entry(shop_id, provider, row.id, "connection.broken", summary, code)]


def record_provider_calls(
    tx: Connection, found: Sequence[tuple[int, CallOutcomes]], now: datetime
) -> list[AuditEntry]:
    """Set each connection to the outcome of its shop's calls (0: the fleet); return the audit entries.

    An unchanged one is not written. A refusal of one resource ends with an answer about that resource, a
    refusal of the credential with any answer.
    """
    merged: dict[tuple[int, str], CallOutcomes] = {}
    for shop_id, calls in found:
        for (provider, resource), fault in calls.items():
            merged.setdefault((shop_id, provider), CallOutcomes()).note(provider, resource, fault)
    if not merged:
        return []
    shop_ids = int_array(sorted({shop_id for shop_id, _ in merged}))
    rows = tx.exec_driver_sql(_FIND_STATES, {"shop_id": shop_ids})
    states = {(row.shop_id, row.provider): _PlannedState(row.status, row.code, row.resource) for row in rows}
    entries: list[AuditEntry] = []
    # Sorted, as two workers may settle calls of the same shops at once.
    for (shop_id, provider), calls in sorted(merged.items(), key=lambda pair: pair[0]):
        change = _plan_state(states.get((shop_id, provider)), calls)
        if change is None:
            continue
        if change.status == "ok":
            entries += record_connection_ok(tx, shop_id or None, provider, now)
        else:
            entries += record_connection_broken(
                tx, shop_id or None, provider, change.code, change.detail, now, resource=change.resource
            )
    return entries


@contextmanager
def recorded_calls(shop_id: int) -> Iterator[None]:
    """Record the outcome of the calls inside, also if one of them raised. For commands, not for work."""
    with collect_calls() as calls:
        try:
            yield
        finally:
            now = utc_now()
            with transaction() as tx:
                append_all(tx, record_provider_calls(tx, [(shop_id, calls)], now), now)
            SecretUses().record_calls(None, list_accepted([(shop_id, calls)]), now)


def list_connections(tx: Connection) -> Sequence[ConnectionState]:
    """Return every connection in use, the fleet's first."""
    return [*map(ConnectionState._make, tx.exec_driver_sql(_FIND).all())]  # the columns are its fields


def _plan_state(before: _PlannedState | None, calls: CallOutcomes) -> _PlannedState | None:
    """Return the connection's state after ``calls`` of its provider; None: unchanged. Pure."""
    newest = list(calls.items())
    answered = [index for index, (_, fault) in enumerate(newest) if fault is None or fault.is_partial]
    worked = {resource for (_, resource), fault in newest if fault is None}
    refused = [
        _PlannedState("broken", fault.code, resource, fault.detail)
        for index, ((_, resource), fault) in enumerate(newest)
        if fault is not None and (fault.is_partial or index > max(answered, default=-1))
    ]
    whole = [state for state in refused if state.resource == EVERYTHING]
    known = before is not None and before.status == "broken" and before.resource
    again = [state for state in refused if state.resource == known]
    if not whole and known and known not in worked and not again:
        return None
    if refused:
        state = (whole or again or refused)[-1]
        same = before is not None and before[:3] == state[:3]
        return None if same else state
    return None if before is not None and before.status == "ok" else _PlannedState("ok")


def _entry(
    shop_id: int | None, provider: str, row_id: int, action: str, summary: str, code: str
) -> AuditEntry:
    after = {"provider": provider, "status": "broken" if code else "ok", "code": code}
    return AuditEntry(
        shop_id, "fleet", action, "", [Mutation("connections", str(row_id), summary, None, after)]
    )
