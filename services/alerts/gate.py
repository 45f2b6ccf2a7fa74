"""The deploy gate: whether one may deploy now, and opening it for the fix of an incident."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Unpack

from sqlalchemy import Connection

from services.alerts.incidents import Incident, get_incident, list_open_incidents, record_incidents
from services.alerts.people import record_action, require_text, resolve_by_person
from services.audit.append import Author, Mutation, append_change
from services.core.errors import InputInvalid, ShopfleetError

OPEN_FOR = timedelta(hours=2)
RESTORE_RULE = "restore_running"
CHAIN_RULE = "audit_chain_failed"
OPENED = "gate_opened"
"""The kind of a timeline's entry; its ``detail`` has ``until``."""

_LIMIT_TIME = "set local statement_timeout = '5s'"
# While pg_restore runs, the tables may not exist.
_IS_RESTORED = """
select pg_is_in_recovery() or exists (
  select from pg_stat_activity where datname = current_database() and application_name = 'pg_restore')
"""
_FIND_CLOSING = """
select i.id, i.rule, i.severity, i.opened_at, i.summary, coalesce(s.slug, 'fleet') as shop
  from incidents i left join shops s on s.id = i.shop_id
 where i.status = 'open' and (i.severity = 'P1' or i.rule = any(%(rules)s::text[]))
   and not exists (
     select from incident_entries e
      where e.incident_id = i.id and e.kind = %(opened)s
          and e.at >= coalesce(greatest(i.reopened_at, i.worsened_at), e.at)
        and (e.detail ->> 'until')::timestamptz > %(now)s)
 order by i.severity, i.id
"""
_CODES = {CHAIN_RULE: "audit_chain_broken", RESTORE_RULE: "restore_running"}
_IS_OWNER = """
select pg_has_role(current_user, relowner, 'usage') from pg_class where oid = 'audit_events'::regclass
"""


class GateReason(NamedTuple):
    """Why the gate is closed. ``code`` is ``audit_chain_broken``, ``p1_open`` or ``restore_running``."""

    code: str
    detail: str
    incident: int | None = None


def list_gate_reasons(tx: Connection, now: datetime) -> list[GateReason]:
    """Return why the gate is closed at ``now``; it is open if there is no reason.

    An incident that the gate was opened for is no reason until the opening ends, or it opens again
    or gets worse.
    """
    tx.exec_driver_sql(_LIMIT_TIME)
    if tx.exec_driver_sql(_IS_RESTORED).scalar():
        return [GateReason("restore_running", "pg_restore writes to the database, or it is in recovery")]
    values = {"now": now, "rules": [*_CODES], "opened": OPENED}
    return [
        GateReason(
            _CODES.get(row.rule, "p1_open"),
            f"incident {row.id} ({row.severity}, {row.rule}, {row.shop}) is open since "
            f"{row.opened_at:%Y-%m-%d %H:%M} UTC: {row.summary}",
            row.id,
        )
        for row in tx.exec_driver_sql(_FIND_CLOSING, values)
    ]


def open_gate(tx: Connection, incident_id: int, **author: Unpack[Author]) -> datetime:
    """Open the gate for the fix of an incident, for ``OPEN_FOR``; return until when.

    Raises ``InputInvalid`` for an incident that does not close the gate and for an empty reason, and
    ``ShopfleetError`` for a broken chain unless ``tx`` has the role that owns the audit's tables.
    """
    found = get_incident(tx, incident_id)
    if found.rule == RESTORE_RULE:
        raise InputInvalid(
            f"incident {incident_id} is a restore: `fleet gate --database-restore done` ends it"
        )
    if found.severity != "P1" and found.rule not in _CODES:
        raise InputInvalid(f"incident {incident_id} is a {found.severity}, which does not close the gate")
    if found.rule == CHAIN_RULE and not tx.exec_driver_sql(_IS_OWNER).scalar():
        raise ShopfleetError(
            f"incident {incident_id} is a broken audit chain: only the owner of the tables opens the gate "
            "for it. Run the command with MIGRATE_DATABASE_URL of the owner's role"
        )
    until = author["now"] + OPEN_FOR
    record_action(tx, incident_id, OPENED, author.get("reason", ""), {"until": until.isoformat()}, **author)
    return until


def start_restore(tx: Connection, **author: Unpack[Author]) -> None:
    """Record that a restore is running; raise ``ShopfleetError`` if that is recorded already."""
    why, now = (
        require_text(author.get("reason", ""), "reason", "it should say what is restored"),
        author["now"],
    )
    if open_ones := list_open_incidents(tx, RESTORE_RULE):
        raise ShopfleetError(f"incident {open_ones[0].id} says already that a restore is running")
    summary = f"a restore is running: {why}"
    period = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    record_incidents(tx, [Incident(None, RESTORE_RULE, period, "P2", summary)], now)
    mutation = Mutation("incidents", period, summary, None, {"rule": RESTORE_RULE, "status": "open"})
    append_change(tx, "gate.restore", {None: [mutation]}, **author)


def end_restore(tx: Connection, **author: Unpack[Author]) -> Sequence[int]:
    """Resolve the incidents of running restores; raise ``ShopfleetError`` if there is none."""
    ids = [one.id for one in list_open_incidents(tx, RESTORE_RULE)]
    if not ids:
        raise ShopfleetError("no restore is recorded as running: nothing was changed")
    for incident_id in ids:
        resolve_by_person(tx, incident_id, **author)
    return ids
