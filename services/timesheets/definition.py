"""Definitions of reports: what a company gets, when, and who receives it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from services.accounts.emails import parse_email
from services.core.counts import format_count
from services.core.errors import InputInvalid, describe_unknown
from services.core.log_redaction import quote_value
from services.jobs.definition import Covers
from services.jobs.schedule import parse_schedule, period_bounds, period_of
from services.timesheets.hours import find_day
from services.timesheets.overtime import MONDAY, SUNDAY, OvertimeRule, get_rule
from services.timesheets.report_files import FORMATS
from services.timesheets.report_kinds import ReportKind, get_kind

WEEK_BEGINS = {"monday": MONDAY, "sunday": SUNDAY}
FILTERS = ("user_ids", "jobcode_ids", "group_ids")
_LONGEST_NAME = 80
_MOST_RECIPIENTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDefinition:
    """A scheduled report of the shop ``shop_id``. ``schedule`` has five cron fields in the company's zone.

    ``formats`` are files that the mail has besides its text. ``overtime`` is the name of a rule, and
    ``day_begins`` the local hour at which a day begins.
    """

    name: str
    kind: str
    schedule: str
    covers: Covers
    recipients: Sequence[str]
    formats: Sequence[str] = ()
    filters: Mapping[str, Sequence[int]] = field(default_factory=dict)
    overtime: str = "none"
    week_begins: str = "monday"
    day_begins: int = 0
    id: int = 0
    shop_id: int = 0
    paused_at: datetime | None = None
    changed_at: datetime | None = None

    @property
    def report_kind(self) -> ReportKind:
        return get_kind(self.kind)

    @property
    def rule(self) -> OvertimeRule:
        """The overtime rule, with this report's beginning of a week."""
        return replace(get_rule(self.overtime), week_begins=WEEK_BEGINS[self.week_begins])

    @property
    def _days_early(self) -> int:
        """By how many days a week begins before Monday."""
        return 1 if self.covers is Covers.WEEK and self.week_begins == "sunday" else 0

    def period_at(self, slot: datetime, zone: ZoneInfo) -> str:
        """Return the period of a run due at ``slot``: the newest one that is over in ``zone``."""
        if self.covers is Covers.MOMENT:
            return period_of(self.covers, slot, zone)
        today = self.today(slot, zone) + timedelta(days=self._days_early)
        return period_of(self.covers, datetime.combine(today, time(12), zone), zone)

    def today(self, now: datetime, zone: ZoneInfo) -> date:
        """Return the day that is not over at ``now``: it ends at the hour at which the next one begins."""
        return find_day(now, zone, self.day_begins)

    def days_of(self, period: str, zone: ZoneInfo) -> tuple[date, date]:
        """Return the first and last day of ``period``; of a live report both are the day it is made.

        The week ``2026-W47`` is Monday 16 to Sunday 22 November, or Sunday 15 to Saturday 21.
        """
        begins, ends = period_bounds(self.covers, period, zone)
        first = begins.astimezone(zone).date()
        if self.report_kind.is_live:
            return first, first
        last = (ends.astimezone(zone) - timedelta(microseconds=1)).date()
        early = timedelta(days=self._days_early)
        return first - early, last - early


def check_definition(given: ReportDefinition) -> ReportDefinition:
    """Return ``given`` in its stored form; raise ``InputInvalid`` that names the field and what is right."""
    name = " ".join(given.name.split())
    if not name or len(name) > _LONGEST_NAME:
        raise InputInvalid(f"name={quote_value(given.name)} should have 1 to {_LONGEST_NAME} characters")
    if not name.isprintable():
        raise InputInvalid(f"name={quote_value(given.name)} should have no control characters")
    kind = get_kind(given.kind)
    if kind.is_live != (given.covers is Covers.MOMENT):
        wanted = "moment" if kind.is_live else "day, week or month"
        raise InputInvalid(f"covers={given.covers} should be {wanted} for {kind.name}")
    rule = get_rule(given.overtime)
    if rule.weekly_hours and not kind.has_rates:
        raise InputInvalid(f"overtime={rule.name!r} should be none: {kind.name} has no hours by rate")
    if kind.has_rates and given.filters.get("jobcode_ids"):
        raise InputInvalid(
            f"jobcode_ids={list(given.filters['jobcode_ids'])} should be empty for {kind.name}: overtime is "
            "computed from all hours of a person"
        )
    if given.week_begins not in WEEK_BEGINS:
        raise InputInvalid(f"week_begins={describe_unknown(given.week_begins, WEEK_BEGINS)}")
    if unknown := [name for name in given.formats if name not in FORMATS]:
        raise InputInvalid(f"formats={describe_unknown(unknown[0], FORMATS)}")
    if not 0 <= given.day_begins <= 23:
        raise InputInvalid(f"day_begins={given.day_begins} should be an hour from 0 to 23")
    return replace(
        given,
        name=name,
        schedule=parse_schedule(given.schedule),
        recipients=parse_recipients(given.recipients),
        formats=sorted(set(given.formats)),
        filters={name: sorted(set(ids)) for name, ids in given.filters.items() if ids},
    )


def parse_recipients(given: Sequence[str]) -> list[str]:
    """Return 1 to 50 different mail addresses, sorted; raise ``InputInvalid``."""
    found = sorted({parse_email(text) for text in given})
    if not 1 <= len(found) <= _MOST_RECIPIENTS:
        raise InputInvalid(
            f"recipients: {format_count(len(found), 'address')}, should be 1 to {_MOST_RECIPIENTS}"
        )
    return found


def describe(definition: ReportDefinition) -> dict[str, Any]:
    """Return what people set, as the audit stores it."""
    return {
        "kind": definition.kind,
        "schedule": definition.schedule,
        "covers": str(definition.covers),
        "recipients": list(definition.recipients),
        "formats": list(definition.formats),
        "filters": {name: list(ids) for name, ids in definition.filters.items()},
        "overtime": definition.overtime,
        "week_begins": definition.week_begins,
        "day_begins": definition.day_begins,
        "is_paused": definition.paused_at is not None,
    }
