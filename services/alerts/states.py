"""The states of rules in the database, read and written as a whole."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from services.alerts.decide import AlertState
from services.alerts.rules import FIGURE_RULES, RULES
from services.alerts.tables import alert_states, rule_evaluations
from services.core.pg_arrays import encode_rows, upsert_rows

EVALUATION_LIMIT = timedelta(minutes=FIGURE_RULES["rule_not_computed"].threshold)

_DELETE = """
delete from alert_states s
 using unnest(%(rule)s::text[], %(shop_id)s::int[], %(subject)s::text[]) as v(rule, shop_id, subject)
 where (s.rule, s.shop_id, s.subject) = (v.rule, v.shop_id, v.subject)
"""


class StateKey(NamedTuple):
    """What a state belongs to. ``shop_id`` 0 is the fleet."""

    rule: str
    shop_id: int
    subject: str


def load_states(tx: Connection) -> dict[StateKey, AlertState]:
    """Return every state that is not idle."""
    wanted = select(*(alert_states.c[name] for name in (*StateKey._fields, *AlertState._fields)))
    return {
        StateKey(row.rule, row.shop_id, row.subject): AlertState(
            row.opened_at, row.turned_at, row.notified_value, row.evaluated_at
        )
        for row in tx.execute(wanted)
    }


def save_states(tx: Connection, states: Mapping[StateKey, AlertState]) -> None:
    """Write each state; delete idle ones."""
    kept = {key: state for key, state in states.items() if not state.is_idle}
    if kept:
        names = (*StateKey._fields, *AlertState._fields)
        rows = zip(*((*key, *state) for key, state in kept.items()), strict=True)
        upsert_rows(tx, alert_states, dict(zip(names, map(list, rows), strict=True)))
    if idle := states.keys() - kept.keys():
        tx.exec_driver_sql(_DELETE, encode_rows(alert_states, StateKey._fields, idle))


class LastEvaluation(NamedTuple):
    """When rules were evaluated last; ``at`` None: never. ``is_recent``: so recently that P1s are known."""

    at: datetime | None
    is_recent: bool


def find_last_evaluation(tx: Connection, now: datetime) -> LastEvaluation:
    """Return when any rule last had figures. A later time than ``now`` is of a clock that was wrong."""
    at = tx.execute(select(func.max(rule_evaluations.c.computed_at))).scalar()
    return LastEvaluation(at, at is not None and now - EVALUATION_LIMIT <= at <= now + EVALUATION_LIMIT)


BEYOND_LINES = """
select i.id from alert_states s join incidents i
    on i.rule = s.rule || case when s.subject = '' then '' else ':' || s.subject end
   and i.shop_id is not distinct from nullif(s.shop_id, 0)
   and i.period = to_char(s.opened_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
   and (i.status = 'open' or i.resolved_by is not null)
 where s.opened_at is not null and s.turned_at is null
"""
"""SQL: the incidents whose figure was beyond its limit at the last evaluation."""

_IS_BEYOND = f"select exists (select from ({BEYOND_LINES}) beyond where id = %(id)s)"  # noqa: S608 - constants only


def is_still_beyond(tx: Connection, incident_id: int) -> bool:
    """Return whether the figure of the incident was beyond its limit at the last evaluation."""
    return bool(tx.exec_driver_sql(_IS_BEYOND, {"id": incident_id}).scalar())


_RECORD_KNOWN = """
insert into rule_evaluations as e (rule, computed_at)
select rule, %(now)s from unnest(%(rule)s::text[]) as v(rule) order by rule
on conflict (rule) do update set computed_at = excluded.computed_at where e.computed_at > excluded.computed_at
"""
_COUNT_OPEN = "select split_part(rule, ':', 1), count(*) from incidents where status = 'open' group by 1"


class RuleTotals(NamedTuple):
    """The figures of one rule: their sum, and the shops that are beyond the threshold (the fleet is one)."""

    value: float
    shops_beyond: int


def record_known(tx: Connection, rules: Collection[str], now: datetime) -> None:
    """Record each of ``rules`` that was never computed, or after ``now``, as if it was computed ``now``."""
    tx.exec_driver_sql(_RECORD_KNOWN, {"rule": sorted(rules), "now": now})


def record_computed(tx: Connection, totals: Mapping[str, RuleTotals], now: datetime) -> dict[str, datetime]:
    """Record the totals of rules that had figures at ``now``; return when each rule last had."""
    if totals:
        rules = sorted(totals)
        values, beyond = zip(*(totals[rule] for rule in rules), strict=True)
        rows: dict[str, Sequence[object]] = {"rule": rules, "computed_at": [now] * len(rules)}
        upsert_rows(tx, rule_evaluations, rows | {"value": values, "shops_beyond": beyond})
    return {row.rule: row.computed_at for row in tx.execute(select(rule_evaluations))}


class RuleStatus(NamedTuple):
    """The last evaluation of a rule (None for one that is recorded), and how many incidents are open."""

    computed_at: datetime | None = None
    value: float | None = None
    shops_beyond: int | None = None
    incidents_open: int = 0


def list_rule_status(tx: Connection) -> dict[str, RuleStatus]:
    """Return the status of every rule in ``RULES``. Reads only open incidents, by their index."""
    found = dict.fromkeys(RULES, RuleStatus())
    for row in tx.execute(select(rule_evaluations)):
        if row.rule in found:
            found[row.rule] = RuleStatus(row.computed_at, row.value, row.shops_beyond)
    for rule, count in tx.exec_driver_sql(_COUNT_OPEN):
        if rule in found:
            found[rule] = found[rule]._replace(incidents_open=count)
    return found
