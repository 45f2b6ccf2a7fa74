"""Leases: a token owns a claimed row of ``work_queue`` until ``lease_until``; only its holder settles it."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.ledger.claim import ITEM_COLUMNS, READY, make_work_item
from services.ledger.topics import Topic
from services.ledger.work import WorkItem

_FIND = f"""
select {ITEM_COLUMNS}
from work_queue w left join inbound_events e on e.id = w.event_id
where w.id = %(id)s and w.status in ('pending', 'error') and w.locked_by is not distinct from %(token)s
"""  # noqa: S608 - constants only

_FIND_AND_LOCK = f"{_FIND} for update of w skip locked"

_LEASE = """
update work_queue set locked_at = %(now)s, locked_by = %(token)s, lease_until = %(lease_until)s
 where id = any(%(id)s) and status in ('pending', 'error') and locked_at is null returning id
"""

_RENEW = """
update work_queue set lease_until = %(until)s where locked_by = %(token)s and locked_at is not null
   and status in ('pending', 'error') and topic = %(topic)s
"""

_RELEASE = """
update work_queue set locked_at = null, locked_by = null, lease_until = null, dispatched_at = null
 where id = any(%(id)s) and locked_by = %(token)s
"""

_DELAY = """
update work_queue w set next_retry_at = v.due, locked_at = null, locked_by = null, lease_until = null,
       dispatched_at = null
from unnest(%(id)s::bigint[], %(due)s::timestamptz[]) as v(id, due)
where w.id = v.id and w.locked_by = %(token)s
"""

_IS_KEY_WAITING = f"""
select exists (
  select from unnest(%(shop_id)s::int[], %(key)s::text[]) as v(shop_id, key)
    join work_queue w using (shop_id, key) where w.topic = %(topic)s and {READY})
"""  # noqa: S608


def find_leased(tx: Connection, item_id: int, token: str) -> WorkItem | None:
    """Return item ``item_id`` if ``token`` holds its lease, else None."""
    row = tx.exec_driver_sql(_FIND, {"id": item_id, "token": token}).one_or_none()
    return make_work_item(row) if row else None


def lock_item(tx: Connection, item_id: int, token: str | None) -> WorkItem | None:
    """Lock item ``item_id`` in this transaction; return None if it is settled or another worker holds it.

    ``token`` is None for an item without a lease.
    """
    row = tx.exec_driver_sql(_FIND_AND_LOCK, {"id": item_id, "token": token}).one_or_none()
    return make_work_item(row) if row else None


def lease_items(tx: Connection, topic: Topic, ids: Sequence[int], token: str, now: datetime) -> set[int]:
    """Lease the unlocked items of ``ids`` to ``token``, from the caller's commit on; return their ids.

    For a caller that plans work and runs it itself, so that no worker takes it in between.
    """
    values = {"id": list(ids), "token": token, "now": now, "lease_until": now + topic.lease}
    return set(tx.exec_driver_sql(_LEASE, values).scalars())


def renew_lease(tx: Connection, topic: Topic, token: str, now: datetime) -> int:
    """Extend the leases of ``token`` to ``now + topic.lease``; return how many there are."""
    values = {"until": now + topic.lease, "token": token, "topic": topic.name}
    return tx.exec_driver_sql(_RENEW, values).rowcount


def release_items(tx: Connection, ids: Iterable[int], token: str) -> None:
    """Make the items of ``ids`` that ``token`` holds ready again, without counting a try."""
    tx.exec_driver_sql(_RELEASE, {"id": list(ids), "token": token})


def delay_items(tx: Connection, due: Sequence[tuple[WorkItem, datetime]], token: str) -> None:
    """Delay each item until its time, without counting a try, because its rate limit has no token left."""
    values = {"id": [item.id for item, _ in due], "due": [at for _, at in due], "token": token}
    tx.exec_driver_sql(_DELAY, values)


def is_key_waiting(tx: Connection, topic: Topic, items: Sequence[WorkItem], now: datetime) -> bool:
    """Return whether ready work has the key of one of ``items``; the lease kept other workers from taking it.

    The query reads all ready rows of these shops, so use it only after a batch that was the whole backlog.
    """
    keyed = [item for item in items if item.key]
    if not keyed:
        return False
    values = {
        "topic": topic.name, "now": now, "shop_id": [i.shop_id for i in keyed], "key": [i.key for i in keyed],
    }  # fmt: skip
    return bool(tx.exec_driver_sql(_IS_KEY_WAITING, values).scalar_one())
