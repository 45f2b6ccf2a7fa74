"""The series of mails: one row for each in ``SERIES``. Pure."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from services.core.errors import InputInvalid, describe_unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesStep:
    """The step that is due for a person, and older ones that are too late for ever."""

    step: str = ""
    """Empty: no step is due."""
    is_sent: bool = False
    late: tuple[str, ...] = ()


FindStep = Callable[[Any, Collection[str], datetime, ZoneInfo], SeriesStep]
"""Takes a person, the steps that have a row, now, and the person's zone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A series of commercial mails, started by ``job``.

    ``audience`` is SQL on ``outreach_people p`` that excludes only people without a step at ``%(now)s``, and
    ``find_step`` decides for each of the others. If a person's mails of a day do not suffice, the series with
    the least ``priority`` goes first: the others leave a mail for each of its due steps.
    """

    name: str
    job: str
    priority: int
    about: str
    audience: str
    find_step: FindStep
    steps: tuple[str, ...] = ()
    """Its steps; empty: the step is a day."""


def find_reminder(person: Any, sent: Collection[str], now: datetime, zone: ZoneInfo) -> SeriesStep:
    """Return the step of today if the person was active neither today nor yesterday in their zone.

    The sign-up counts as activity.
    """
    today = now.astimezone(zone).date()
    active = max(at for at in (person.signed_up_at, person.last_active_at) if at is not None)
    if active.astimezone(zone).date() >= today - timedelta(days=1):
        return SeriesStep()
    step = today.isoformat()
    return SeriesStep(step=step, is_sent=step in sent)


FOUNDER_DAYS = 3
COUNTED_DAYS = 14
"""For so long after a sign-up the steps that were never sent are counted as too late."""


def find_founder_step(person: Any, sent: Collection[str], now: datetime, zone: ZoneInfo) -> SeriesStep:
    """Return the oldest step that has no row and is at most a day late; step N is due N days after sign-up.

    Days are those of the person's zone. A run sends one step, so that the steps after a missed run follow one
    a day.
    """
    days = count_days(person.signed_up_at, now, zone)
    due = [f"day{day}" for day in range(max(1, days - 1), min(days, FOUNDER_DAYS) + 1)]
    late = [f"day{day}" for day in range(1, min(days - 2, FOUNDER_DAYS) + 1)] if days <= COUNTED_DAYS else []
    unsent = [step for step in due if step not in sent]
    return SeriesStep(
        step=unsent[0] if unsent else (due[-1] if due and days <= FOUNDER_DAYS else ""),
        is_sent=not unsent and 1 <= days <= FOUNDER_DAYS,
        late=tuple(step for step in late if step not in sent),
    )


def count_days(begin: datetime, now: datetime, zone: ZoneInfo) -> int:
    """Return how many midnights of ``zone`` are between the two times."""
    first: date = begin.astimezone(zone).date()
    return (now.astimezone(zone).date() - first).days


_ALL = (
    Series(
        name="reminders",
        job="send-reminders",
        # The reminder of tomorrow replaces the one of today; a step is lost after a day.
        priority=2,
        about="people who signed up and were active neither today nor yesterday",
        # Yesterday begins at least 23 hours ago: a day in spring has 23.
        audience="""p.signed_up_at < %(now)s::timestamptz - interval '22 hours'
   and (p.last_active_at is null or p.last_active_at < %(now)s::timestamptz - interval '22 hours')""",
        find_step=find_reminder,
    ),
    Series(
        name="founder",
        job="founder-sequence",
        priority=1,
        about="people one, two and three days after their sign-up",
        audience=f"""p.signed_up_at < %(now)s::timestamptz
   and p.signed_up_at > %(now)s::timestamptz - interval '{COUNTED_DAYS + 2} days'""",
        find_step=find_founder_step,
        steps=tuple(f"day{day}" for day in range(1, FOUNDER_DAYS + 1)),
    ),
)
SERIES: Mapping[str, Series] = {one.name: one for one in _ALL}
BY_JOB: Mapping[str, Series] = {one.job: one for one in _ALL}


def list_series_before(series: Series) -> list[Series]:
    """Return the series whose mails go first where the mails of a day do not suffice."""
    return [one for one in _ALL if one.priority < series.priority]


def get_series(name: str) -> Series:
    """Return the series of that name or of that job; raise ``InputInvalid`` with the names that exist."""
    if found := SERIES.get(name) or BY_JOB.get(name):
        return found
    raise InputInvalid(f"kind={describe_unknown(name, SERIES)}")
