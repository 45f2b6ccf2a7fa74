"""What is overdue, as a value. Pure."""

from datetime import datetime, timedelta
from typing import NamedTuple


class Overdue(NamedTuple):
    """A run with no end by ``due_at + grace``."""

    job: str
    shop_id: int | None
    period: str
    due_at: datetime
    grace: timedelta
    status: str
    started_at: datetime | None
