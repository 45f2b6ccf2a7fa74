"""Incidents: rules open, update and resolve them, one row per (shop, rule, period)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Connection, Row, Select, case, func, or_, select

from services.alerts.rules import AGING
from services.alerts.tables import incidents
from services.core.db import Page, fetch_page
from services.core.errors import InputInvalid
from services.core.pg_arrays import arrays
from services.core.settings import get_settings

_HAS_NEW_FINDING = """excluded.detail ? 'findings' and i.detail ? 'findings'
                           and not (i.detail -> 'findings') @> (excluded.detail -> 'findings')"""
_IS_WORSE_FIGURE = "excluded.detail ? 'limit' and split_part(i.rule, ':', 1) <> all(%(aging)s)"
_IS_UNKNOWN = f"i.status <> 'open' or {_HAS_NEW_FINDING}"
# A worsening is later than the message before it, also if its transaction began earlier.
# An upsert takes a number of the sequence for each row, even if it only updates: so the id is given.
_RECORD = f"""
with changed as (
insert into incidents as i
  (id, shop_id, rule, period, severity, summary, detail, opened_at, updated_at)
overriding system value
select coalesce((select o.id from incidents o where o.rule = v.rule and o.period = v.period
                    and (o.shop_id = v.shop_id or o.shop_id is null and v.shop_id is null)),
                nextval('incidents_id_seq')),
       v.shop_id, v.rule, v.period, v.severity, v.summary, v.detail, %(now)s, %(now)s
  from unnest(%(shop_id)s::int[], %(rule)s::text[], %(period)s::text[], %(severity)s::text[],
              %(summary)s::text[], %(detail)s::jsonb[]) as v(shop_id, rule, period, severity, summary, detail)
 where not exists (
   select from incidents c
    where c.rule = v.rule and c.shop_id is not distinct from v.shop_id and c.severity <= v.severity
      and case when v.detail ? 'findings'
               then (c.detail -> 'findings') @> (v.detail -> 'findings')
                and (c.status = 'open' or c.resolved_by is not null)
               else c.resolved_by is not null and c.period = v.period and c.detail = v.detail
                and (c.detail <> '{{}}' or c.summary = v.summary) end)
on conflict on constraint uq_incidents_identity do update set
   summary = excluded.summary, updated_at = excluded.updated_at, status = 'open',
   worsened_at = case when excluded.severity < i.severity
                        or (i.status = 'open' and ({_IS_WORSE_FIGURE} or {_HAS_NEW_FINDING}))
                      then greatest(excluded.updated_at, i.notified_at + interval '1 microsecond')
                      else i.worsened_at end,
   reopened_at = case when i.status = 'resolved' then excluded.updated_at else i.reopened_at end,
   acknowledged_at = case when {_IS_UNKNOWN} then null else i.acknowledged_at end,
   acknowledged_by = case when {_IS_UNKNOWN} then null else i.acknowledged_by end,
   snoozed_until = case when {_IS_UNKNOWN} or excluded.severity < i.severity then null
                        else i.snoozed_until end,
   severity = excluded.severity, resolved_at = null, resolved_by = null, resolved_reason = null,
   detail = case when excluded.detail ? 'findings' and i.detail ? 'findings' then jsonb_set(
       excluded.detail, '{{findings}}',
       (select jsonb_agg(distinct f) from jsonb_array_elements(
           (i.detail -> 'findings') || (excluded.detail -> 'findings')) f)) else excluded.detail end
 where (i.summary, i.status, i.severity, i.detail)
       is distinct from (excluded.summary, 'open', excluded.severity, excluded.detail)
returning i.id, i.summary, case when i.xmax = 0 then 'opened' when i.reopened_at = %(now)s then 'reopened'
                               when i.worsened_at >= %(now)s then 'worsened' end as kind
), entries as (
  insert into incident_entries (incident_id, at, kind, text)
  select id, %(now)s, kind, summary from changed where kind is not null
)
select id from changed
"""  # noqa: S608 - constants only

_UPDATE_FACTS = """
update incidents i set summary = v.summary, detail = v.detail, updated_at = %(now)s
  from unnest(%(shop_id)s::int[], %(rule)s::text[], %(period)s::text[],
              %(summary)s::text[], %(detail)s::jsonb[]) as v(shop_id, rule, period, summary, detail)
 where coalesce(i.shop_id, 0) = coalesce(v.shop_id, 0) and i.rule = v.rule and i.period = v.period
   and i.status = 'open' and i.summary <> v.summary
"""

# ``coalesce``, because a join on "is not distinct from" compares each pair.
_RESOLVE = """
with ended as (
update incidents i set status = 'resolved', updated_at = %(now)s, resolved_at = %(now)s,
       summary = v.how || ' Before: ' || i.summary
  from unnest(%(shop_id)s::int[], %(rule)s::text[], %(period)s::text[], %(how)s::text[])
         as v(shop_id, rule, period, how)
 where coalesce(i.shop_id, 0) = coalesce(v.shop_id, 0) and i.rule = v.rule and i.status = 'open'
   and i.period = coalesce(v.period, i.period)
returning i.id, v.how
)
insert into incident_entries (incident_id, at, kind, text) select id, %(now)s, 'recovered', how from ended
"""

_NAMES = (
    "id", "severity", "status", "shop_id", "rule", "period", "opened_at", "updated_at", "summary", "detail",
    "resolved_at", "resolved_by", "resolved_reason", "acknowledged_at", "acknowledged_by", "snoozed_until",
)  # fmt: skip
SEVERITIES = ("P1", "P2", "P3")
STATES = ("open", "acknowledged", "snoozed", "resolved")
# Not stored, because a snooze ends by itself; ``status`` is ``open`` until the incident is resolved.
_STATE = case(
    (incidents.c.status != "open", incidents.c.status),
    (incidents.c.snoozed_until > func.now(), "snoozed"),
    (incidents.c.acknowledged_at.is_not(None), "acknowledged"),
    else_="open",
)
_SELECT: Select[Any] = select(*[incidents.c[name] for name in _NAMES], _STATE.label("state"))

OPEN_LINES = """
select lower(severity) || '_open' as kind, severity as label, rule || ' ' || period as name, shop_id,
       opened_at as since, null::timestamptz as until, coalesce(acknowledged_by, '') as by, summary as why
  from incidents where status = 'open'
union all
select 'alert_channels_failed' as kind, split_part(rule, ':', 2) as label, rule as name, null::int as shop_id,
       opened_at as since, null::timestamptz as until, coalesce(acknowledged_by, '') as by, summary as why
  from incidents where status = 'open' and rule like 'alert\\_channel\\_failed:%%'
"""
"""SQL: open incidents, and channels of the alerts that fail, as conditions: ``services.jobs.conditions``."""


class Incident(NamedTuple):
    """A problem for a person.

    ``severity`` is P1 (act now), P2 (act today) or P3 (act when there is time).
    """

    shop_id: int | None
    rule: str
    period: str
    severity: str
    summary: str
    detail: Mapping[str, Any] = {}


def find_incidents(
    tx: Connection,
    *,
    shop_id: int | None = None,
    rule: str = "",
    severities: Sequence[str] = (),
    states: Sequence[str] = STATES[:3],
    limit: int = 50,
) -> Page[Row[Any]]:
    """Return incidents in ``states`` by severity, then the newest first; by default what is not resolved.

    ``rule`` is a rule (``cron_did_not_run:monthly-close``) or the part before its colon.
    """
    column = incidents.c
    wanted = _SELECT.order_by(column.status, column.severity, column.id.desc())
    wanted = wanted.where(_STATE.in_(states))
    if "resolved" not in states:  # by the index of these
        wanted = wanted.where(column.status == "open")
    if shop_id is not None:
        wanted = wanted.where(column.shop_id == shop_id)
    if severities:
        wanted = wanted.where(column.severity.in_(severities))
    if rule:
        wanted = wanted.where(or_(column.rule == rule, func.split_part(column.rule, ":", 1) == rule))
    return fetch_page(tx, wanted, limit)


def find_zone(tx: Connection, shop_id: int | None) -> ZoneInfo:
    """Return the zone of all times of an incident: its shop's, else the fleet's."""
    zone = tx.exec_driver_sql("select timezone from shops where id = %(id)s", {"id": shop_id}).scalar()
    return ZoneInfo(zone) if zone else get_settings().zone


def list_open_incidents(tx: Connection, rule: str) -> Sequence[Row[Any]]:
    """Return the incidents of ``rule`` that are not resolved, of all shops and periods, the oldest first."""
    wanted = _SELECT.where(incidents.c.rule == rule, incidents.c.status != "resolved")
    return tx.execute(wanted.order_by(incidents.c.opened_at, incidents.c.id)).all()


def get_incident(tx: Connection, incident_id: int, *, for_update: bool = False) -> Row[Any]:
    """Return one incident, locked if ``for_update``; raise ``InputInvalid`` for an unknown id."""
    wanted = _SELECT.where(incidents.c.id == incident_id)
    row = tx.execute(wanted.with_for_update() if for_update else wanted).first()
    if row is None:
        raise InputInvalid(f"no incident has the id {incident_id}: `fleet incidents list --all` lists all")
    return row


def record_incidents(tx: Connection, found: Sequence[Incident], now: datetime) -> int:
    """Open each of ``found`` once, or update it; return how many changed.

    One that a person resolved stays resolved in its period while its ``detail`` (without a detail: its
    summary) is the same and its severity does not rise. An incident with ``findings`` in its ``detail``
    opens, in any period, only for a finding that no open or person-resolved incident of its shop and rule
    contains. Findings are added to an open list, never removed: a new one is worse, and ends the
    acknowledgement and the snooze, as opening again does; a higher severity ends the snooze. An open incident
    with a ``limit`` in its ``detail`` is recorded again only if its figure is worse; an age is not.
    """
    if not found:
        return 0
    return len(tx.exec_driver_sql(_RECORD, {**_make_arrays(found), "now": now, "aging": AGING}).all())


def update_facts(tx: Connection, found: Sequence[Incident], now: datetime) -> None:
    """Give each open incident of ``found`` its summary and detail. Nobody is notified of that."""
    if found:
        tx.exec_driver_sql(_UPDATE_FACTS, {**_make_arrays(found), "now": now})


def _make_arrays(found: Sequence[Incident]) -> Mapping[str, Any]:
    rows = [(*one[:-1], orjson.dumps(dict(one.detail), default=str).decode()) for one in found]
    return arrays("shop_id rule period severity summary detail", rows)


class Recovery(NamedTuple):
    """The end of the open incident of (shop, rule, period); ``period`` None: of all periods.

    Its summary is then ``how``, and what it was before.
    """

    shop_id: int | None
    rule: str
    period: str | None
    how: str


def resolve_incidents(tx: Connection, ended: Sequence[Recovery], now: datetime) -> int:
    """Resolve the open incidents of ``ended``; return how many there were."""
    if not ended:
        return 0
    return tx.exec_driver_sql(_RESOLVE, {**arrays("shop_id rule period how", ended), "now": now}).rowcount


def resolve_incident(
    tx: Connection, shop_id: int | None, rule: str, period: str | None, now: datetime, how: str
) -> int:
    """Resolve the open incident of (shop, rule, period) and add ``how``; ``period`` None: all periods."""
    return resolve_incidents(tx, [Recovery(shop_id, rule, period, how)], now)
