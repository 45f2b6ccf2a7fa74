"""Stripe backfill: what Stripe lists and the ledger lacks enters as a webhook would have."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.ledger.accept import WorkRef, record_events
from services.ledger.dispatch import send_messages
from services.ledger.sync_cursors import find_cursor, upsert_cursor
from services.payments.backfill_diff import find_changed_objects, find_missing_events, plan_events
from services.payments.balance import in_batches
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


def backfill_stripe(
    shop_id: int,
    now: datetime,
    request_id: str = "",
    *,
    since: datetime | None = None,
    is_dry: bool = False,
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
    base_url, counts = get_settings().stripe_api_base, Counter(seen=0, missing=0)
    retained = now - RETENTION
    begins = {name: since or (cursor - OVERLAP if cursor else retained) for name, cursor in cursors.items()}
    if not is_dry:
        # Before the cursor of the events moves, which alone shows the gap: after a crash it is found again.
        _record_gap(shop_id, cursors[EVENTS], retained, now)
    windows = [(stream, begins[EVENTS], retained) for stream in OTHERS]
    windows += [(EVENTS, max(begins[EVENTS], retained), now), (CHARGES, begins[CHARGES], now)]
    for stream, starts, ends in (
        (name, *part) for name, first, last in windows for part in plan_slices(first, last)
    ):
        asked_at = clock()
        listed = list_objects(key, base_url, stream, created_gte=starts, created_lt=ends)
        for objects in in_batches(listed, BATCH_SIZE):
            with transaction() as tx:
                if stream == EVENTS:
                    events = plan_events(shop_id, objects, now, request_id)
                else:
                    events, odd = find_changed_objects(tx, shop_id, objects, asked_at, now, request_id)
                    counts.update({"unreadable": odd} if odd else {})
                events = find_missing_events(tx, events)
                accepted = record_events(tx, events) if events and not is_dry else []
            counts.update(event.topic for event in events)
            counts.update(seen=len(objects), missing=len(events))
            notify([ref for each in accepted for ref in each.work])
        if stream in cursors and not is_dry:
            with transaction() as tx:
                upsert_cursor(tx, shop_id, "stripe", stream, ends, now)
    return dict(counts)


def plan_slices(begins: datetime, ends: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield [``begins``, ``ends``) in slices of at most a day, oldest first."""
    while begins < ends:
        until = min(begins + SLICE, ends)
        yield begins, until
        begins = until


def _record_gap(shop_id: int, cursor: datetime | None, retained: datetime, now: datetime) -> None:
    """Open an incident if the cursor is older than Stripe's events, else resolve it."""
    with transaction() as tx:
        if cursor is None or cursor >= retained:
            note = "(events were read without a gap again)"
            resolve_incident(tx, shop_id, GAP_RULE, None, now, note)
            return
        summary = (
            f"Stripe was last read up to {cursor:%Y-%m-%d %H:%M} UTC and lists events since "
            f"{retained:%Y-%m-%d %H:%M} UTC only: objects created since were compared one by one, later "
            "changes of older ones were not; run daily-reconciliation for those days"
        )
        period = cursor.date().isoformat()
        record_incidents(tx, [Incident(shop_id, GAP_RULE, period, "P2", summary)], now)
