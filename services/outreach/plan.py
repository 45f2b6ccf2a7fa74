"""Decides for each person of an audience: which step goes out and when, or why none does. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from services.outreach.series import Series

NO_CONSENT, UNSUBSCRIBED, BOUNCED = "no_consent", "unsubscribed", "bounced"
CAPPED, RESERVED, TOO_LATE = "capped", "reserved", "too_late"
ALREADY_SENT, NOT_DUE = "already_sent", "not_due"
SKIP_REASONS = (NO_CONSENT, UNSUBSCRIBED, BOUNCED, CAPPED, RESERVED, TOO_LATE, ALREADY_SENT)
QUIET_FROM, QUIET_UNTIL = time(21), time(8)
"""No mail goes out in these hours of the person's zone; it waits for their end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonPlan:
    """What a person gets at ``starts_at`` (None: now), or the ``reason`` why not; ``late`` are lost steps."""

    person: Any
    step: str = ""
    reason: str = ""
    local_day: date
    starts_at: datetime | None = None
    late: tuple[str, ...] = ()


def plan_person(
    series: Series,
    person: Any,
    stops: Sequence[str],
    mails_per_day: int,
    shop_zone: str,
    now: datetime,
    before: Sequence[Series] = (),
) -> PersonPlan:
    """Return the plan of ``person``, a row of ``audience.read_people``.

    ``stops`` are the reasons for which mail to the address is suppressed; mails of the day are reserved for
    the due steps of the series ``before`` this one.
    """
    zone = load_zone(person.timezone or shop_zone)
    starts_at = find_start(now, zone)
    goes_at = starts_at or now
    found = series.find_step(person, person.steps, now, zone)
    day = goes_at.astimezone(zone).date()
    if not found.step:
        reason = NOT_DUE
    elif found.is_sent:
        reason = ALREADY_SENT
    else:
        reason = _find_stop(person, stops, goes_at)
        left = mails_per_day - sum(one == day for one in person.days)
        if not reason and left <= 0:
            reason = CAPPED
        elif not reason and before and left <= _count_due(before, person, goes_at, zone):
            reason = RESERVED
    return PersonPlan(
        person=person, step=found.step, reason=reason, local_day=day, starts_at=starts_at, late=found.late
    )


def _count_due(series: Sequence[Series], person: Any, at: datetime, zone: ZoneInfo) -> int:
    """Return how many of ``series`` have a step for the person on the day of ``at`` that has no row."""
    found = [one.find_step(person, person.steps_before.get(one.name, ()), at, zone) for one in series]
    return sum(bool(one.step) and not one.is_sent for one in found)


def _find_stop(person: Any, stops: Sequence[str], at: datetime) -> str:
    """Return why no commercial mail may go to the person at ``at``, or an empty text."""
    if UNSUBSCRIBED in stops:
        return UNSUBSCRIBED
    if stops:
        return BOUNCED
    if any(given <= at and (expires is None or expires > at) for given, expires in person.consents):
        return ""
    return UNSUBSCRIBED if person.has_withdrawn else NO_CONSENT


def find_start(now: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the end of the quiet hours that hold in ``zone`` at ``now``; None if none hold."""
    local = now.astimezone(zone)
    if QUIET_UNTIL <= local.time() < QUIET_FROM:
        return None
    day = local.date() + timedelta(days=1 if local.time() >= QUIET_FROM else 0)
    return datetime.combine(day, QUIET_UNTIL, zone).astimezone(UTC)


@lru_cache(maxsize=1024)
def load_zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def count_skipped(plans: Sequence[PersonPlan]) -> Mapping[str, int]:
    """Return how many people were skipped, by reason, and lost steps as ``too_late``."""
    counts: dict[str, int] = {}
    for one in plans:
        for reason in (*([one.reason] if one.reason else ()), *(TOO_LATE for _ in one.late)):
            if reason in SKIP_REASONS:
                counts[reason] = counts.get(reason, 0) + 1
    return counts
