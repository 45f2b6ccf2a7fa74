"""Sweep: frees expired leases, and sends messages again for due work whose message was lost.

It can run at any time, and several times at once.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import orjson
from sqlalchemy import Connection

from services.ledger.accept import WorkRef
from services.ledger.claim import READY, find_active_pauses
from services.ledger.topics import TOPICS, Topic

RESEND_AFTER = timedelta(seconds=10)
"""A message that has reached no worker after this time counts as lost."""

_FREE = """
update work_queue w
   set status = case when w.retry_count + 1 >= v.tries then 'dead' else 'error' end,
       retry_count = w.retry_count + 1, error_code = 'worker_lost',
       last_error = 'worker ' || coalesce(w.locked_by, '?') || ' stopped answering while it had this item',
       finished_at = case when w.retry_count + 1 >= v.tries then %(now)s::timestamptz end,
       next_retry_at = %(now)s,
       locked_at = null, locked_by = null, lease_until = null, dispatched_at = null
  from (select w.id, t.tries from work_queue w
          join unnest(%(topic)s::text[], %(tries)s::int[]) as t(topic, tries) on t.topic = w.topic
         where w.status in ('pending', 'error') and w.locked_at is not null
           and coalesce(w.lease_until, w.locked_at) < %(now)s
         limit 5000 for update of w skip locked) v
 where w.id = v.id
returning w.id
"""

_UNDISPATCHED = f"""
select id from (
  select id, dispatched_at from work_queue
   where topic = %(topic)s and {READY} and shop_id <> all(%(held)s::int[]) limit 5000
) ready
where dispatched_at is null or dispatched_at < %(before)s limit %(limit)s
"""  # noqa: S608 - constants only

_MARK = """
update work_queue set dispatched_at = %(now)s, dispatch_count = dispatch_count + 1
 where id = any(%(id)s) and locked_at is null and status in ('pending', 'error')
returning id, queue, topic
"""


_END_DRAINS = """
delete from pauses p where p.mode = 'drain' and not exists (
  select from work_queue w where w.status in ('pending', 'error')
     and (p.queue is null or w.queue = p.queue) and (p.topic is null or w.topic = p.topic)
     and (p.cost is null or w.topic = any(array(
           select t.topic from unnest(%(topic)s::text[], %(cost)s::text[]) as t(topic, cost)
            where t.cost = p.cost)))
     and (p.shop_id is null or w.shop_id = p.shop_id) and w.created_at < p.created_at)
"""

_BEAT = """
insert into heartbeats (name, at, detail) values (%(name)s, %(at)s, %(detail)s::jsonb)
on conflict (name) do update set at = excluded.at, detail = excluded.detail
"""


@dataclass(slots=True)
class SweepCounts:
    """The counts of a sweep, which are the detail of its heartbeat."""

    freed: int = 0
    sent_again: int = 0


def free_expired(tx: Connection, now: datetime) -> int:
    """Free every expired lease and count a failed try; return how many."""
    topics = list(TOPICS.values())
    values = {"now": now, "topic": [t.name for t in topics], "tries": [t.tries for t in topics]}
    return len(tx.exec_driver_sql(_FREE, values).all())


def list_undispatched(tx: Connection, topic: Topic, now: datetime, limit: int = 2000) -> list[int]:
    """Return ids of due work without a recent message, except paused work.

    For a draining topic one id is enough, because a worker then takes as many items as the rate allows.
    """
    scope = find_active_pauses(tx, topic, now)
    if scope.all_held:
        return []
    before, limit = (now, 1) if scope.drains else (now - RESEND_AFTER, limit)
    values = {
        "topic": topic.name, "now": now, "before": before, "limit": limit,
        "held": sorted(scope.held_shops),
    }  # fmt: skip
    return [int(i) for i in tx.exec_driver_sql(_UNDISPATCHED, values).scalars()]


def sweep(tx: Connection, now: datetime, depths: dict[str, int] | None) -> tuple[SweepCounts, list[WorkRef]]:
    """Free expired leases and end finished drains; return the work to send messages for after the commit.

    ``depths`` are the broker's queue lengths; if None, the broker is unreachable and nothing is sent. A queue
    with messages needs no more: each message makes a worker serve all ready work of the queue.
    """
    counts = SweepCounts(freed=free_expired(tx, now))
    refs: list[WorkRef] = []
    for topic in TOPICS.values():
        if (
            depths is not None
            and not depths.get(topic.queue, 0)
            and (ids := list_undispatched(tx, topic, now))
        ):
            rows = tx.exec_driver_sql(_MARK, {"now": now, "id": ids})
            refs += [WorkRef(row.id, row.queue, row.topic) for row in rows]
    counts.sent_again = len(refs)
    topics = list(TOPICS.values())
    costs = {"topic": [topic.name for topic in topics], "cost": [topic.cost for topic in topics]}
    tx.exec_driver_sql(_END_DRAINS, costs)
    record_heartbeat(tx, "sweep", now, asdict(counts))
    return counts, refs


def record_heartbeat(
    tx: Connection, name: str, at: datetime, detail: dict[str, object] | None = None
) -> None:
    """Record that ``name`` was alive at ``at``."""
    tx.exec_driver_sql(_BEAT, {"name": name, "at": at, "detail": orjson.dumps(detail or {}).decode()})
