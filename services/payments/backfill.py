"""Stripe backfill: what Stripe lists and the ledger lacks enters as a webhook would have."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.ledger.accept import NewEvent, WorkRef, record_events
from services.ledger.dispatch import send_messages
from services.ledger.sync_cursors import find_cursor, upsert_cursor
from services.payments.backfill_diff import find_changed_objects, find_missing_events, plan_listed_event
from services.payments.balance import ListObjects, in_batches
from services.payments.stripe_key import find_stripe_key
from services.providers.stripe_api import list_objects

EVENTS, CHARGES = "events", "charges"
"""The streams that have a cursor. A shop without one begins where Stripe's events begin."""

OTHERS = ("refunds", "disputes", "payouts", "payment_intents")
"""Read as well if the cursor is older than Stripe's events."""

RETENTION = timedelta(days=30)
"""Stripe lists no older events. Source: Stripe API reference, "Events"."""

OVERLAP = timedelta(hours=1)
"""Read again before the cursor: an event may appear in the list after one that was created later."""

SLICE = timedelta(days=1)
"""The window is read in slices, oldest first, and the cursor moves after each: a crash costs one slice."""

BATCH_SIZE = 500
GAP_RULE = "stripe_events_gap"


class _BackfillRun(NamedTuple):
    """One run of the backfill."""

    shop_id: int
    key: str
    base_url: str
    now: datetime
    request_id: str
    is_dry: bool
    list_from_stripe: ListObjects
    clock: Callable[[], datetime]
    notify: Callable[[Sequence[WorkRef]], object]
    counts: Counter[str]


def backfill_stripe(
    shop_id: int,
    now: datetime,
    request_id: str = "",
    *,
    since: datetime | None = None,
    is_dry: bool = False,
    list_from_stripe: ListObjects = list_objects,
    clock: Callable[[], datetime] = utc_now,
    notify: Callable[[Sequence[WorkRef]], object] = send_messages,
) -> dict[str, int]:
    """Enter what Stripe lists since the last run and the ledger lacks; return the counts.

    First the events of the planned types; an existing one is left alone. Then the charges created in the
    window whose state differs from their row, and for which no work waits: each enters as a
    ``charge.updated``. If the cursor is older than Stripe's events, an incident names the gap, and the
    refunds, disputes, payouts and payment intents created in it are compared likewise; a change in the gap of
    an object older than the gap is left to the reconciliation. A shop without a cursor is read from 30 days
    ago, whenever it was added: its Stripe account may be older.

    ``since`` replaces the cursor; ``is_dry`` writes nothing and counts what would enter. Counts: ``seen``,
    ``missing``, ``unreadable`` if any, and per topic what was missing. Empty for a shop without Stripe.
    Raises a ``WorkError`` if Stripe does not answer: what was entered stays, and the next run continues from
    the cursor.
    """
    with transaction() as tx:
        key = find_stripe_key(tx, shop_id)
        cursors = {name: find_cursor(tx, shop_id, "stripe", name) for name in (EVENTS, CHARGES)}
    if key is None:
        return {}
    run = _BackfillRun(
        shop_id=shop_id,
        key=key,
        base_url=get_settings().stripe_api_base,
        now=now,
        request_id=request_id,
        is_dry=is_dry,
        list_from_stripe=list_from_stripe,
        clock=clock,
        notify=notify,
        counts=Counter(seen=0, missing=0),
    )
    retained = now - RETENTION
    begins = {name: since or (cursor - OVERLAP if cursor else retained) for name, cursor in cursors.items()}
    # Before the cursor of the events moves, which alone shows the gap: after a crash it is found again.
    _record_gap(run, cursors[EVENTS], retained)
    windows = [(stream, begins[EVENTS], retained) for stream in OTHERS]
    windows += [(EVENTS, max(begins[EVENTS], retained), now), (CHARGES, begins[CHARGES], now)]
    for stream, first, last in windows:
        for starts, ends in plan_slices(first, last):
            _enter_slice(run, stream, starts, ends)
    return dict(run.counts)


def plan_slices(begins: datetime, ends: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield [``begins``, ``ends``) in slices of at most a day, oldest first."""
    while begins < ends:
        until = min(begins + SLICE, ends)
        yield begins, until
        begins = until


def _enter_slice(run: _BackfillRun, stream: str, starts: datetime, ends: datetime) -> None:
    """Enter what the slice of ``stream`` has and the ledger lacks, then move the stream's cursor."""
    asked_at = run.clock()
    listed = run.list_from_stripe(run.key, run.base_url, stream, created_gte=starts, created_lt=ends)
    for objects in in_batches(listed, BATCH_SIZE):
        with transaction() as tx:
            events = _plan(tx, run, stream, objects, asked_at)
            accepted = record_events(tx, events) if events and not run.is_dry else []
        run.counts.update(event.topic for event in events)
        run.counts.update(seen=len(objects), missing=len(events))
        run.notify([ref for each in accepted for ref in each.work])
    if stream in (EVENTS, CHARGES) and not run.is_dry:
        with transaction() as tx:
            upsert_cursor(tx, run.shop_id, "stripe", stream, ends, run.now)


def _plan(
    tx: Connection, run: _BackfillRun, stream: str, objects: Sequence[dict[str, Any]], asked_at: datetime
) -> list[NewEvent]:
    """Return the events that ``objects`` add to the ledger."""
    if stream == EVENTS:
        listed = [each for each in objects if isinstance(each, dict)]
        planned = [plan_listed_event(run.shop_id, each, run.now, run.request_id) for each in listed]
        events = [event for event in planned if event is not None]
    else:
        events, unreadable = find_changed_objects(tx, run.shop_id, objects, asked_at, run.now, run.request_id)
        if unreadable:
            run.counts.update(unreadable=unreadable)
    return find_missing_events(tx, events)


def _record_gap(run: _BackfillRun, cursor: datetime | None, retained: datetime) -> None:
    """Open an incident if the cursor is older than Stripe's events, else resolve it."""
    if run.is_dry:
        return
    with transaction() as tx:
        if cursor is None or cursor >= retained:
            note = "(events were read without a gap again)"
            resolve_incident(tx, run.shop_id, GAP_RULE, None, run.now, note)
            return
        summary = (
            f"Stripe was last read up to {cursor:%Y-%m-%d %H:%M} UTC and lists events since "
            f"{retained:%Y-%m-%d %H:%M} UTC only: objects created since were compared one by one, later "
            "changes of older ones were not; run daily-reconciliation for those days"
        )
        period = cursor.date().isoformat()
        record_incidents(tx, [Incident(run.shop_id, GAP_RULE, period, "P2", summary)], run.now)
