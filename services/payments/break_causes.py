"""Suggests a cause, with evidence, for each break of a day.

First finds unfinished work on the object in the ledger. Then lists Stripe's events since the day once, and
compares them with the received events in batches. Source: Stripe API reference, Events: kept for 30 days.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Connection

from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import Misconfigured, Refused
from services.core.fields import find_object
from services.core.pg_arrays import arrays
from services.payments.comparison import IS_STAGED, DayComparison
from services.payments.stripe_lists import batched
from services.providers.delivery import id_text, parse_object
from services.providers.stripe_api import fetch_objects

EVENTS_KEPT = timedelta(days=30)
MAX_EVENTS = 20_000
"""Events that one run reads: 200 pages."""
BATCH_SIZE = 500
MAX_BODIES = 1_000

EVENT_TYPES = (
    "charge.captured", "charge.expired", "charge.failed", "charge.pending", "charge.refunded",
    "charge.succeeded", "charge.updated", "charge.refund.updated", "charge.dispute.created",
    "charge.dispute.updated", "charge.dispute.closed", "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated", "refund.created", "refund.updated", "refund.failed", "payout.created",
    "payout.updated", "payout.paid", "payout.failed",
)  # fmt: skip
"""Stripe accepts at most twenty types in one request."""

# Kinds of breaks that no event can explain.
_SET_KIND_CAUSES = f"""
update reconciliation_staging f
   set cause = case f.kind when 'duplicate' then 'paid_twice' when 'fee' then 'fee_differs'
                           else 'order_differs' end
 where {IS_STAGED} and f.cause = '' and (f.kind in ('duplicate', 'fee') or f.subject = 'order')
"""  # noqa: S608

# Each status has its index.
_OPEN_WORK = "\n  union all\n".join(
    f"""  select id, topic, queue, status, key, event_id from work_queue
   where shop_id = %(shop_id)s and topic in ('transaction_ingest', 'event_fetch') and {condition}"""  # noqa: S608
    for condition in (
        "status in ('dead', 'discarded')",
        "status in ('pending', 'error') and locked_at is null",
        "status in ('pending', 'error') and locked_at is not null",
    )
)

# Unfinished work on the object's key whose event contains its id: a refund's key is that of its charge.
_SET_WORK_CAUSES = f"""
with open as (
{_OPEN_WORK}
), about as (
  select f.kind, f.provider_id, w.id, e.delivery_key,
         case when w.status = 'dead' then 1 when w.status = 'discarded' then 4
              when exists (select 1 from pauses p
                            where p.mode in ('hold', 'refuse') and p.cost is null
                              and coalesce(p.queue, w.queue) = w.queue
                              and coalesce(p.topic, w.topic) = w.topic
                              and coalesce(p.shop_id, %(shop_id)s) = %(shop_id)s) then 2
              else 3 end as rank
    from reconciliation_staging f
   cross join lateral unnest(array[f.provider_id, f.evidence ->> 'parent_id']) as k(key)
    join open w on w.key = k.key
    join inbound_events e on e.id = w.event_id and position(convert_to(f.provider_id, 'UTF8') in e.body) > 0
   where {IS_STAGED} and f.cause = ''
), best as (
  select kind, provider_id, min(rank) as rank,
         (array_agg(delivery_key order by rank, id desc))[1] as delivery_key,
         (array_agg(id order by rank, id desc))[:20] as work_ids
    from about group by kind, provider_id
)
update reconciliation_staging f
   set cause = (array['dead_work', 'paused', 'in_queue', 'discarded_work'])[b.rank],
       cause_event_id = case when b.delivery_key like 'evt%%' then b.delivery_key else '' end,
       evidence = f.evidence || jsonb_build_object('work_ids', to_jsonb(b.work_ids))
  from best b where {IS_STAGED} and f.kind = b.kind and f.provider_id = b.provider_id
"""  # noqa: S608

_FIND_BODIES = f"""
select f.provider_id, e.body
  from reconciliation_staging f
  join transactions t on t.shop_id = f.shop_id and t.provider_id = f.provider_id
  join inbound_events e on e.id = t.event_id and e.provider = 'stripe'
 where {IS_STAGED} and f.cause = '' and f.kind = 'missing_there' order by f.provider_id limit %(limit)s
"""  # noqa: S608

_SET_OTHER_ACCOUNT = f"""
update reconciliation_staging f
   set cause = 'not_ours', evidence = f.evidence || jsonb_build_object('event_from', v.origin)
  from unnest(%(ids)s::text[], %(origins)s::text[]) as v(provider_id, origin)
 where {IS_STAGED} and f.provider_id = v.provider_id and f.kind = 'missing_there'
"""  # noqa: S608

_COUNT_OPEN = f"select count(*) from reconciliation_staging f where {IS_STAGED} and f.cause = ''"  # noqa: S608

# The newest lost event of an object is its cause. The evidence has twenty of them, and the number received.
_SET_LOST_EVENTS = f"""
with listed as (
  select v.event_id, v.object_id, v.created, e.id is not null as is_received
    from unnest(%(event_id)s::text[], %(event_type)s::text[], %(object_id)s::text[], %(created)s::bigint[])
         as v(event_id, type, object_id, created)
    left join inbound_events e on e.shop_id = %(shop_id)s and e.provider = 'stripe' and e.topic = v.type
                              and e.delivery_key = v.event_id
), of_break as (
  select f.kind, f.provider_id, count(*) filter (where t.is_received) as received,
         coalesce(jsonb_agg(t.event_id order by t.created desc, t.event_id) filter (where not t.is_received),
                  '[]') as lost
    from reconciliation_staging f join listed t on t.object_id = f.provider_id
   where {IS_STAGED} and f.cause in ('', 'lost_webhook') group by f.kind, f.provider_id
)
update reconciliation_staging f
   set cause = case when jsonb_array_length(b.lost) > 0 then 'lost_webhook' else f.cause end,
       cause_event_id = case when f.cause_event_id = '' then coalesce(b.lost ->> 0, '')
                             else f.cause_event_id end,
       evidence = f.evidence || jsonb_build_object(
         'lost_events',
         jsonb_path_query_array(coalesce(f.evidence -> 'lost_events', '[]') || b.lost, '$[0 to 19]'),
         'events_here', coalesce((f.evidence ->> 'events_here')::int, 0) + b.received)
  from of_break b where {IS_STAGED} and f.kind = b.kind and f.provider_id = b.provider_id
"""  # noqa: S608

_SET_OTHER_CAUSES = f"""
update reconciliation_staging f
   set cause = case when f.kind = 'missing_there' then 'never_at_stripe'
                    when (f.evidence ->> 'theirs_at')::timestamptz < %(oldest)s then 'too_old_for_events'
                    else 'unknown' end,
       evidence = f.evidence || jsonb_build_object('events', %(listing)s::text)
 where {IS_STAGED} and f.cause = ''
"""  # noqa: S608


def suggest_causes(key: str, base_url: str, comparison: DayComparison) -> None:
    """Set the suggested cause of each staged break of ``comparison``; no transaction is open during a call.

    If the key may not list events, the cause is ``unknown`` and the evidence contains the refusal.
    """
    values = {**comparison._asdict(), "oldest": comparison.now - EVENTS_KEPT}
    with transaction() as tx:
        tx.exec_driver_sql(_SET_KIND_CAUSES, values)
        tx.exec_driver_sql(_SET_WORK_CAUSES, values)
        _mark_other_account(tx, values, is_live="_live_" in key)
        unexplained = tx.exec_driver_sql(_COUNT_OPEN, values).scalar()
    listing = "not needed"
    if unexplained:
        listing = _join_events(key, base_url, comparison, values)
    with transaction() as tx:
        tx.exec_driver_sql(_SET_OTHER_CAUSES, {**values, "listing": listing})


def _mark_other_account(tx: Connection, values: Mapping[str, Any], *, is_live: bool) -> None:
    """Set ``not_ours`` on breaks missing at Stripe whose event came from another mode or account."""
    origins: dict[str, str] = {}
    for provider_id, body in tx.exec_driver_sql(_FIND_BODIES, {**values, "limit": MAX_BODIES}):
        event = parse_object(bytes(body)) or {}
        if account := event.get("account"):
            origins[provider_id] = f"account {str(account)[:64]}"
        elif isinstance(event.get("livemode"), bool) and event["livemode"] is not is_live:
            origins[provider_id] = "live mode" if event["livemode"] else "test mode"
    if origins:
        tx.exec_driver_sql(_SET_OTHER_ACCOUNT, {**values, **arrays("ids origins", origins.items())})


def _join_events(key: str, base_url: str, day: DayComparison, values: Mapping[str, Any]) -> str:
    """Set the cause of the breaks that a lost event explains; return how many events were read."""
    # Most events of an object are of the same day; later ones are updates. Stripe lists newest first.
    oldest = day.now - EVENTS_KEPT
    split_at = min(max(day.ends + timedelta(days=1), oldest), day.now)
    windows = [(max(day.begins, oldest), split_at), (split_at, day.now + timedelta(seconds=1))]
    left = MAX_EVENTS
    try:
        for since, until in windows:
            listed = fetch_objects(
                key, base_url, "events", created_gte=since, created_lt=until, types=list(EVENT_TYPES)
            )
            events = islice((event for event in listed if isinstance(event, dict)), left)
            for batch in batched(events, BATCH_SIZE):
                left -= len(batch)
                with transaction() as tx:
                    tx.exec_driver_sql(_SET_LOST_EVENTS, {**values, **_make_arrays(batch)})
            if left <= 0:
                return f"cut off after {MAX_EVENTS} events"
    except (Misconfigured, Refused) as fault:
        return f"refused: {fault.code}"
    return f"{format_count(MAX_EVENTS - left, 'event')} read"


def _make_arrays(events: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the columns of ``events``; the object of an event without one is empty."""
    rows = []
    for event in events:
        at, source = event.get("created"), find_object(find_object(event, "data"), "object")
        created = at if type(at) is int and 0 <= at < 2**35 else 0
        rows.append(
            (id_text(event.get("id")), id_text(event.get("type")), id_text(source.get("id")), created)
        )
    return arrays("event_id event_type object_id created", rows)
