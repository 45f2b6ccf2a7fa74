"""Incidents: rules open, update and resolve them, one row per (shop, rule, period)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Unpack

import orjson
from sqlalchemy import Connection, Row, func, or_, select

from services.alerts.tables import incidents
from services.audit.append import Author, Mutation, append_change
from services.core.db import Page, fetch_page
from services.core.errors import InputInvalid, ShopfleetError
from services.core.pg_arrays import arrays

RULES = (
    "audit_chain_failed", "audit_rows_kept", "audit_work_id_taken", "clocks_apart", "cron_did_not_run",
    "job_failed", "pause_long", "privacy_export_no_owner", "reconciliation_break", "run_too_short",
    "shop_redact_not_confirmed", "shopify_currency_differs", "shopify_timezone_differs",
    "shopify_uninstall_not_confirmed", "shopify_uninstalled", "stock_oversold", "stripe_events_gap",
    "volume_too_small", "webhook_duplicate_header", "webhook_missing_header", "webhook_subscription_lost",
    "webhook_subscription_wrong", "webhook_wrong_shop", "work_dead",
)  # fmt: skip
"""Every rule that opens incidents, up to its colon; a test compares them with the code."""

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

_RESOLVE_BY_PERSON = """
update incidents set status = 'resolved', resolved_at = %(now)s, updated_at = %(now)s,
       resolved_by = %(by)s, resolved_reason = %(reason)s
 where id = %(id)s
"""

_NAMES = (
    "id", "severity", "status", "shop_id", "rule", "period", "opened_at", "updated_at", "summary", "detail",
    "resolved_at", "resolved_by", "resolved_reason",
)  # fmt: skip
_SELECT = select(*(incidents.c[name] for name in _NAMES))

OPEN_LINES = """
select lower(severity) || '_open' as kind, severity as label, rule || ' ' || period as name, shop_id,
       opened_at as since, null::timestamptz as until, '' as by, summary as why
  from incidents where status = 'open'
"""
"""SQL: open incidents as conditions, see ``services.jobs.conditions``."""


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
    tx: Connection, *, shop_id: int | None = None, rule: str = "", is_all: bool = False, limit: int = 50
) -> Page[Row[Any]]:
    """Return open incidents by severity, then the newest first; ``is_all`` adds resolved ones.

    ``rule`` is a rule (``cron_did_not_run:monthly-close``) or the part before its colon.
    """
    column = incidents.c
    wanted = _SELECT.order_by(column.status, column.severity, column.id.desc())
    if not is_all:
        wanted = wanted.where(column.status == "open")
    if shop_id is not None:
        wanted = wanted.where(column.shop_id == shop_id)
    if rule:
        wanted = wanted.where(or_(column.rule == rule, func.split_part(column.rule, ":", 1) == rule))
    return fetch_page(tx, wanted, limit)


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
    contains. Findings are added to an open list, never removed.
    """
    if not found:
        return 0
    rows = [(*one[:-1], orjson.dumps(dict(one.detail), default=str).decode()) for one in found]
    values = arrays("shop_id rule period severity summary detail", rows)
    return len(tx.exec_driver_sql(_RECORD, {**values, "now": now}).all())


def resolve_incident(
    tx: Connection, shop_id: int | None, rule: str, period: str | None, now: datetime, how: str
) -> int:
    """Resolve the open incident of (shop, rule, period) and add ``how``; ``period`` None: all periods."""
    values = {"shop_id": shop_id, "rule": rule, "period": period, "now": now, "how": how}
    return tx.exec_driver_sql(_RESOLVE, values).rowcount


def resolve_by_person(tx: Connection, incident_id: int, **author: Unpack[Author]) -> Row[Any]:
    """Resolve an incident, and record who and why in it and in its shop's audit; return the row before.

    The same cause does not open it again: see ``record_incidents``. Raises ``InputInvalid`` for an unknown id
    or an empty reason, ``ShopfleetError`` for an incident that is resolved already.
    """
    by, reason = author["by"], author.get("reason", "").strip()
    if not reason:
        raise InputInvalid("reason is empty: it should explain why this incident needs no more work")
    found = get_incident(tx, incident_id, for_update=True)
    if found.status != "open":
        raise ShopfleetError(f"incident {incident_id} is resolved already: nothing was changed")
    values = {"id": incident_id, "now": author["now"], "by": by, "reason": reason}
    tx.exec_driver_sql(_RESOLVE_BY_PERSON, values)
    summary = f"resolved incident {found.rule} for {found.period}: {reason}"
    before = {"status": "open", "summary": found.summary}
    after = {"status": "resolved", "reason": reason, "by": by}
    mutation = Mutation("incidents", str(incident_id), summary, before, after)
    append_change(tx, "incident.resolve", {found.shop_id: [mutation]}, **author)
    return found
