"""The deploy gate: whether one may deploy now, and opening it for the fix of an incident."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple, Unpack

from sqlalchemy import Connection

from services.alerts.incidents import Incident, get_incident, list_open_incidents, record_incidents
from services.alerts.people import (
    find_chains_of,
    record_action,
    require_owner,
    require_text,
    resolve_by_person,
)
from services.alerts.recorded_rules import AUDIT_FAILED, NOT_EVALUATED
from services.alerts.states import BEYOND_LINES, find_last_evaluation
from services.audit.append import Author, Mutation, append_change
from services.audit.verifications import list_broken, open_chain
from services.core.errors import InputInvalid, NothingToDo, ShopfleetError
from services.core.times import format_time

OPEN_FOR = timedelta(hours=2)
RESTORE_RULE = "restore_running"
OPENED = "gate_opened"
"""The kind of a timeline's entry; its ``detail`` has ``until``."""

_LIMIT_TIME = "set local statement_timeout = '5s'"
# While pg_restore runs, the tables may not exist.
_IS_RESTORED = """
select pg_is_in_recovery() or exists (
  select from pg_stat_activity where datname = current_database() and application_name = 'pg_restore')
"""
# Broken chains are not read from here: the application's role can change incidents.
_FIND_CLOSING = f"""
select i.id, i.rule, i.severity, i.opened_at, i.summary, i.resolved_by, coalesce(s.slug, 'fleet') as shop,
       e.until, e.by, e.text
  from incidents i left join shops s on s.id = i.shop_id
  left join lateral (
    select (o.detail ->> 'until')::timestamptz as until, o.by, o.text from incident_entries o
     where o.incident_id = i.id and o.kind = %(opened)s
       and o.at >= coalesce(greatest(i.reopened_at, i.worsened_at), o.at)
     order by o.id desc limit 1) e on true
 where i.id in (select id from incidents where status = 'open' union all {BEYOND_LINES})
   and (i.severity = 'P1' and i.rule <> %(chain)s or i.status = 'open' and i.rule = %(restore)s)
 order by i.severity, i.id
"""  # noqa: S608 - constants only
_FIND_CHAIN_INCIDENT = """
select id from incidents where rule = %(chain)s and shop_id is not distinct from %(shop_id)s::int
 order by status = 'open' desc, id desc limit 1
"""


class GateReason(NamedTuple):
    """Why the gate is closed.

    ``code`` is ``audit_chain_broken``, ``p1_open``, ``restore_running`` or ``rules_not_evaluated``.
    """

    code: str
    detail: str
    incident: int | None = None


class GateOpening(NamedTuple):
    """The gate is open for an incident that would close it."""

    incident: int | None
    until: datetime
    by: str
    reason: str

    def to_document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return self._asdict() | {"until": f"{self.until:%Y-%m-%dT%H:%M:%SZ}"}

    def __str__(self) -> str:
        incident = f"incident {self.incident}" if self.incident else "a broken audit chain"
        return f"open until {format_time(self.until)} for {incident} (by {self.by}: {self.reason})"


class GateState(NamedTuple):
    """The gate is open if there is no reason; ``openings`` are those in force.

    ``evaluated_at``: when rules were evaluated last; None: never, as before the first start, or not known.
    """

    reasons: Sequence[GateReason]
    openings: Sequence[GateOpening] = ()
    evaluated_at: datetime | None = None


def read_gate(tx: Connection, now: datetime) -> GateState:
    """Return why the gate is closed at ``now``, and which openings are in force.

    An incident that the gate was opened for is no reason until the opening ends, or it opens again
    or gets worse.
    """
    tx.exec_driver_sql(_LIMIT_TIME)
    if tx.exec_driver_sql(_IS_RESTORED).scalar():
        return GateState(
            [GateReason("restore_running", "pg_restore writes to the database, or it is in recovery")]
        )
    closing = [*_list_chains(tx, now), *_list_incidents(tx, now)]
    last = find_last_evaluation(tx, now)
    if last.at and not last.is_recent and all(one.code != NOT_EVALUATED for one, _ in closing):
        closing.append((_describe_not_evaluated(last.at), None))
    return GateState(
        [reason for reason, opening in closing if opening is None],
        [opening for _, opening in closing if opening is not None],
        last.at,
    )


def _describe_not_evaluated(at: datetime) -> GateReason:
    return GateReason(
        NOT_EVALUATED,
        f"rules were not evaluated since {format_time(at)}, so no P1 is known: start beat or the console",
    )


def _list_chains(tx: Connection, now: datetime) -> Iterator[tuple[GateReason, GateOpening | None]]:
    """Return a reason for each broken chain, and its opening if all its findings have one."""
    for shop_id, group in groupby(list_broken(tx), lambda row: row.shop_id):
        rows = list(group)
        closed = [row for row in rows if row.open_until is None or row.open_until <= now]
        values = {"chain": AUDIT_FAILED, "shop_id": shop_id}
        incident = tx.exec_driver_sql(_FIND_CHAIN_INCIDENT, values).scalar()
        first = (closed or rows)[0]
        name = f"incident {incident}" if incident else "a deleted incident"
        how = f"the owner of the tables resolves it (`fleet audit resolve {first.shop}`)"
        if first.resolved_at:
            how = f"a verification finds it no more; {first.decided_by} resolved it: {first.decided_reason}"
        yield (
            GateReason(
                "audit_chain_broken",
                f"{name} ({first.shop}), found {format_time(first.at)}: {first.finding}. "
                f"It closes the gate until {how}",
                incident,
            ),
            None
            if closed
            else GateOpening(incident, first.open_until, first.decided_by, first.decided_reason),
        )


def _list_incidents(tx: Connection, now: datetime) -> Iterator[tuple[GateReason, GateOpening | None]]:
    """Return a reason for each P1 and restore, and its opening if there is one."""
    values = {"chain": AUDIT_FAILED, "restore": RESTORE_RULE, "opened": OPENED}
    for row in tx.exec_driver_sql(_FIND_CLOSING, values):
        state = (
            f"was resolved by {row.resolved_by}, but its figure is still beyond the limit"
            if row.resolved_by
            else f"is open since {format_time(row.opened_at)}"
        )
        yield (
            GateReason(
                row.rule if row.rule in (RESTORE_RULE, NOT_EVALUATED) else "p1_open",
                f"incident {row.id} ({row.severity}, {row.rule}, {row.shop}) {state}: {row.summary}",
                row.id,
            ),
            GateOpening(row.id, row.until, row.by, row.text) if row.until and row.until > now else None,
        )


def open_gate(tx: Connection, incident_id: int, **author: Unpack[Author]) -> datetime:
    """Open the gate for the fix of an incident, for ``OPEN_FOR``; return until when.

    Raises ``InputInvalid`` for an incident that does not close the gate and for an empty reason, and
    ``ShopfleetError`` for one that does not close it any more, and for a broken chain unless ``tx`` has the
    role that owns the tables.
    """
    found, now = get_incident(tx, incident_id), author["now"]
    is_chain = found.rule == AUDIT_FAILED
    if found.rule == RESTORE_RULE:
        raise InputInvalid(
            f"incident {incident_id} is a restore: `fleet gate --database-restore done` ends it"
        )
    if found.severity != "P1" and not is_chain:
        raise InputInvalid(f"incident {incident_id} is a {found.severity}, which does not close the gate")
    if is_chain:
        require_owner(tx, f"incident {incident_id} is a broken audit chain", "opens the gate for it")
    chains = find_chains_of(tx, found) if is_chain else frozenset()
    if not chains and incident_id not in {reason.incident for reason, _ in _list_incidents(tx, now)}:
        raise ShopfleetError(f"incident {incident_id} does not close the gate any more: nothing was changed")
    until, why = now + OPEN_FOR, author.get("reason", "")
    record_action(tx, incident_id, OPENED, why, {"until": until.isoformat()}, **author)
    for shop_id in chains:
        open_chain(tx, shop_id, until, by=author["by"], reason=why.strip())
    return until


def record_not_evaluated(tx: Connection, now: datetime) -> int:
    """Record that no rule is evaluated, so that the gate can be opened for the fix; return the incident's id.

    The next evaluation resolves it. Raises ``ShopfleetError`` if rules are evaluated, or never were.
    """
    last = find_last_evaluation(tx, now)
    if last.at is None or last.is_recent:
        raise ShopfleetError("this does not close the gate: nothing was changed")
    summary = _describe_not_evaluated(last.at).detail
    record_incidents(tx, [Incident(None, NOT_EVALUATED, f"{last.at:%Y-%m-%dT%H:%M:%SZ}", "P1", summary)], now)
    return int(list_open_incidents(tx, NOT_EVALUATED)[-1].id)


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
    """Resolve the incidents of running restores; raise ``NothingToDo`` if there is none."""
    ids = [one.id for one in list_open_incidents(tx, RESTORE_RULE)]
    if not ids:
        raise NothingToDo("no restore is recorded as running: nothing was changed")
    for incident_id in ids:
        resolve_by_person(tx, incident_id, **author)
    return ids
