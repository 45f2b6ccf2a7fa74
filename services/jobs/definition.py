"""What a periodic job is: one line of ``beat_schedule.JOBS``. Pure."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

SHOP_ZONE = "shop"
"""Each shop's own zone."""
FLEET_ZONE = "fleet"
"""The zone of ``FLEET_TIMEZONE``."""


class Covers(StrEnum):
    """What one run is about, with the form of its period."""

    DAY = "day"
    """The day before: ``2026-11-20``."""
    WEEK = "week"
    """The week before, Monday to Sunday: ``2026-W47``."""
    MONTH = "month"
    """The month before: ``2026-10``."""
    MOMENT = "moment"
    """The moment it was due, in UTC: ``2026-11-20T08:15:00Z``."""


class CatchUp(StrEnum):
    """What happens to slots that passed while no beat was running."""

    SKIP = "skip"
    """A slot that is late by more than the grace is recorded as ``skipped``."""
    ONCE = "once"
    """One run, for the newest slot."""
    ALL = "all"
    """One run for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A periodic job. ``schedule`` has five cron fields, read in ``zone`` (or an IANA name).

    A job that is ``per_shop`` has one run for each shop and period, any other one for the fleet.
    """

    name: str
    topic: str
    """The ``work_queue.topic`` (and Celery task) that does it."""
    title: str
    schedule: str
    zone: str = FLEET_ZONE
    per_shop: bool = False
    covers: Covers = Covers.DAY
    grace: timedelta = timedelta(minutes=30)
    """Without an end so long after it was due, the incident "cron did not run" opens."""
    catch_up: CatchUp = CatchUp.ONCE
    min_run: timedelta = timedelta(0)
    """A run shorter than this is unusual."""
    volume: str = ""
    """The figure of its stats that counts how much it did; empty: none."""
    evidence: str = "job_runs"
    """Where a person sees that it ran."""
