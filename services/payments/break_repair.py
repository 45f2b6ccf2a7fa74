"""Healing a day: what explains its breaks is fetched from Stripe or taken up again, and the breaks close.

Nothing here writes a transaction: lost events and missing objects enter by the door that webhooks come in,
dead work goes back to its queue, and the ordinary effects do the rest.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

from sqlalchemy import Connection

from services.audit.append import append_audit
from services.audit.chain import Mutation
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Refused
from services.core.pg_arrays import int_array
from services.ledger.accept import NewEvent, WorkRef, record_events
from services.ledger.filters import WorkFilter
from services.ledger.requeue import requeue
from services.payments.backfill_diff import find_changed, find_unknown, plan_pulled_event
from services.payments.balance import in_sets
from services.payments.break_queries import PaymentBreak
from services.payments.event_fetch import GetObject
from services.providers.stripe_api import NOT_FOUND, get_object

SET_SIZE = 50

_PATHS = MappingProxyType(
    {"charge": "/v1/charges/", "refund": "/v1/refunds/", "dispute": "/v1/disputes/", "payout": "/v1/payouts/"}
)
_FETCHED = frozenset({"lost_webhook", "too_old_for_events", "unknown"})
"""Causes where Stripe's own object, or an event of it, brings our book to its state."""

_LEFT = """
select count(*) from work_queue where id = any(%(ids)s::bigint[]) and status in ('pending', 'error')
   and not (status = 'error' and next_retry_at > %(now)s::timestamptz + interval '2 minutes')
"""

_FATES = (
    "select status, count(*) from work_queue where id = any(%(ids)s::bigint[]) group by status order by 1"
)


class RepairPlan(NamedTuple):
    """What would be done. ``left`` are breaks that a person must look at."""

    events: tuple[str, ...]
    work_ids: tuple[int, ...]
    objects: tuple[tuple[str, str], ...]
    left: tuple[PaymentBreak, ...]


@dataclass(slots=True)
class RepairResult:
    """What was done. ``gone`` are ids that Stripe does not have (any more)."""

    entered: int = 0
    requeued: int = 0
    gone: list[str] = field(default_factory=list)
    work: list[WorkRef] = field(default_factory=list)


def plan_repair(breaks: Sequence[PaymentBreak]) -> RepairPlan:
    """Return what explains ``breaks`` and can be brought in; pure. Ids are named once, in a fixed order."""
    events: dict[str, None] = {}
    work_ids: dict[int, None] = {}
    objects: dict[tuple[str, str], None] = {}
    left = []
    for found in breaks:
        if found.cause == "dead_work":
            work_ids.update(dict.fromkeys(found.evidence.get("work_ids", ())))
        elif found.cause in _FETCHED and found.theirs is not None and found.subject in _PATHS:
            events.update(dict.fromkeys(found.evidence.get("lost_events", ())))
            # The object itself as well: events tell what was, and some are older than Stripe keeps them.
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
    get_from_stripe: GetObject = get_object,
    clock: Callable[[], datetime] = utc_now,
    report: Callable[[str], None] = lambda _: None,
) -> RepairResult:
    """What ``plan`` names is in the ledger, as if it had come by webhook, and its work is due; audited.

    In sets of fifty with no transaction open while Stripe is asked; broken off, what was entered stays, and
    doing it again enters nothing twice. Raises a ``WorkError`` where Stripe does not answer. The caller
    rings for ``RepairResult.work``.
    """
    healed = RepairResult()
    if plan.work_ids:
        with transaction() as tx:
            wanted = WorkFilter(shop_id=shop_id, ids=plan.work_ids, statuses=("dead", "error"))
            refs = requeue(tx, wanted, now=clock(), by=by, reason=reason, request_id=request_id)
        healed.requeued = len(refs)
        healed.work += refs
        report(f"{len(refs)} of {len(plan.work_ids)} items of work requeued")
    for ids in in_sets(plan.events, SET_SIZE):
        found = list(
            _fetch(get_from_stripe, key, base_url, [f"/v1/events/{quote(i, safe='')}" for i in ids], healed)
        )
        events = [plan_pulled_event(shop_id, source, clock(), request_id) for source in found]
        with transaction() as tx:
            new = find_unknown(tx, [event for event in events if event is not None])
            _enter(tx, shop_id, new, by, reason, request_id, clock(), healed)
        report(f"{healed.entered} events entered")
    for objects in in_sets(plan.objects, SET_SIZE):
        asked_at = clock()
        paths = [f"{_PATHS[subject]}{quote(provider_id, safe='')}" for subject, provider_id in objects]
        sources = list(_fetch(get_from_stripe, key, base_url, paths, healed))
        with transaction() as tx:
            changed, _ = find_changed(tx, shop_id, sources, asked_at, clock(), request_id)
            _enter(tx, shop_id, find_unknown(tx, changed), by, reason, request_id, clock(), healed)
        report(f"{healed.entered} events and states entered")
    return healed


def find_progress(tx: Connection, work: Sequence[WorkRef], now: datetime) -> tuple[int, dict[str, int]]:
    """Return how much of ``work`` is still to be done, and all of it by status.

    Work that waits for a try more than two minutes away is not waited for.
    """
    values = {"ids": int_array(ref.id for ref in work), "now": now}
    left = tx.exec_driver_sql(_LEFT, values).scalar() or 0
    return left, {row[0]: row[1] for row in tx.exec_driver_sql(_FATES, values)}


def _fetch(
    get_from_stripe: GetObject, key: str, base_url: str, paths: Sequence[str], healed: RepairResult
) -> Iterator[dict[str, Any]]:
    for path in paths:
        try:
            yield get_from_stripe(key, base_url, path)
        except Refused as fault:
            if fault.code != NOT_FOUND:
                raise
            healed.gone.append(path.rsplit("/", 1)[-1])


def _enter(
    tx: Connection,
    shop_id: int,
    events: Sequence[NewEvent],
    by: str,
    reason: str,
    request_id: str,
    now: datetime,
    healed: RepairResult,
) -> None:
    if not events:
        return
    accepted = record_events(tx, events)
    healed.entered += len(events)
    healed.work += [ref for each in accepted for ref in each.work]
    append_audit(
        tx,
        shop_id=shop_id,
        staff_label=by,
        action="books.heal",
        request_id=request_id,
        now=now,
        mutations=[
            Mutation(
                "inbound_events",
                str(each.event_id),
                f"{event.topic} entered from Stripe: {event.delivery_key}"
                + (f": {reason}" if reason else ""),
                None,
                {"topic": event.topic, "delivery_key": event.delivery_key},
            )
            for event, each in zip(events, accepted, strict=True)
        ],
    )
