"""What a periodic job is: one line of ``beat_schedule.JOBS``. Pure."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

SHOP_ZONE = "shop"
"""Each shop's own zone."""
FLEET_ZONE = "fleet"
"""The zone of ``FLEET_TIMEZONE``."""


class Covers(StrEnum):
    """What one run is about, and so what its period is called."""

    DAY = "day"
    """The day before: ``2026-11-20``."""
    WEEK = "week"
    """The week before, Monday to Sunday: ``2026-W47``."""
    MONTH = "month"
    """The month before: ``2026-10``."""
    MOMENT = "moment"
    """The moment it was due, in UTC: ``2026-11-20T08:15:00Z``."""


class CatchUp(StrEnum):
    """What becomes of slots that passed while nobody kept time."""

    SKIP = "skip"
    """Too late by more than the grace is too late: the slot is noted as ``skipped``."""
    ONCE = "once"
    """One run, for the newest of them."""
    ALL = "all"
    """One run for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """When something is done, and how one can tell that it was.

    ``schedule`` has five cron fields, read in ``zone``: ``shop``, ``fleet`` or an IANA name. A job
    that is ``per_shop`` has one run for each shop and period, another one for the fleet.
    """

    name: str
    topic: str
    """The Celery task and ``work_queue.topic`` that does it."""
    title: str
    schedule: str
    zone: str = FLEET_ZONE
    per_shop: bool = False
    covers: Covers = Covers.DAY
    grace: timedelta = timedelta(minutes=30)
    """No end by so much after it was due is the alert "cron did not run"."""
    catch_up: CatchUp = CatchUp.ONCE
    min_run: timedelta = timedelta(0)
    """An end sooner than this is suspicious."""
    volume: str = ""
    """The figure of its stats that says how much it did; empty: none does."""
    evidence: str = "job_runs"
    """Where a person sees that it ran."""
