"""Healing from Stripe's side: what Stripe lists and we lack enters by the door that webhooks come in."""

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
from services.payments.backfill_diff import find_changed, find_unknown, plan_pulled_event
from services.payments.balance import ListObjects, in_sets
from services.payments.stripe_key import find_stripe_key
from services.providers.stripe_api import list_objects

EVENTS, CHARGES = "events", "charges"
"""The streams that have a mark. A shop that was never pulled begins where Stripe's events begin."""

OTHERS = ("refunds", "disputes", "payouts", "payment_intents")
"""Read as well where the events do not reach back to the mark."""

RETENTION = timedelta(days=30)
"""Stripe lists no older events. Source: Stripe API reference, "Events"."""

OVERLAP = timedelta(hours=1)
"""Read again behind the mark: an event may appear in the list after one that was made later."""

SLICE = timedelta(days=1)
"""A window is read in slices, oldest first, and the mark moves after each: a crash costs one slice."""

SET_SIZE = 500
GAP_RULE = "stripe_events_gap"


class _Pull(NamedTuple):
    """One healing run."""

    shop_id: int
    key: str
    base_url: str
    now: datetime
    request_id: str
    is_dry: bool
    list_theirs: ListObjects
    clock: Callable[[], datetime]
    ring: Callable[[Sequence[WorkRef]], object]
    counts: Counter[str]


def backfill_stripe(
    shop_id: int,
    now: datetime,
    request_id: str = "",
    *,
    since: datetime | None = None,
    is_dry: bool = False,
    list_theirs: ListObjects = list_objects,
    clock: Callable[[], datetime] = utc_now,
    ring: Callable[[Sequence[WorkRef]], object] = send_messages,
) -> dict[str, int]:
    """What Stripe lists since the last pull and the ledger lacks is in the ledger; return the counts.

    First the events themselves, of the types that are planned for; a known one is left alone. Then the
    charges made in the window whose state is another than ours, and which no work is on its way for: no
    event tells of these any more, so each enters as a ``charge.updated`` of its own. Where the mark is
    older than Stripe's events, an incident names the gap, and the refunds, disputes, payouts and payment
    intents made in it are compared likewise; what changed in the gap on an object that is older than it
    is left to the reconciliation. A shop that was never pulled is read from 30 days ago, as far as events
    reach, whenever the shop was added: its account may be older than that.

    ``since`` reads from there instead of the mark; ``is_dry`` writes nothing and counts what would
    enter. Counts: ``seen``, ``missing``, and per topic what was missing. Empty for a shop that has nothing
    to do with Stripe. Raises a ``WorkError`` where Stripe does not answer: what was entered until then
    stays, and the next run goes on from the mark.
    """
    with transaction() as tx:
        key = find_stripe_key(tx, shop_id)
        marks = {name: find_cursor(tx, shop_id, "stripe", name) for name in (EVENTS, CHARGES)}
    if key is None:
        return {}
    base_url = get_settings().stripe_api_base
    counts: Counter[str] = Counter(seen=0, missing=0)
    pull = _Pull(shop_id, key, base_url, now, request_id, is_dry, list_theirs, clock, ring, counts)
    retained = now - RETENTION
    begins = {name: since or (mark - OVERLAP if mark else retained) for name, mark in marks.items()}
    # Before the events' mark moves, which alone tells of the gap: a crash here finds it again.
    _record_gap(pull, marks[EVENTS], retained)
    for stream in OTHERS:
        for starts, ends in plan_slices(begins[EVENTS], retained):
            _enter_slice(pull, stream, starts, ends)
    for starts, ends in plan_slices(max(begins[EVENTS], retained), now):
        _enter_slice(pull, EVENTS, starts, ends)
    for starts, ends in plan_slices(begins[CHARGES], now):
        _enter_slice(pull, CHARGES, starts, ends)
    return dict(counts)


def plan_slices(begins: datetime, ends: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield [``begins``, ``ends``) in slices of a day at most, oldest first."""
    while begins < ends:
        until = min(begins + SLICE, ends)
        yield begins, until
        begins = until


def _enter_slice(pull: _Pull, stream: str, starts: datetime, ends: datetime) -> None:
    """Everything that the slice of ``stream`` has and we lack is in the ledger, and then its mark moves."""
    asked_at = pull.clock()
    listed = pull.list_theirs(pull.key, pull.base_url, stream, created_gte=starts, created_lt=ends)
    for objects in in_sets(listed, SET_SIZE):
        with transaction() as tx:
            events = _plan(tx, pull, stream, objects, asked_at)
            refs = [] if pull.is_dry else _enter(tx, events)
        pull.counts.update(event.topic for event in events)
        pull.counts.update(seen=len(objects), missing=len(events))
        pull.ring(refs)
    if stream in (EVENTS, CHARGES) and not pull.is_dry:
        with transaction() as tx:
            upsert_cursor(tx, pull.shop_id, "stripe", stream, ends, pull.now)


def _plan(
    tx: Connection, pull: _Pull, stream: str, objects: Sequence[dict[str, Any]], asked_at: datetime
) -> list[NewEvent]:
    """Return what of ``objects`` is to enter."""
    if stream == EVENTS:
        planned = (
            plan_pulled_event(pull.shop_id, e, pull.now, pull.request_id)
            for e in objects
            if isinstance(e, dict)
        )
        events = [event for event in planned if event is not None]
    else:
        events, unreadable = find_changed(tx, pull.shop_id, objects, asked_at, pull.now, pull.request_id)
        if unreadable:
            pull.counts.update(unreadable=unreadable)
    return find_unknown(tx, events)


def _enter(tx: Connection, events: Sequence[NewEvent]) -> list[WorkRef]:
    return [ref for accepted in record_events(tx, events) for ref in accepted.work] if events else []


def _record_gap(pull: _Pull, mark: datetime | None, retained: datetime) -> None:
    """A mark older than Stripe's events is an incident; one that is not, the end of it."""
    if pull.is_dry:
        return
    with transaction() as tx:
        if mark is None or mark >= retained:
            resolve_incident(
                tx, pull.shop_id, GAP_RULE, None, pull.now, "(events were read without a gap again)"
            )
            return
        summary = (
            f"Stripe was last read up to {mark:%Y-%m-%d %H:%M} UTC and lists events since "
            f"{retained:%Y-%m-%d %H:%M} UTC only: objects made since were compared one by one, later changes "
            "of older ones were not; run daily-reconciliation for those days"
        )
        period = mark.date().isoformat()
        record_incidents(tx, [Incident(pull.shop_id, GAP_RULE, period, "P2", summary)], pull.now)
