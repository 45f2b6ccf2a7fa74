"""Rule ``work_dead``: one incident per shop, topic and day for all items that died.

An incident follows its items: its count goes down as they are requeued and done, or discarded, and it is
resolved when none is left. An item that dies again belongs to the day of its last death.
"""

from datetime import datetime

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents, resolve_incident

# One statement, so that dead items and open incidents are of the same moment. A person who resolved an
# incident decided about every death until then.
_FIND = """
with died as (
  select id, shop_id, topic, error_code, finished_at as died_at, true as is_dead from work_queue
   where status in ('dead', 'discarded') and status = 'dead'
   union all
  select id, shop_id, topic, error_code, died_at, false from work_queue
   where died_at is not null and status in ('pending', 'error')
), counted as (
  select shop_id, 'work_dead:' || topic as rule, to_char(died_at at time zone 'UTC', 'YYYY-MM-DD') as period,
         topic, count(*) filter (where is_dead) as dead, count(*) filter (where not is_dead) as requeued,
         min(id) as first_id, max(id) as last_id, max(died_at) as last_died_at,
         (array_agg(error_code order by died_at desc, id desc))[1] as code
    from died group by 1, 2, 3, 4
), listed as (
  select coalesce(shop_id, 0) as shop_id, rule, period from incidents
   where status = 'open' and rule like 'work@_dead:%%' escape '@'
)
select nullif(coalesce(c.shop_id, l.shop_id), 0) as shop_id, coalesce(c.rule, l.rule) as rule,
       coalesce(c.period, l.period) as period, c.topic, c.dead, c.requeued, c.first_id, c.last_id,
       c.code, c.last_died_at
  from counted c full join listed l on (l.shop_id, l.rule, l.period) = (c.shop_id, c.rule, c.period)
 where not exists (
   select from incidents i
    where i.rule = c.rule and coalesce(i.shop_id, 0) = c.shop_id and i.period = c.period
      and i.resolved_by is not null and i.resolved_at >= c.last_died_at)
"""


def record_dead_work(tx: Connection, now: datetime) -> int:
    """Open an incident for dead work; resolve those whose work is done or discarded. Return the changes."""
    changed, incidents = 0, []
    for row in tx.exec_driver_sql(_FIND, {}):
        if row.dead is None:
            how = "All of it is done or discarded."
            changed += resolve_incident(tx, row.shop_id, row.rule, row.period, now, how)
            continue
        summary = f"{row.dead} {row.topic} dead, last: {row.code or '?'}"
        if row.requeued:
            summary += f"; {row.requeued} requeued and not done yet"
        names = ("topic", "requeued", "last_died_at", "first_id", "last_id")
        detail = {"count": row.dead} | {name: getattr(row, name) for name in names}
        incidents.append(Incident(row.shop_id, row.rule, row.period, "P2", summary, detail))
    return changed + record_incidents(tx, incidents, now)
