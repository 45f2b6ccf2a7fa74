"""Stripe backfill: records what Stripe lists and the ledger lacks, as webhooks do.

Events are compared by id, objects by their state.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.fields import Unreadable, as_object, find_object
from services.core.pg_arrays import arrays, text_array
from services.core.pg_copy import fetch_binary
from services.core.settings import get_settings
from services.core.times import format_time
from services.ledger.accept import NewEvent, WorkRef, list_missing_events, record_events
from services.ledger.dispatch import send_messages
from services.ledger.sync_cursors import find_cursor, upsert_cursor
from services.ledger.topics import plan_topic
from services.payments.payload import Transaction, parse_transaction
from services.payments.stripe_key import find_stripe_key
from services.payments.stripe_lists import batched
from services.providers.delivery import find_instant, id_text, parse_object
from services.providers.stripe import stripe_object_key
from services.providers.stripe_api import fetch_objects

EVENTS, CHARGES = "events", "charges"
"""The streams that have a cursor. Without one, reading starts 30 days ago."""

GAP_STREAMS = ("refunds", "disputes", "payouts", "payment_intents")
"""Also read if the cursor is older than Stripe's events."""

RETENTION = timedelta(days=30)
"""Stripe lists no older events. Source: Stripe API reference, "Events"."""

OVERLAP = timedelta(hours=1)
"""Time before the cursor that is read again: an event may appear in the list after a newer one."""

SLICE = timedelta(days=1)
"""The window is read in slices, oldest first. The cursor is stored after each slice."""

BATCH_SIZE = 500
GAP_RULE = "stripe_events_gap"

INGEST = "transaction_ingest"

CLOCK_SKEW = timedelta(minutes=1)
"""How far our clock may be ahead of Stripe's. A fetched state is dated this much earlier, so that every event
that Stripe dates later replaces it."""

_ANY_TIME = datetime.fromtimestamp(0, UTC)
_TOPICS = {"dispute": "charge.dispute.updated"}

_FIND_CHANGED = """
select v.provider_id, coalesce(extract(epoch from t.version_at)::bigint, 0) as version
  from unnest(%(provider_id)s::text[], %(digest)s::text[]) as v(provider_id, digest)
  left join transactions t on t.shop_id = %(shop_id)s and t.provider_id = v.provider_id
 where t.content_digest is distinct from v.digest and coalesce(t.version_at < %(seen_at)s, true)
"""

# Pending work and locked work: each half has its index.
_FIND_WAITING = """
select e.body from (
  select event_id from work_queue
   where topic = %(topic)s and shop_id = %(shop_id)s and key = any(%(key)s::text[])
     and status in ('pending', 'error') and locked_at is null
   union all
  select event_id from work_queue
   where topic = %(topic)s and key = any(%(key)s::text[]) and shop_id = %(shop_id)s
     and status in ('pending', 'error') and locked_at is not null
) w join inbound_events e on e.id = w.event_id
"""


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
    """Record what Stripe lists since the last run and the ledger lacks; return the counts.

    Records the events of the planned types. Then records a ``charge.updated`` for each charge of the window
    that differs from its row and has no waiting work. If the cursor is older than Stripe's events, opens an
    incident for the gap, and compares the objects of ``GAP_STREAMS`` created in the gap. Changes of older
    objects in the gap are found by the reconciliation only.

    ``since`` replaces the cursor; ``is_dry`` only counts. Counts: ``seen``, ``missing``, ``unreadable`` if
    any, and the missing events by topic. Empty for a shop without Stripe. Raises a ``WorkError`` if Stripe
    does not answer; the next run continues from the cursor.
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
        # Before the cursor of the events changes: only that cursor shows the gap, and a retry must find it.
        _record_gap(shop_id, cursors[EVENTS], retained, now)
    windows = [(stream, begins[EVENTS], retained) for stream in GAP_STREAMS]
    windows += [(EVENTS, max(begins[EVENTS], retained), now), (CHARGES, begins[CHARGES], now)]
    for stream, starts, ends in (
        (name, *bounds) for name, first, last in windows for bounds in plan_slices(first, last)
    ):
        requested_at = clock()
        listed = fetch_objects(key, base_url, stream, created_gte=starts, created_lt=ends)
        for objects in batched(listed, BATCH_SIZE):
            with transaction() as tx:
                if stream == EVENTS:
                    events = plan_events(shop_id, objects, now, request_id)
                else:
                    events, unreadable = find_changed_objects(
                        tx, shop_id, objects, requested_at, now, request_id
                    )
                    counts.update({"unreadable": unreadable} if unreadable else {})
                events = list_missing_events(tx, events)
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
            note = "Events are read without a gap again."
            resolve_incident(tx, shop_id, GAP_RULE, None, now, note)
            return
        summary = (
            f"Stripe was last read up to {format_time(cursor)} and lists events since "
            f"{format_time(retained)} only: objects created since were compared one by one, later "
            "changes of older ones were not; run daily-reconciliation for those days"
        )
        period = cursor.date().isoformat()
        record_incidents(tx, [Incident(shop_id, GAP_RULE, period, "P2", summary)], now)


def plan_events(shop_id: int, events: Iterable[Any], now: datetime, request_id: str) -> list[NewEvent]:
    """Return Stripe's ``events`` as events of the ledger, without those of unused types.

    The body is rendered here: it is not the signed one. Stripe may list an event in another API version than
    the webhook's; ``payload`` parses both.
    """
    planned = []
    for event in events:
        fields = event if isinstance(event, dict) else {}
        topic, event_id = id_text(fields.get("type")), id_text(fields.get("id"))
        work = plan_topic("stripe", topic)
        if work is not None and work.name == INGEST and event_id:
            planned.append(
                NewEvent(
                    shop_id=shop_id,
                    provider="stripe",
                    topic=topic,
                    delivery_key=event_id,
                    body=orjson.dumps(fields),
                    received_at=now,
                    occurred_at=find_instant(fields.get("created")),
                    request_id=request_id,
                    origin="backfill",
                    key=stripe_object_key(fields),
                )
            )
    return planned


def make_state_event(
    source: Mapping[str, Any], event_id: str, requested_at: datetime, *, not_before: datetime | None = None
) -> dict[str, Any]:
    """Return an event of Stripe's form (``charge.updated``) with the current state of ``source``.

    A fetched object is recorded like a webhook, so that it has the same parser, order and audit.
    ``requested_at`` is the time before the call; ``not_before`` the date of an event that the state includes.
    """
    seen_at = requested_at - CLOCK_SKEW
    kind = str(source.get("object", ""))
    return {
        "id": event_id,
        "object": "event",
        "type": _TOPICS.get(kind, f"{kind}.updated"),
        "created": int(max(seen_at, not_before or seen_at).timestamp()),
        "livemode": source.get("livemode", False),
        "data": {"object": source},
    }


def find_changed_objects(
    tx: Connection,
    shop_id: int,
    objects: Sequence[Mapping[str, Any]],
    requested_at: datetime,
    now: datetime,
    request_id: str,
) -> tuple[list[NewEvent], int]:
    """Return an event for each object whose state differs from its row, and the number of unreadable objects.

    Leaves out an object with an event newer than the call, and a state in an event whose work waits. The
    event id contains the row's version: a state that occurs again later is a new event.
    """
    seen_at = requested_at - CLOCK_SKEW
    parsed: dict[str, tuple[Transaction, Mapping[str, Any]]] = {}
    unreadable = 0
    for source in objects:
        try:
            state = parse_transaction(as_object(source, "entry"), shop_id=shop_id, version_at=seen_at)
        except Unreadable:
            unreadable += 1
        else:
            parsed |= {state.provider_id: (state, source)} if state else {}
    if not parsed:
        return [], unreadable
    digests = [(provider_id, state.content_digest) for provider_id, (state, _) in parsed.items()]
    values = arrays("provider_id digest", digests) | {"shop_id": shop_id, "seen_at": seen_at}
    versions = {row.provider_id: row.version for row in tx.exec_driver_sql(_FIND_CHANGED, values)}
    waiting = _find_waiting(tx, shop_id, [parsed[provider_id][1] for provider_id in versions])
    changed = []
    for provider_id, version in versions.items():
        state, source = parsed[provider_id]
        if state.content_digest not in waiting[provider_id]:
            event_id = f"pull:{provider_id}:{state.content_digest}:{version}"
            changed.append(make_state_event(source, event_id, requested_at))
    return plan_events(shop_id, changed, now, request_id), unreadable


def _find_waiting(tx: Connection, shop_id: int, objects: Sequence[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Return, per object, the digests of the states in events whose work waits."""
    digests: dict[str, set[str]] = defaultdict(set)
    if objects:
        keys = text_array([stripe_object_key({"data": {"object": source}}) for source in objects])
        values = {"shop_id": shop_id, "topic": INGEST, "key": keys}
        for (body,) in fetch_binary(tx, _FIND_WAITING, values):
            source = find_object(find_object(parse_object(bytes(body)) or {}, "data"), "object")
            with suppress(Unreadable):
                state = parse_transaction(as_object(source, "entry"), shop_id=shop_id, version_at=_ANY_TIME)
                if state is not None:
                    digests[state.provider_id].add(state.content_digest)
    return digests
