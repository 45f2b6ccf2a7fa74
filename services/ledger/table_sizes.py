"""The size of each table by day, and how much each has grown."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

GROWTH_OVER = timedelta(days=7)

_RECORD = """
insert into table_sizes (day, table_name, row_count, byte_count)
select date_trunc('day', %(now)s::timestamptz), relname, n_live_tup, pg_total_relation_size(relid)
  from pg_stat_user_tables where schemaname = 'public' order by relname
on conflict (day, table_name) do nothing
"""
# A table that is not in the oldest measurement of these days did not exist then.
_LIST = """
with first as (
  select day, table_name, byte_count, row_count from table_sizes
   where day = (select min(day) from table_sizes where day >= %(since)s)
)
select t.relname as table_name, t.n_live_tup as row_count, pg_total_relation_size(t.relid) as byte_count,
       t.n_live_tup - coalesce(f.row_count, 0) as rows_grown,
       pg_total_relation_size(t.relid) - coalesce(f.byte_count, 0) as bytes_grown,
       (select min(day) from first) as since
  from pg_stat_user_tables t left join first f on f.table_name = t.relname
 where t.schemaname = 'public'
 order by byte_count desc, t.relname
"""


def record_table_sizes(tx: Connection, now: datetime) -> None:
    """Record the size of each table, once a day (UTC). Rows are PostgreSQL's estimate."""
    tx.exec_driver_sql(_RECORD, {"now": now})


def list_table_sizes(tx: Connection, now: datetime) -> list[Row[Any]]:
    """Return each table with its size and its growth, the largest first.

    Growth is since ``since``, the first measurement of the last ``GROWTH_OVER``; None: none is known yet.
    """
    return list(tx.exec_driver_sql(_LIST, {"since": now - GROWTH_OVER - timedelta(days=1)}))
