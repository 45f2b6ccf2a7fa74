"""Rules about work: ``work_dead``, an incident per shop, topic and day of dead items, and ``pause_long``, one
per pause that is too long.

The count of ``work_dead`` decreases as items are requeued and done, or discarded; at zero it is resolved. An
item that dies again counts on the day of its last death. The work of a run and of an alert does not count:
``job_failed`` and ``alert_channel_failed`` are its incidents.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.alerts.incidents import Incident, Recovery, record_incidents, resolve_incidents
from services.core.pg_arrays import arrays
from services.core.times import format_time
from services.ledger.pause import MODES, Pause, list_pauses
from services.ledger.work import GAVE_UP

LIMIT = timedelta(hours=4)
"""A pause without an end (``--for``) that is older than this is an incident."""

LONG_PAUSE_RULE = "pause_long"

_RESOLVE_ENDED = """
update incidents i set status = 'resolved', updated_at = %(now)s,
       summary = 'It has ended. Before: ' || i.summary
 where i.status = 'open' and i.rule like 'pause\\_long:%%'
   and not exists (
     select from unnest(%(shop_id)s::int[], %(rule)s::text[], %(period)s::text[]) as v(shop_id, rule, period)
      where v.shop_id is not distinct from i.shop_id and v.rule = i.rule and v.period = i.period)
"""

# One statement: dead items and open incidents of the same moment. A person who resolves an incident has
# decided about all deaths until then.
_FIND_DEAD = """
with died as (
  select id, shop_id, topic, error_code, last_error, finished_at as died_at, true as is_dead from work_queue
   where status in ('dead', 'discarded') and status = 'dead'
     and payload -> 'run' is null and origin <> 'alert'
   union all
  select id, shop_id, topic, error_code, last_error, died_at, false from work_queue
   where died_at is not null and status in ('pending', 'error')
     and payload -> 'run' is null and origin <> 'alert'
), counted as (
  select shop_id, 'work_dead:' || topic as rule, to_char(died_at at time zone 'UTC', 'YYYY-MM-DD') as period,
         topic, count(*) filter (where is_dead) as dead, count(*) filter (where not is_dead) as requeued,
         min(id) as first_id, max(id) as last_id, max(died_at) as last_died_at,
         (array_agg(error_code order by died_at desc, id desc))[1] as code,
         (array_agg(last_error like %(gave_up)s order by died_at desc, id desc))[1] as gave_up
    from died group by 1, 2, 3, 4
), listed as (
  select coalesce(shop_id, 0) as shop_id, rule, period from incidents
   where status = 'open' and rule like 'work@_dead:%%' escape '@'
)
select nullif(coalesce(c.shop_id, l.shop_id), 0) as shop_id, coalesce(c.rule, l.rule) as rule,
       coalesce(c.period, l.period) as period, c.topic, c.dead, c.requeued, c.first_id, c.last_id,
       c.code, c.gave_up, c.last_died_at
  from counted c full join listed l on (l.shop_id, l.rule, l.period) = (c.shop_id, c.rule, c.period)
 where not exists (
   select from incidents i
    where i.rule = c.rule and coalesce(i.shop_id, 0) = c.shop_id and i.period = c.period
      and i.resolved_by is not null and i.resolved_at >= c.last_died_at)
"""


def record_dead_work(tx: Connection, now: datetime) -> int:
    """Open incidents for dead work; resolve those without such work. Return the number of changes."""
    incidents, ended = [], []
    for row in tx.exec_driver_sql(_FIND_DEAD, {"gave_up": f"{GAVE_UP}%"}):
        if row.dead is None:
            ended.append(Recovery(row.shop_id, row.rule, row.period, "All of it is done or discarded."))
            continue
        cause = "all its tries are used" if row.gave_up else "refused, and another try cannot help"
        summary = f"{row.dead} {row.topic} dead, last: {row.code or '?'} ({cause})"
        if row.requeued:
            summary += f"; {row.requeued} requeued and not done yet"
        names = ("topic", "requeued", "last_died_at", "first_id", "last_id")
        detail = {"count": row.dead} | {name: getattr(row, name) for name in names}
        incidents.append(Incident(row.shop_id, row.rule, row.period, "P2", summary, detail))
    return resolve_incidents(tx, ended, now) + record_incidents(tx, incidents, now)


def record_long_pauses(tx: Connection, now: datetime) -> int:
    """Open incidents for pauses past ``LIMIT``; resolve those of ended ones. Return the number of changes."""
    incidents = plan_long_pauses(list_pauses(tx), now)
    changed = record_incidents(tx, incidents, now)
    in_force = arrays("shop_id rule period", [one[:3] for one in incidents])
    return changed + tx.exec_driver_sql(_RESOLVE_ENDED, {**in_force, "now": now}).rowcount


def plan_long_pauses(pauses: Sequence[Pause], now: datetime) -> list[Incident]:
    """Return an incident for each of ``pauses`` that is past ``LIMIT`` at ``now``. Pure."""
    return [
        Incident(
            pause.scope.shop_id,
            f"{LONG_PAUSE_RULE}:{'/'.join(filter(None, pause.scope.names)) or 'everything'}",
            f"{pause.created_at:%Y-%m-%dT%H:%M:%SZ}",
            "P2",
            f"{pause.scope} is paused ({pause.mode}) since {format_time(pause.created_at)} by "
            f"{pause.created_by} and has no end: {pause.reason or 'no reason given'}. "
            "End it with `celery -A tasks resume`, or give it an end with `celery -A tasks pause --for 2h`.",
            {"pause": pause.id, "mode": pause.mode, "scope": pause.scope.options},
        )
        for pause in pauses
        if pause.mode in MODES and pause.ends_at is None and now - pause.created_at > LIMIT
    ]
