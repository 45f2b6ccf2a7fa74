"""Rate limits: a token bucket per (owner, bucket), with the level that the provider reports.

The owner is a shop or a mail account, the bucket a provider or a mail route. Work without a token returns to
the queue and occupies no worker.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby

from sqlalchemy import Connection

from services.ledger.topics import Topic
from services.ledger.work import WorkItem

_LOCK_BUCKET = """
select available, maximum, restore_per_second, updated_at, call_points from rate_limits
 where owner_id = %(owner_id)s and bucket = %(bucket)s for update
"""

_SET_AVAILABLE = """
update rate_limits set available = %(available)s, updated_at = %(now)s
 where owner_id = %(owner_id)s and bucket = %(bucket)s
"""

# The provider's report may be older than the last calls recorded here, so the lower figure is kept.
_UPSERT = """
insert into rate_limits as r (owner_id, bucket, available, maximum, restore_per_second, updated_at,
                              call_points)
values (%(owner_id)s, %(bucket)s, %(available)s, %(maximum)s, %(restore)s, %(now)s, %(call_points)s)
on conflict (owner_id, bucket) do update set
   available = least(excluded.available, excluded.maximum,
     r.available
     + greatest(extract(epoch from excluded.updated_at - r.updated_at), 0) * r.restore_per_second),
   maximum = excluded.maximum, restore_per_second = excluded.restore_per_second,
   updated_at = excluded.updated_at, call_points = coalesce(excluded.call_points, r.call_points)
"""

# The level becomes negative, so that after the wait the bucket has just the tokens of the next call.
_BLOCK = """
update rate_limits set updated_at = %(now)s, available =
   least(available, coalesce(call_points, %(cost)s) - %(seconds)s * restore_per_second)
 where owner_id = %(owner_id)s and bucket = %(bucket)s
"""


_ENSURE = """
insert into rate_limits (owner_id, bucket, available, maximum, restore_per_second, updated_at)
values (%(owner_id)s, %(bucket)s, %(maximum)s, %(maximum)s, %(restore)s, %(now)s)
on conflict (owner_id, bucket) do update
   set maximum = excluded.maximum, restore_per_second = excluded.restore_per_second
 where (rate_limits.maximum, rate_limits.restore_per_second)
       <> (excluded.maximum, excluded.restore_per_second)
"""


def ensure_bucket(
    tx: Connection, owner_id: int, bucket: str, *, maximum: float, restore_per_second: float, now: datetime
) -> None:
    """Make a full bucket, or set the limits of the one that exists, for a limit that no response reports."""
    values = {
        "owner_id": owner_id, "bucket": bucket, "maximum": maximum, "restore": restore_per_second, "now": now,
    }  # fmt: skip
    tx.exec_driver_sql(_ENSURE, values)


_FIND_LEVEL = """
select available + extract(epoch from %(now)s - updated_at)::float8 * restore_per_second as available,
       restore_per_second from rate_limits where owner_id = %(owner_id)s and bucket = %(bucket)s
"""


def find_wait(tx: Connection, owner_id: int, bucket: str, now: datetime) -> timedelta:
    """Return the time until the bucket has a token; nothing is taken or locked."""
    row = tx.exec_driver_sql(_FIND_LEVEL, {"owner_id": owner_id, "bucket": bucket, "now": now}).one_or_none()
    if row is None or row.available >= 1:
        return timedelta()
    return timedelta(seconds=(1 - row.available) / max(row.restore_per_second, 0.001))


def apply_rate_limit(
    tx: Connection, topic: Topic, items: Sequence[WorkItem], now: datetime
) -> tuple[list[WorkItem], list[tuple[WorkItem, datetime]]]:
    """Return the items that may run now, and the others with the time at which they may.

    Without a reported limit a shop is not limited; the first response of the provider creates the bucket.
    """
    if not topic.provider:
        return list(items), []
    ready: list[WorkItem] = []
    delayed: list[tuple[WorkItem, datetime]] = []
    by_shop = sorted(items, key=lambda item: item.shop_id)
    for shop_id, group in groupby(by_shop, key=lambda item: item.shop_id):
        of_shop = list(group)
        size = topic.call_items
        calls = [of_shop[start : start + size] for start in range(0, len(of_shop), size)]
        waits = reserve_calls(tx, shop_id, topic.provider, len(calls), now, cost_points=topic.cost_points)
        granted = len(calls) - len(waits)
        ready += [item for call in calls[:granted] for item in call]
        delayed += [
            (item, now + wait) for call, wait in zip(calls[granted:], waits, strict=True) for item in call
        ]
    return ready, delayed


def reserve_calls(
    tx: Connection, owner_id: int, bucket: str, count: int, now: datetime, *, cost_points: float = 1.0
) -> list[timedelta]:
    """Take tokens for ``count`` calls; return the wait of each call that got none.

    The first calls get the tokens; an empty list means that all calls may be made. A call costs what the
    provider last reported, or else ``cost_points``.
    """
    key = {"owner_id": owner_id, "bucket": bucket}
    row = tx.exec_driver_sql(_LOCK_BUCKET, key).one_or_none()
    if row is None:
        return []
    restore = max(row.restore_per_second, 0.001)
    # A call that costs more than the maximum is made when the bucket is full.
    cost_points = min(row.call_points or cost_points, row.maximum) or cost_points
    elapsed = max((now - row.updated_at).total_seconds(), 0.0)
    available = min(row.maximum, row.available + elapsed * restore)
    granted = max(0, min(count, int(available // cost_points)))
    available -= granted * cost_points
    tx.exec_driver_sql(_SET_AVAILABLE, key | {"available": available, "now": now})
    return [
        timedelta(seconds=max(place * cost_points - available, cost_points) / restore)
        for place in range(1, count - granted + 1)
    ]


def record_throttle(
    tx: Connection,
    owner_id: int,
    bucket: str,
    *,
    maximum: float,
    available: float,
    restore_per_second: float,
    now: datetime,
    call_points: float | None = None,
) -> None:
    """Set the bucket to the level that the provider reported, or lower if calls were made since.

    ``call_points`` is the cost of one call, if the response contained it.
    """
    values = {
        "owner_id": owner_id, "bucket": bucket, "available": available, "maximum": maximum,
        "restore": restore_per_second, "now": now, "call_points": call_points,
    }  # fmt: skip
    tx.exec_driver_sql(_UPSERT, values)


def block_bucket(
    tx: Connection, owner_id: int, bucket: str, wait: timedelta, now: datetime, *, cost_points: float
) -> None:
    """Give no tokens before ``wait`` is over, for a response with a wait but no bucket level.

    Without a reported limit there is no bucket, and only the refused call waits.
    """
    values = {
        "owner_id": owner_id, "bucket": bucket, "seconds": wait.total_seconds(), "now": now,
        "cost": cost_points,
    }  # fmt: skip
    tx.exec_driver_sql(_BLOCK, values)
