"""The one place that asks what time it is. Below the edges, ``now`` is an argument."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the present moment, aware, in UTC."""
    return datetime.now(UTC)
