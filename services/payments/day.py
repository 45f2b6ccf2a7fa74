"""A shop's day, as the shop's own clocks bound it, and what of it is reconciled. Pure."""

from datetime import date, datetime
from typing import NamedTuple

SUBJECTS = ("charge", "refund", "dispute", "payout")
"""The kinds of transactions that both books have."""

BREAK_KINDS = (
    "missing_here",
    "missing_there",
    "amount",
    "currency",
    "status",
    "duplicate",
    "fee",
    "unreadable",
)


class Day(NamedTuple):
    """A shop's day from ``begins`` up to, not including, ``ends`` (aware UTC)."""

    shop_id: int
    day: date
    begins: datetime
    ends: datetime
