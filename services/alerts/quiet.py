"""Quiet hours and maintenance windows: times in which the channels get nothing about incidents.

Quiet hours are for nights: a P1 passes. A maintenance window holds P1s back too, because the work in it is
expected to cause them; so it is at most a day long, and the person who sets it watches.
"""

from datetime import datetime, time, timedelta
from typing import Any, NamedTuple, Unpack
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, or_, select

from services.alerts.people import require_text
from services.alerts.tables import quiet_windows
from services.audit.append import Author, Mutation, append_change
from services.core.errors import InputInvalid
from services.core.times import format_time

LONGEST = timedelta(days=1)


class QuietWindow(NamedTuple):
    """Quiet hours (``daily_from`` to ``daily_until`` in ``zone``), or a maintenance window.

    ``shop_id`` None is the whole fleet with all its shops.
    """

    shop_id: int | None = None
    daily_from: str = ""
    daily_until: str = ""
    zone: str = ""
    begins_at: datetime | None = None
    ends_at: datetime | None = None
    reason: str = ""
    created_by: str = ""
    created_at: datetime | None = None
    id: int = 0

    @property
    def is_maintenance(self) -> bool:
        """Whether it holds P1s back too."""
        return self.begins_at is not None

    @property
    def kind(self) -> str:
        """Its kind, for people."""
        return "maintenance" if self.is_maintenance else "quiet hours"

    def is_on(self, now: datetime) -> bool:
        """Return whether ``now`` is in the window. Its end is not."""
        if self.begins_at and self.ends_at:
            return self.begins_at <= now < self.ends_at
        local = f"{now.astimezone(ZoneInfo(self.zone)):%H:%M}"
        if self.daily_from < self.daily_until:
            return self.daily_from <= local < self.daily_until
        return local >= self.daily_from or local < self.daily_until

    def holds(self, shop_id: int | None, severity: str, now: datetime) -> bool:
        """Return whether it holds back incidents of this shop (None: the fleet) and severity at ``now``."""
        is_covered = self.shop_id is None or self.shop_id == shop_id
        return is_covered and (severity != "P1" or self.is_maintenance) and self.is_on(now)

    def describe(self) -> str:
        """Return its times for people."""
        if self.begins_at and self.ends_at:
            return f"{format_time(self.begins_at)} to {format_time(self.ends_at)}"
        return f"daily {self.daily_from} to {self.daily_until} {self.zone}"


def parse_hours(text: str) -> tuple[str, str]:
    """Return begin and end of quiet hours such as ``22:00-07:00``; raise ``InputInvalid``."""
    begin, _, end = (part.strip() for part in text.partition("-"))
    try:
        both = [f"{time.fromisoformat(part):%H:%M}" for part in (begin, end) if len(part) == 5]
    except ValueError:
        both = []
    if len(both) != 2 or both[0] == both[1]:
        raise InputInvalid(f"{text!r} should be two different times such as 22:00-07:00")
    return both[0], both[1]


def list_windows(tx: Connection, now: datetime, *, is_all: bool = False) -> list[QuietWindow]:
    """Return the windows that have not ended; ``is_all`` adds ended ones."""
    column = quiet_windows.c
    wanted = select(*(column[name] for name in QuietWindow._fields)).order_by(column.id)
    if not is_all:
        wanted = wanted.where(or_(column.ends_at.is_(None), column.ends_at > now))
    return [QuietWindow(**row._asdict()) for row in tx.execute(wanted)]


def add_window(tx: Connection, window: QuietWindow, **author: Unpack[Author]) -> QuietWindow:
    """Store ``window``, audited; return it with its id. Raises ``InputInvalid`` for a wrong time."""
    reason = require_text(author.get("reason", ""), "reason", "it should say why nobody needs to hear of it")
    if window.begins_at and window.ends_at:
        if window.ends_at <= author["now"]:
            raise InputInvalid(f"the window ends at {format_time(window.ends_at)}, which is over")
        if not timedelta(0) < window.ends_at - window.begins_at <= LONGEST:
            raise InputInvalid(
                "a maintenance window should be at most 24h long, because it holds P1s back too: "
                "set several, or snooze an incident with `fleet incidents snooze`"
            )
    window = window._replace(reason=reason, created_by=author["by"], created_at=author["now"])
    values = {name: value for name, value in window._asdict().items() if name != "id"}
    window_id = tx.execute(quiet_windows.insert().values(values).returning(quiet_windows.c.id)).scalar_one()
    window = window._replace(id=window_id)
    _audit(tx, "add", window, f"the channels get nothing {window.describe()}: {reason}", {}, author)
    return window


def remove_window(tx: Connection, window_id: int, **author: Unpack[Author]) -> QuietWindow:
    """Delete the window of an id that exists, audited; return it."""
    (window,) = (one for one in list_windows(tx, author["now"], is_all=True) if one.id == window_id)
    tx.execute(quiet_windows.delete().where(quiet_windows.c.id == window_id))
    before = {"times": window.describe(), "reason": window.reason}
    why = f": {author['reason']}" if author.get("reason") else ""
    _audit(tx, "remove", window, f"removed the quiet window {window.describe()}{why}", before, author)
    return window


def _audit(
    tx: Connection, action: str, window: QuietWindow, summary: str, before: dict[str, Any], author: Author
) -> None:
    after = {} if before else {"times": window.describe(), "reason": window.reason}
    mutation = Mutation("quiet_windows", str(window.id), summary, before, after)
    append_change(tx, f"quiet_window.{action}", {window.shop_id: [mutation]}, **author)
