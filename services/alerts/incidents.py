"""Incidents are opened, kept up to date and resolved by rules; one row per (shop, rule, period)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from services.core.pg_arrays import int_array, text_array

_RECORD = """
insert into incidents as i (shop_id, rule, period, severity, summary, detail, opened_at, updated_at)
select v.shop_id, v.rule, v.period, v.severity, v.summary, v.detail, %(now)s, %(now)s
  from unnest(%(shop_id)s::int[], %(rule)s::text[], %(period)s::text[], %(severity)s::text[],
              %(summary)s::text[], %(detail)s::jsonb[]) as v(shop_id, rule, period, severity, summary, detail)
 where not exists (
   select from incidents c
    where c.rule = v.rule and c.shop_id is not distinct from v.shop_id and c.severity <= v.severity
      and case when v.detail ? 'findings'
               then (c.detail -> 'findings') @> (v.detail -> 'findings')
                and (c.status = 'open' or c.resolved_by is not null)
               else c.resolved_by is not null and c.period = v.period and c.detail = v.detail
                and (c.detail <> '{}' or c.summary = v.summary) end)
on conflict on constraint uq_incidents_identity do update set
   summary = excluded.summary, updated_at = excluded.updated_at, status = 'open',
   severity = excluded.severity, resolved_at = null, resolved_by = null, resolved_reason = null,
   mailed_at = case when i.resolved_by is null and excluded.severity >= i.severity then i.mailed_at end,
   detail = case when excluded.detail ? 'findings' and i.detail ? 'findings' then jsonb_set(
       excluded.detail, '{findings}',
       (select jsonb_agg(distinct f) from jsonb_array_elements(
           (i.detail -> 'findings') || (excluded.detail -> 'findings')) f)) else excluded.detail end
 where (i.summary, i.status, i.severity, i.detail)
       is distinct from (excluded.summary, 'open', excluded.severity, excluded.detail)
returning i.id
"""

_RESOLVE = """
update incidents set status = 'resolved', updated_at = %(now)s, resolved_at = %(now)s,
       summary = summary || ' ' || %(how)s
 where shop_id is not distinct from %(shop_id)s::int and rule = %(rule)s and status = 'open'
   and (%(period)s::text is null or period = %(period)s)
"""

OPEN_LINES = """
select lower(severity) || '_open' as kind, severity as label, rule || ' ' || period as name, shop_id,
       opened_at as since, null::timestamptz as until, '' as by, summary as why
  from incidents where status = 'open'
"""
"""Every open incident as a condition: see ``services.jobs.conditions``."""


_FIND_OPEN = """
select id, shop_id, rule, period, severity, summary, opened_at from incidents
 where rule = %(rule)s and status <> 'resolved' order by opened_at, id
"""


class Incident(NamedTuple):
    """Something a person should know of. ``severity`` is P1 (now), P2 (today) or P3 (when there is time)."""

    shop_id: int | None
    rule: str
    period: str
    severity: str
    summary: str
    detail: Mapping[str, Any] = {}


class OpenIncident(NamedTuple):
    """An incident that is not resolved, as a person sees it."""

    id: int
    shop_id: int | None
    rule: str
    period: str
    severity: str
    summary: str
    opened_at: datetime


def find_open_incidents(tx: Connection, rule: str) -> list[OpenIncident]:
    """Return the incidents of ``rule`` that are not resolved, of every shop and period, the oldest first."""
    return [OpenIncident(*row) for row in tx.exec_driver_sql(_FIND_OPEN, {"rule": rule})]


def record_incidents(tx: Connection, incidents: Sequence[Incident], now: datetime) -> int:
    """Each of ``incidents`` is open and up to date, and no second time there. Returns how many changed.

    One that a person closed stays closed in its period while its ``detail`` (its summary, where it has no
    detail) is the same and its severity does not rise. What outlives a period lists its ``findings`` in
    ``detail``: it opens, in any period, only with a finding that is not yet in an incident of its shop and
    rule that is open or that a person closed. An open list grows and never loses a finding.
    """
    if not incidents:
        return 0
    values = {
        "now": now,
        "shop_id": int_array(i.shop_id for i in incidents),
        "rule": text_array([i.rule for i in incidents]),
        "period": text_array([i.period for i in incidents]),
        "severity": text_array([i.severity for i in incidents]),
        "summary": text_array([i.summary for i in incidents]),
        "detail": text_array([orjson.dumps(dict(i.detail), default=str).decode() for i in incidents]),
    }
    return len(tx.exec_driver_sql(_RECORD, values).all())


def resolve_incident(
    tx: Connection, shop_id: int | None, rule: str, period: str | None, now: datetime, how: str
) -> int:
    """The open incident of (shop, rule, period) is resolved, and says ``how``; None: of every period."""
    values = {"shop_id": shop_id, "rule": rule, "period": period, "now": now, "how": how}
    return tx.exec_driver_sql(_RESOLVE, values).rowcount
