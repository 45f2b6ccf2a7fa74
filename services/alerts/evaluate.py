"""Compares figures with the rules; opens and resolves incidents."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from services.alerts.decide import AlertState, Change, decide
from services.alerts.figures import CollectFigures, Figure, Figures, collect_each, limit_time
from services.alerts.incidents import (
    Incident,
    Recovery,
    record_incidents,
    resolve_incident,
    resolve_incidents,
    update_facts,
)
from services.alerts.recorded_rules import NOT_EVALUATED
from services.alerts.rule import FigureRule
from services.alerts.rules import FIGURE_RULES
from services.alerts.states import (
    RuleTotals,
    StateKey,
    load_states,
    record_computed,
    record_known,
    save_states,
)
from services.alerts.tables import rule_evaluations
from services.alerts.thresholds import Thresholds, load_thresholds
from services.core.locks import lock_objects
from services.core.times import format_time
from services.ledger.work import FLEET
from services.mail.formatting import span

EVERY = timedelta(seconds=25)
NOT_COMPUTED = "rule_not_computed"


class AlertChange(NamedTuple):
    """A change of one rule for one shop and subject. ``figure`` is zero if there is nothing to count."""

    key: StateKey
    change: Change
    opened_at: datetime
    figure: Figure
    threshold: float
    set_by: str = ""
    """Who set the threshold and why, if that is since the evaluation before."""


def check_rules(tx: Connection, collectors: Sequence[CollectFigures], now: datetime) -> list[AlertChange]:
    """Collect all figures and evaluate the rules, unless that was done less than ``EVERY`` ago.

    A rule whose figures take too long (``limit_time``) has none.
    """
    # Beat and each monitor thread call this; the lock is for the states, which are read and then written.
    lock_objects(tx, [(FLEET, "alert-rules")])
    at = rule_evaluations.c.computed_at
    # A later time is of a clock that was wrong.
    last = tx.execute(select(func.max(at)).where(at < now + EVERY)).scalar()
    if last is not None and now - last < EVERY:
        return []
    resolve_incident(tx, None, NOT_EVALUATED, None, now, "Rules are evaluated again.")
    record_known(tx, FIGURE_RULES.keys() - {NOT_COMPUTED}, now)
    with limit_time(tx):
        figures = collect_each(tx, {f"{one.__module__}.{one.__qualname__}": one for one in collectors}, now)
    return evaluate_rules(tx, figures, now)


def evaluate_rules(tx: Connection, figures: Figures, now: datetime) -> list[AlertChange]:
    """Bring every rule to the state that ``figures`` require; return the changes.

    An open incident states the current figure while that is beyond its limit, also without a change. A rule
    without figures keeps its state; after ``rule_not_computed``'s time it has an incident.
    """
    thresholds = load_thresholds(tx)
    rules = [rule for name, rule in FIGURE_RULES.items() if name in figures]
    totals = {rule.name: _sum_up(rule, figures[rule.name], thresholds) for rule in rules}
    computed = record_computed(tx, totals, now)
    figures = {**figures, NOT_COMPUTED: list(_find_not_computed(figures, computed, now))}
    before = load_states(tx)
    after: dict[StateKey, AlertState] = {}
    changes, current = [], []
    for key, figure in _list_pairs(figures, before):
        rule = FIGURE_RULES[key.rule]
        state = before.get(key, AlertState())
        value = None if figure is None else figure.value
        threshold = thresholds.find(rule, key.shop_id)
        setting = thresholds.find_change(rule, key.shop_id, state.opened_at and state.evaluated_at)
        after[key], change = decide(rule, threshold, value, state, now, is_limit_new=setting is not None)
        if change:
            opened_at = after[key].opened_at or state.opened_at or now
            by = f", which {setting.by} set: {setting.reason}" if setting else ""
            changes.append(AlertChange(key, change, opened_at, figure or Figure(0.0), threshold, by))
        elif figure and after[key].opened_at and not after[key].turned_at:
            current.append(_make_incident(key, state.opened_at or now, figure, threshold))
    save_states(tx, after)
    update_facts(tx, current, now)
    _record(tx, changes, now)
    return changes


def _sum_up(rule: FigureRule, figures: Sequence[Figure], thresholds: Thresholds) -> RuleTotals:
    beyond = {one.shop_id for one in figures if rule.is_beyond(one.value, thresholds.find(rule, one.shop_id))}
    return RuleTotals(sum(one.value for one in figures), len(beyond))


def _find_not_computed(figures: Figures, computed: Mapping[str, datetime], now: datetime) -> Iterator[Figure]:
    for name in FIGURE_RULES.keys() - figures.keys() - {NOT_COMPUTED}:
        if since := computed.get(name):
            yield Figure((now - since) / timedelta(minutes=1), subject=name, detail={"subject": name})


def _list_pairs(
    figures: Figures, states: Mapping[StateKey, AlertState]
) -> Iterator[tuple[StateKey, Figure | None]]:
    """Return each figure with its key, and each state whose rule was computed without such a figure."""
    found = {
        StateKey(rule, one.shop_id, one.subject): one
        for rule, ones in figures.items()
        if rule in FIGURE_RULES
        for one in ones
    }
    yield from found.items()
    for key in states.keys() - found.keys():
        if key.rule in figures:
            yield key, None


def _record(tx: Connection, changes: list[AlertChange], now: datetime) -> None:
    active = [
        _make_incident(one.key, one.opened_at, one.figure, one.threshold)
        for one in changes
        if one.change is not Change.RECOVERED
    ]
    record_incidents(tx, active, now)
    over = [one for one in changes if one.change is Change.RECOVERED]
    resolve_incidents(tx, [_make_recovery(one, now) for one in over], now)


def _make_incident(key: StateKey, opened_at: datetime, figure: Figure, threshold: float) -> Incident:
    return Incident(
        key.shop_id if key.shop_id != FLEET else None,
        format_rule(key),
        format_period(opened_at),
        _find_severity(key, figure),
        describe(FIGURE_RULES[key.rule], threshold, figure),
        {**figure.detail, "value": figure.value, "limit": threshold},
    )


def _make_recovery(change: AlertChange, now: datetime) -> Recovery:
    """Return the end of an incident: how long it lasted, and the figure now if there is one."""
    key, figure, rule = change.key, change.figure, FIGURE_RULES[change.key.rule]
    is_known = bool(figure.detail) or figure.value != 0
    value = (
        f", now {figure.value:.4g} {rule.unit} (limit {change.threshold:g}{change.set_by})"
        if is_known
        else ""
    )
    how = f"Recovered after {span(now - change.opened_at)}{value}."
    return Recovery(key.shop_id or None, format_rule(key), format_period(change.opened_at), how)


def _find_severity(key: StateKey, figure: Figure) -> str:
    """Return the severity of an incident; that of a blind P1 rule is P2, so that a mail says so."""
    is_blind_p1 = key.rule == NOT_COMPUTED and FIGURE_RULES[key.subject].severity == "P1"
    return "P2" if is_blind_p1 else FIGURE_RULES[key.rule].find_severity(figure.value)


def describe(rule: FigureRule, threshold: float, figure: Figure) -> str:
    """Return the summary of an incident of ``rule``."""
    detail = {
        name: format_time(value) if isinstance(value, datetime) else value
        for name, value in figure.detail.items()
    }
    facts: dict[str, Any] = {"value": figure.value, "limit": threshold, **detail}
    return rule.summary.format_map(facts)


def format_rule(key: StateKey) -> str:
    """Return the ``rule`` of the incident: ``backlog_growing:inventory_push``."""
    return f"{key.rule}:{key.subject}" if key.subject else key.rule


def format_period(opened_at: datetime) -> str:
    """Return the ``period`` of an incident that opened at this time."""
    return f"{opened_at:%Y-%m-%dT%H:%M:%SZ}"
