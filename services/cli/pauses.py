"""Texts about pauses."""

from services.core.times import format_time
from services.ledger.pause import Pause, format_rate


def describe_pause(pause: Pause) -> str:
    """Return the mode, author, start, end and reason of ``pause`` as text."""
    rate = f" at {format_rate(pause.rate_per_second)}" if pause.rate_per_second else ""
    until = f", until {format_time(pause.ends_at)}" if pause.ends_at else ""
    why = f", {pause.reason!r}" if pause.reason else ""
    return f"{pause.mode}{rate} of {pause.created_by} since {format_time(pause.created_at)}{until}{why}"
