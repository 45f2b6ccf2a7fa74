"""Which day of a shop is over. Pure: the shop's zone and the moment decide."""

from datetime import UTC, date, datetime, time, timedelta, tzinfo


def find_due_day(zone: tzinfo, now: datetime) -> date:
    """Return the last day that is over in ``zone`` at ``now``: yesterday, by the clock on its wall."""
    return now.astimezone(zone).date() - timedelta(days=1)


def day_bounds(zone: tzinfo, day: date) -> tuple[datetime, datetime]:
    """Return when ``day`` begins in ``zone`` and when the next one does, in UTC.

    23 or 25 hours apart on the nights when clocks change. Where a midnight does not exist the day
    begins when the clock jumps; where it comes twice, with the first.
    """
    return _midnight(zone, day), _midnight(zone, day + timedelta(days=1))


def _midnight(zone: tzinfo, day: date) -> datetime:
    return datetime.combine(day, time.min, zone).astimezone(UTC)
