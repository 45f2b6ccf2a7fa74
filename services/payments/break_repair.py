"""Repair of a day: fetches the events and objects of its breaks from Stripe, and requeues dead work.

Events and objects are recorded like webhooks. The breaks close at the next comparison.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote

from sqlalchemy import Connection

from services.audit.append import AuditEntry, Mutation, append_all
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import Refused
from services.core.pg_arrays import int_array
from services.ledger.accept import NewEvent, WorkRef, list_missing_events, record_events
from services.ledger.filters import WorkFilter
from services.ledger.requeue import requeue
from services.payments.backfill import find_changed_objects, plan_events
from services.payments.breaks import PaymentBreak
from services.payments.comparison import SUBJECTS
from services.payments.stripe_lists import batched
from services.providers.stripe_api import NOT_FOUND, fetch_object

BATCH_SIZE = 50

_FETCHED_CAUSES = frozenset({"lost_webhook", "too_old_for_events", "unknown"})
"""Causes that are repaired with Stripe's object or an event about it."""

_COUNT_BY_STATUS = """
select status, count(*) as items,
       count(*) filter (where status = 'pending' or status = 'error'
           and next_retry_at <= %(now)s::timestamptz + interval '2 minutes') as waiting
  from work_queue where id = any(%(ids)s::bigint[]) group by status order by status
"""


class RepairPlan(NamedTuple):
    """Events and (subject, id) of objects to fetch, work to requeue, and breaks ``left`` to a person."""

    events: tuple[str, ...]
    work_ids: tuple[int, ...]
    objects: tuple[tuple[str, str], ...]
    left: tuple[PaymentBreak, ...]


@dataclass(slots=True)
class RepairResult:
    """The result of a repair. ``gone`` are ids that Stripe does not have (any more)."""

    recorded: int = 0
    requeued: int = 0
    gone: list[str] = field(default_factory=list)
    work: list[WorkRef] = field(default_factory=list)


def plan_repair(breaks: Sequence[PaymentBreak]) -> RepairPlan:
    """Return how to repair ``breaks``; each id once, in the order of the breaks."""
    events: dict[str, None] = {}
    work_ids: dict[int, None] = {}
    objects: dict[tuple[str, str], None] = {}
    left = []
    for found in breaks:
        if found.cause == "dead_work":
            work_ids.update(dict.fromkeys(found.evidence.get("work_ids", ())))
        elif found.cause in _FETCHED_CAUSES and found.theirs is not None and found.subject in SUBJECTS:
            events.update(dict.fromkeys(found.evidence.get("lost_events", ())))
            # The object too: the events have older states, and Stripe may have deleted some of them.
            objects[found.subject, found.provider_id] = None
        else:
            left.append(found)
    return RepairPlan(tuple(events), tuple(work_ids), tuple(objects), tuple(left))


def repair_day(
    shop_id: int,
    plan: RepairPlan,
    key: str,
    base_url: str,
    *,
    by: str,
    reason: str,
    request_id: str,
    report: Callable[[str], None] = lambda _: None,
) -> RepairResult:
    """Carry out ``plan``, audited, in batches with no transaction open during a call.

    Safe to interrupt and to repeat: nothing is recorded twice. Raises a ``WorkError`` if Stripe does not
    answer. The caller notifies the workers of ``RepairResult.work``.
    """
    result = RepairResult()

    def fetch(paths: Iterable[str]) -> list[dict[str, Any]]:
        """Return the objects at ``paths``; add the ids of those that do not exist to ``result.gone``."""
        sources = []
        for path in paths:
            try:
                sources.append(fetch_object(key, base_url, path))
            except Refused as fault:
                if fault.code != NOT_FOUND:
                    raise
                result.gone.append(path.rsplit("/", 1)[-1])
        return sources

    def record(tx: Connection, events: Sequence[NewEvent]) -> None:
        if not (new := list_missing_events(tx, events)):
            return
        accepted = record_events(tx, new)
        result.recorded += len(new)
        result.work += [ref for each in accepted for ref in each.work]
        note = f": {reason}" if reason else ""
        mutations = [
            Mutation(
                "inbound_events",
                str(each.event_id),
                f"{event.topic} entered from Stripe: {event.delivery_key}{note}",
                None,
                {"topic": event.topic, "delivery_key": event.delivery_key},
            )
            for event, each in zip(new, accepted, strict=True)
        ]
        append_all(tx, [AuditEntry(shop_id, by, "payments.repair", request_id, mutations)], utc_now())

    if plan.work_ids:
        with transaction() as tx:
            dead = WorkFilter(shop_id=shop_id, ids=plan.work_ids, statuses=("dead", "error"))
            refs = requeue(tx, dead, now=utc_now(), by=by, reason=reason, request_id=request_id)
        result.requeued = len(refs)
        result.work += refs
        report(f"{len(refs)} of {format_count(len(plan.work_ids), 'item of work')} requeued")
    for ids in batched(plan.events, BATCH_SIZE):
        sources = fetch(f"/v1/events/{quote(event_id, safe='')}" for event_id in ids)
        with transaction() as tx:
            record(tx, plan_events(shop_id, sources, utc_now(), request_id))
        report(f"{format_count(result.recorded, 'event')} entered")
    for objects in batched(plan.objects, BATCH_SIZE):
        requested_at = utc_now()
        sources = fetch(f"/v1/{subject}s/{quote(provider_id, safe='')}" for subject, provider_id in objects)
        with transaction() as tx:
            changed, _ = find_changed_objects(tx, shop_id, sources, requested_at, utc_now(), request_id)
            record(tx, changed)
        report(f"{format_count(result.recorded, 'event')} and states entered")
    return result


def count_unfinished_work(
    tx: Connection, work: Sequence[WorkRef], now: datetime
) -> tuple[int, dict[str, int]]:
    """Return how many items of ``work`` are not done, and the count of all by status.

    Does not count an item whose next try is more than two minutes away, so that the command does not wait.
    """
    values = {"ids": int_array(ref.id for ref in work), "now": now}
    rows = tx.exec_driver_sql(_COUNT_BY_STATUS, values).all()
    return sum(row.waiting for row in rows), {row.status: row.items for row in rows}
