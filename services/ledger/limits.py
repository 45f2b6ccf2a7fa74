"""Rate limits per (shop, provider): a token bucket fed by what the provider itself reports.

Work without a token goes back to wait; it never holds a worker.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.ledger.topics import Topic
from services.ledger.work import WorkItem

_TAKE = """
select available, maximum, restore_per_second, updated_at, call_points from rate_limits
 where shop_id = %(shop_id)s and provider = %(provider)s for update
"""

_SPEND = """
update rate_limits set available = %(available)s, updated_at = %(now)s
 where shop_id = %(shop_id)s and provider = %(provider)s
"""

_RECORD = """
insert into rate_limits as r (shop_id, provider, available, maximum, restore_per_second, updated_at,
                              call_points)
values (%(shop_id)s, %(provider)s, %(available)s, %(maximum)s, %(restore)s, %(now)s, %(call_points)s)
on conflict (shop_id, provider) do update set
   available = least(excluded.available, excluded.maximum,
     r.available
     + greatest(extract(epoch from excluded.updated_at - r.updated_at), 0) * r.restore_per_second),
   maximum = excluded.maximum, restore_per_second = excluded.restore_per_second,
   updated_at = excluded.updated_at, call_points = coalesce(excluded.call_points, r.call_points)
"""
# The report is older than what this ledger has spent since: the lower of the two figures is kept.

# A bucket that must first fill up from below nothing: so long until the next call's tokens are there.
_HOLD = """
update rate_limits set updated_at = %(now)s, available =
   least(available, coalesce(call_points, %(cost)s) - %(seconds)s * restore_per_second)
 where shop_id = %(shop_id)s and provider = %(provider)s
"""


def apply_rate_limit(
    tx: Connection, topic: Topic, items: Sequence[WorkItem], now: datetime
) -> tuple[list[WorkItem], list[tuple[WorkItem, datetime]]]:
    """Return the items that may go now, and the others with the time their token will be there.

    A shop whose provider never reported a limit is not held back: the first answer feeds the bucket.
    """
    if not topic.provider:
        return list(items), []
    go: list[WorkItem] = []
    wait: list[tuple[WorkItem, datetime]] = []
    for shop_id in sorted({item.shop_id for item in items}):
        mine = [item for item in items if item.shop_id == shop_id]
        parts = [mine[start : start + topic.call_items] for start in range(0, len(mine), topic.call_items)]
        turns = reserve_calls(tx, shop_id, topic.provider, len(parts), now, cost_points=topic.cost_points)
        granted = len(parts) - len(turns)
        go += [item for part in parts[:granted] for item in part]
        for part, turn in zip(parts[granted:], turns, strict=True):
            wait += [(item, now + turn) for item in part]
    return go, wait


def reserve_calls(
    tx: Connection, shop_id: int, provider: str, count: int, now: datetime, *, cost_points: float = 1.0
) -> list[timedelta]:
    """Take tokens for ``count`` calls; return how long each one waits that there is none for.

    The first ones go: an empty list means that all do, as where nobody ever reported a limit. A call takes
    what the provider last said that one costs; ``cost_points`` where it never did.
    """
    key = {"shop_id": shop_id, "provider": provider}
    row = tx.exec_driver_sql(_TAKE, key).one_or_none()
    if row is None:
        return []
    maximum, restore = float(row[1]), max(float(row[2]), 0.001)
    # More than the bucket ever holds would wait for ever: such a call goes out when the bucket is full.
    cost_points = min(float(row[4] or cost_points), maximum) or cost_points
    elapsed = max((now - row[3]).total_seconds(), 0.0)
    available = min(maximum, float(row[0]) + elapsed * restore)
    granted = max(0, min(count, int(available // cost_points)))
    left = available - granted * cost_points
    tx.exec_driver_sql(_SPEND, key | {"available": left, "now": now})
    return [
        timedelta(seconds=max(place * cost_points - left, cost_points) / restore)
        for place in range(1, count - granted + 1)
    ]


def record_throttle(
    tx: Connection,
    shop_id: int,
    provider: str,
    *,
    maximum: float,
    available: float,
    restore_per_second: float,
    now: datetime,
    call_points: float | None = None,
) -> None:
    """The bucket of (shop, provider) holds what the provider said, or less where we spent since.

    ``call_points`` is what a call of the work that takes tokens costs, where the answer said so.
    """
    values = {
        "shop_id": shop_id, "provider": provider, "available": available, "maximum": maximum,
        "restore": restore_per_second, "now": now, "call_points": call_points,
    }  # fmt: skip
    tx.exec_driver_sql(_RECORD, values)


def block_bucket(
    tx: Connection, shop_id: int, provider: str, wait: timedelta, now: datetime, *, cost_points: float
) -> None:
    """No call of (shop, provider) has its tokens before ``wait`` is over: the provider asked for that.

    For an answer that says how long and not how full its bucket is. Where no limit was ever reported there
    is no bucket to hold, and only what was refused waits.
    """
    values = {
        "shop_id": shop_id, "provider": provider, "seconds": wait.total_seconds(), "now": now,
        "cost": cost_points,
    }  # fmt: skip
    tx.exec_driver_sql(_HOLD, values)
