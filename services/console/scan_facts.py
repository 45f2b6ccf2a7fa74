"""What the morning scan knows about a shop, and the cells that it shows. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from services.costs.month import MonthCosts
from services.shops.connections import ConnectionState

RED, UNKNOWN, WARN, FINE = STATES = ("red", "unknown", "warn", "fine")
"""The worst first: somebody must act, figures are missing, somebody should act when there is time."""

RULES_LIMIT = timedelta(minutes=5)
"""Incidents are unknown if the rules were evaluated longer ago, or if beat was last seen longer ago."""

COLUMNS: Mapping[str, str] = {
    "requests": "5xx yesterday",
    "reconciliation": "Reconciliation",
    "audit": "Audit chain",
    "jobs": "Jobs",
    "ai": "AI",
    "sms": "SMS",
    "work": "Dead work",
    "connections": "Connections",
    "incidents": "Incidents",
}
"""Column -> heading. A shop has a cell in each of them."""


class Cell(NamedTuple):
    """What one column shows of a shop. ``since`` is when that began, or of when the figure is."""

    column: str
    state: str
    text: str
    since: datetime | None
    url: str


class OpenIncident(NamedTuple):
    """An open incident; ``is_quiet`` while a person has snoozed it."""

    id: int
    rule: str
    severity: str
    summary: str
    opened_at: datetime
    is_quiet: bool

    @property
    def state(self) -> str:
        return RED if self.severity in ("P1", "P2") and not self.is_quiet else WARN


class BadRun(NamedTuple):
    """A run that failed, or (``is_late``) did not start or end in time."""

    name: str
    is_late: bool
    since: datetime


class Night(NamedTuple):
    """The nightly run that closes the day: ``day`` is the last one that must be closed; None: none yet."""

    day: date | None
    next_due_at: datetime | None
    enabled: bool = True


class Sources(NamedTuple):
    """Of when the figures are that have no time of their own; None: there never were any.

    ``is_cut``: there are too many open incidents to read them all.
    """

    rules_at: datetime | None
    beat_at: datetime | None
    is_cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopFacts:
    """What the scan knows about a shop. ``last_run`` is ``shop_config.last_daily_run``."""

    shop_id: int
    slug: str
    name: str
    timezone: str
    night: Night
    last_run: Mapping[str, Any] | None = None
    has_token: bool = True
    has_catalogue: bool = True
    dead: int = 0
    dead_since: datetime | None = None
    connections: Sequence[ConnectionState] = ()
    bad_runs: Sequence[BadRun] = ()
    costs: Mapping[str, MonthCosts] = field(default_factory=dict)
    incidents: Sequence[OpenIncident] = ()


class ShopScan(NamedTuple):
    """A shop's line. ``slug`` is empty for the fleet itself, which has only some of the cells."""

    shop_id: int
    slug: str
    name: str
    timezone: str
    state: str
    cells: Mapping[str, Cell]


@lru_cache(maxsize=8)
def describe_missing(sources: Sources, now: datetime) -> str:
    """Return why nothing can be called fine; empty if the figures are recent."""
    for at, about in (
        (sources.rules_at, "the alert rules were evaluated"),
        (sources.beat_at, "beat was seen"),
    ):
        if at is None:
            return f"{about.replace('were', 'were never').replace('was', 'was never')}: is beat running?"
        if now - at > RULES_LIMIT:
            return f"{about} {(now - at) // timedelta(minutes=1)} min ago: is beat running?"
    return ""
