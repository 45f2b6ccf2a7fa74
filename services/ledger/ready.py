"""Which topics hold ready work, and which shops: a few looks at an index, however long the backlog is."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.ledger.pause_filter import ActivePauses
from services.ledger.topics import Topic

READY = (
    "status in ('pending', 'error') and locked_at is null and coalesce(next_retry_at, created_at) <= %(now)s"
)

# A loose scan: one index probe per shop that has ready work, not one per row, so that a backlog of a
# million rows of one shop costs the claim no more than ten. The rotation begins after ``after``.
_READY_SHOPS = f"""
with recursive ready_shop(shop_id) as (
  (select shop_id from work_queue where topic = %(topic)s and {READY} order by shop_id limit 1)
  union all
  select (select w.shop_id from work_queue w
           where w.topic = %(topic)s and w.shop_id > r.shop_id and {READY} order by w.shop_id limit 1)
    from ready_shop r where r.shop_id is not null
)
select shop_id from ready_shop where shop_id is not null and shop_id <> all(%(held)s::int[])
 order by (shop_id <= %(after)s), shop_id limit %(limit)s
"""  # noqa: S608 - no value of a user's is in it

# A look at the index for each topic: its order and ``limit`` keep PostgreSQL from walking the whole queue.
_READY_TOPICS = f"""
select t.topic from unnest(%(topics)s::text[]) as t(topic)
 cross join lateral (
   select from work_queue w where w.topic = t.topic and {READY} order by w.shop_id limit 1) ready
"""  # noqa: S608


def find_ready_topics(tx: Connection, topics: Sequence[Topic], now: datetime) -> list[Topic]:
    """Return those of ``topics`` that hold ready work, somebody else's or paused work included, in order."""
    values = {"topics": [topic.name for topic in topics], "now": now}
    ready = set(tx.exec_driver_sql(_READY_TOPICS, values).scalars())
    return [topic for topic in topics if topic.name in ready]


def find_ready_shops(
    tx: Connection, topic: Topic, now: datetime, scope: ActivePauses, after: int, limit: int
) -> list[int]:
    """Return up to ``limit`` shops with ready work of ``topic`` that is not held, from ``after`` on."""
    if scope.all_held:
        return []
    values = {
        "topic": topic.name, "now": now, "after": after, "limit": limit, "held": sorted(scope.held_shops),
    }  # fmt: skip
    return [int(i) for i in tx.exec_driver_sql(_READY_SHOPS, values).scalars()]
