"""Incidents for work that gave up: one per shop, topic and day, however many items died."""

from datetime import datetime

from sqlalchemy import Connection

_RECORD = """
insert into incidents as i (shop_id, rule, period, severity, summary, detail, opened_at, updated_at)
select nullif(w.shop_id, 0), 'work_dead:' || w.topic, to_char(min(w.finished_at), 'YYYY-MM-DD'), 'P2',
       count(*) || ' ' || w.topic || ' dead, last: ' || coalesce(max(w.error_code), '?'),
       jsonb_build_object('topic', w.topic, 'count', count(*), 'first_id', min(w.id), 'last_id', max(w.id)),
       %(now)s, %(now)s
  from work_queue w
 where w.status = 'dead' and w.finished_at >= date_trunc('day', %(now)s::timestamptz)
 group by w.shop_id, w.topic
on conflict on constraint uq_incidents_identity
do update set summary = excluded.summary, detail = excluded.detail, updated_at = excluded.updated_at
   where i.detail is distinct from excluded.detail
"""


def record_dead_work(tx: Connection, now: datetime) -> int:
    """Today's dead work has its incidents, open and up to date. Returns how many changed."""
    return tx.exec_driver_sql(_RECORD, {"now": now}).rowcount
