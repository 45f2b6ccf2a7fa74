"""Definition of a periodic job, as listed in ``beat_schedule.JOBS``. Pure."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

START_WITHIN = timedelta(minutes=30)
"""A run that has not started so long after it was due did not run, also if its grace is longer."""

SHOP_ZONE, FLEET_ZONE = "shop", "fleet"
"""The zone of each shop, and the zone of ``FLEET_TIMEZONE``."""


class Covers(StrEnum):
    """The period that one run covers, with its format."""

    DAY = "day"
    """The day before: ``2026-11-20``."""
    WEEK = "week"
    """The week before, Monday to Sunday: ``2026-W47``."""
    MONTH = "month"
    """The month before: ``2026-10``."""
    MOMENT = "moment"
    """The time it was due, in UTC: ``2026-11-20T08:15:00Z``."""


class CatchUp(StrEnum):
    """The runs that are started for slots that passed while no beat was running."""

    SKIP = "skip"
    """A slot that is late by more than the grace is recorded as ``skipped``."""
    ONCE = "once"
    """One run, for the newest slot."""
    ALL = "all"
    """One run for each slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A periodic job. ``schedule`` has five cron fields; ``zone`` is a constant above or an IANA name.

    A job that is ``per_shop`` has one run for each shop and period, any other job one for the fleet.
    """

    name: str
    topic: str
    """The ``work_queue.topic`` and Celery task of its work."""
    title: str
    schedule: str
    zone: str = FLEET_ZONE
    per_shop: bool = False
    covers: Covers = Covers.DAY
    grace: timedelta = timedelta(minutes=30)
    """The incident "cron did not run" opens for a run that has not ended this long after it was due, or not
    started after ``START_WITHIN``."""
    catch_up: CatchUp = CatchUp.ONCE
    min_run: timedelta = timedelta(0)
    """A run shorter than this is unusual."""
    volume: str = ""
    """The figure of its stats that counts how much it did."""
    evidence: str = "job_runs"
    """Where a run is visible afterwards."""
