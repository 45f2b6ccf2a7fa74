"""The statements of ``services.payments.causes``: each suggests one kind of cause for all breaks it explains.

Parameters: shop_id, day, token (which breaks), now, oldest (before it Stripe has no events).
"""

_MINE = "f.shop_id = %(shop_id)s and f.day = %(day)s and f.token = %(token)s"

OWN_KINDS = f"""
update reconciliation_staging f set cause = case f.kind when 'duplicate' then 'paid_twice' when
'fee' then 'fee_differs'
                                              else 'order_differs' end
 where {_MINE} and f.cause = '' and (f.kind in ('duplicate', 'fee') or f.subject = 'order')
"""  # noqa: S608
"""Breaks that no event explains: both books may well know the same."""

OUR_WORK = f"""
with open as (
  select id, topic, queue, status, key, event_id from work_queue
   where shop_id = %(shop_id)s and topic in ('transaction_ingest', 'event_fetch')
     and status in ('dead', 'discarded')
  union all
  select id, topic, queue, status, key, event_id from work_queue
   where shop_id = %(shop_id)s and topic in ('transaction_ingest', 'event_fetch')
     and status in ('pending', 'error') and locked_at is null
  union all
  select id, topic, queue, status, key, event_id from work_queue
   where shop_id = %(shop_id)s and topic in ('transaction_ingest', 'event_fetch')
     and status in ('pending', 'error') and locked_at is not null
), about as (
  select f.kind, f.provider_id, w.id, e.delivery_key,
         case when w.status = 'dead' then 1 when w.status = 'discarded' then 4
              when exists (select 1 from pauses p
                            where p.mode in ('hold', 'refuse') and coalesce(p.queue, w.queue) = w.queue
                              and coalesce(p.topic, w.topic) = w.topic
                              and coalesce(p.shop_id, %(shop_id)s) = %(shop_id)s) then 2
              else 3 end as rank
    from reconciliation_staging f
   cross join lateral unnest(array[f.provider_id, f.evidence ->> 'parent_id']) as k(key)
    join open w on w.key = k.key
    join inbound_events e on e.id = w.event_id and position(convert_to(f.provider_id, 'UTF8') in e.body) > 0
   where {_MINE} and f.cause = ''
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
  from best b where {_MINE} and f.kind = b.kind and f.provider_id = b.provider_id
"""  # noqa: S608
"""Unfinished work on the object's key whose event names the object: a refund's is keyed by its charge."""

FIND_BODIES = f"""
select f.provider_id, e.body
  from reconciliation_staging f
  join transactions t on t.shop_id = f.shop_id and t.provider_id = f.provider_id
  join inbound_events e on e.id = t.event_id and e.provider = 'stripe'
 where {_MINE} and f.cause = '' and f.kind = 'missing_there' order by f.provider_id limit %(limit)s
"""  # noqa: S608

NOT_OURS = f"""
update reconciliation_staging f set cause = 'not_ours', evidence = f.evidence ||
jsonb_build_object('event_from',
    v.told)
  from unnest(%(ids)s::text[], %(froms)s::text[]) as v(provider_id, told)
 where {_MINE} and f.provider_id = v.provider_id and f.kind = 'missing_there'
"""  # noqa: S608

COUNT_OPEN = f"select count(*) from reconciliation_staging f where {_MINE} and f.cause = ''"  # noqa: S608

# The newest lost event of an object is its cause, the first twenty are kept; known ones are counted.
LOST_EVENTS = f"""
with told as (
  select v.event_id, v.object_id, v.created, e.id is not null as is_here
    from unnest(%(event_id)s::text[], %(event_type)s::text[], %(object_id)s::text[], %(created)s::bigint[])
         as v(event_id, type, object_id, created)
    left join inbound_events e on e.shop_id = %(shop_id)s and e.provider = 'stripe' and e.topic = v.type
                              and e.delivery_key = v.event_id
), of_break as (
  select f.kind, f.provider_id, count(*) filter (where t.is_here) as here,
         coalesce(jsonb_agg(t.event_id order by t.created desc, t.event_id) filter (where not t.is_here),
                  '[]') as lost
    from reconciliation_staging f join told t on t.object_id = f.provider_id
   where {_MINE} and f.cause in ('', 'lost_webhook') group by f.kind, f.provider_id
)
update reconciliation_staging f
   set cause = case when jsonb_array_length(b.lost) > 0 then 'lost_webhook' else f.cause end,
       cause_event_id = case when f.cause_event_id = '' then coalesce(b.lost ->> 0,
           '') else f.cause_event_id end,
       evidence = f.evidence || jsonb_build_object(
         'lost_events', jsonb_path_query_array(coalesce(f.evidence -> 'lost_events', '[]') || b.lost,
             '$[0 to 19]'),
         'events_here', coalesce((f.evidence ->> 'events_here')::int, 0) + b.here)
  from of_break b where {_MINE} and f.kind = b.kind and f.provider_id = b.provider_id
"""  # noqa: S608

REST = f"""
update reconciliation_staging f
   set cause = case when f.kind = 'missing_there' then 'never_at_stripe'
                    when (f.evidence ->> 'theirs_at')::timestamptz < %(oldest)s then 'too_old_for_events'
                    else 'unknown' end,
       evidence = f.evidence || jsonb_build_object('events', %(listing)s::text)
 where {_MINE} and f.cause = ''
"""  # noqa: S608
