"""The state of a rule for one shop and subject, and how a figure changes it. Pure."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from services.alerts.rule import FigureRule

WORSE_FACTOR = 2.0
"""An open incident has worsened when its figure is this many times the one that people were notified of."""
LEAST_DROP = 1.0
"""A figure of days that remain has worsened when it is half as long, and by a day: at most once a day."""
LONGEST_GAP = timedelta(minutes=5)
"""After a longer time without an evaluation nothing is known about the time between."""


class Change(StrEnum):
    """What people are notified of."""

    OPENED = "opened"
    WORSENED = "worsened"
    REPEATED = "repeated"
    """Nobody acknowledged a P1."""
    ESCALATED = "escalated"
    """A P1 is open for long, or two actions failed."""
    REMINDED = "reminded"
    """The person who acknowledged a P1 wrote no note for long."""
    NOTED = "noted"
    """A person posted a note."""
    TEST = "test"
    """Not of an incident: ``fleet alerts test``."""
    RECOVERED = "recovered"


class AlertState(NamedTuple):
    """A rule's state for one shop and subject. ``opened_at`` is None while no incident is open.

    ``turned_at``: since when the figure is beyond the threshold (not open) or back below it (open).
    """

    opened_at: datetime | None = None
    turned_at: datetime | None = None
    notified_value: float = 0.0
    evaluated_at: datetime | None = None

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to remember."""
        return self.opened_at is None and self.turned_at is None


def decide(
    rule: FigureRule,
    threshold: float,
    value: float | None,
    state: AlertState,
    now: datetime,
    *,
    is_limit_new: bool = False,
) -> tuple[AlertState, Change | None]:
    """Return the next state, and the change to tell. ``value`` None: the figure has nothing to count.

    It opens after ``rule.lasts`` beyond ``threshold`` without a break, and recovers after ``rule.clears``. It
    recovers at once if a person set the threshold since the evaluation before (``is_limit_new``).
    """
    is_beyond = value is not None and rule.is_beyond(value, threshold)
    is_gap = state.evaluated_at is not None and abs(now - state.evaluated_at) > LONGEST_GAP
    is_open = state.opened_at is not None
    if is_beyond == is_open:  # as before: open and beyond, or neither
        kept = state._replace(turned_at=None, evaluated_at=now)
        if is_open and value is not None and _is_worse(rule, value, state.notified_value):
            return kept._replace(notified_value=value), Change.WORSENED
        return kept, None
    turned_at = now if state.turned_at is None or is_gap else state.turned_at
    is_decided = is_open and is_limit_new and value is not None
    if now - turned_at < (rule.clears if is_open else rule.lasts) and not is_decided:
        return state._replace(turned_at=turned_at, evaluated_at=now), None
    if is_open:
        return AlertState(evaluated_at=now), Change.RECOVERED
    return AlertState(opened_at=now, notified_value=value or 0.0, evaluated_at=now), Change.OPENED


def _is_worse(rule: FigureRule, value: float, notified: float) -> bool:
    if notified <= 0:  # its time has ended, and the figure falls for ever
        return False
    if rule.is_least:
        return value <= 0 or (value * WORSE_FACTOR <= notified and notified - value >= LEAST_DROP)
    return value >= notified * WORSE_FACTOR or rule.find_severity(value) < rule.find_severity(notified)
