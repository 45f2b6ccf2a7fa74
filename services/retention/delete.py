"""Deletes the old rows of one table: in pages, each a short transaction, so that no claim waits for it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.latency import add_sql
from services.core.settings import Settings
from services.retention.rules import EVENTS, RULES, Rule

PAGE_ROWS = 5000
"""Rows that one transaction reads; it changes those that are old."""

Begin = Callable[[], AbstractContextManager[Connection]]

# Only old rows are locked; a row that another transaction has locked is left for the next night.
_DELETE_PAGE = """
with page as (
  select w.ctid as row, w.{key} as key, w.{created} as created
    from {table} w where {scope} and w.{key} >= %(after)s order by w.{key} limit %(limit)s
), old as (
  select w.ctid from {table} w where w.ctid = any(array(select row from page)) and {is_old}
     for update skip locked
), gone as (
  {action} returning w.{return_key} as key
){follow}
select (select count(*) from gone) as gone, count(*) as seen, max(key) as last, min(created) as oldest
  from page
"""

_COUNT = """
select count(*) as rows, min(w.{created}) as oldest,
       (count(*) * pg_total_relation_size('{table}')
         / greatest((select count(*) from {table}), 1))::bigint as bytes
  from {table} w where {scope} and w.{key} >= %(begin)s and w.{created} < %(before)s and {is_old}
"""

# Each worker process has rows of its own, so that none waits for another one.
_MERGE_TOTALS = f"""
with ended as (
  delete from work_stats where minute = %(total)s and worker <> '' and last_at < %(before)s returning *
), summed as (
  select topic, array_agg(total order by n) as timings
    from (select topic, n, sum(value)::bigint as total
            from ended cross join unnest(timings) with ordinality as v(value, n) group by topic, n) counts
   group by topic
)
insert into work_stats as s (minute, topic, worker, done, retried, dead, last_at, timings)
select %(total)s, topic, '', sum(done), sum(retried), sum(dead), max(last_at),
       coalesce((select timings from summed where summed.topic = ended.topic), '{{}}')
  from ended group by topic
on conflict (minute, topic, worker) do update set done = s.done + excluded.done,
   retried = s.retried + excluded.retried, dead = s.dead + excluded.dead,
   last_at = greatest(s.last_at, excluded.last_at), timings = {add_sql("s.timings", "excluded.timings")}
"""  # noqa: S608 - constants only
ENDED_AFTER = timedelta(days=2)
"""A worker process that has settled nothing for this long counts as ended."""


class OldRows(NamedTuple):
    """The old rows of a rule; ``bytes`` is their share of the table and its indexes.

    ``before`` is None if rows of this rule are never old.
    """

    rule: Rule
    before: datetime | None
    rows: int = 0
    oldest: datetime | None = None
    bytes: int = 0


def list_old_rows(tx: Connection, settings: Settings, now: datetime) -> Iterator[OldRows]:
    """Yield what the job would archive, delete or empty now, by rule. Reads whole tables: for people."""
    for rule in (EVENTS, *RULES):
        before = rule.get_before(settings, now)
        if before is None:
            yield OldRows(rule, None)
            continue
        values = {"begin": rule.begin, "before": before}
        row = tx.exec_driver_sql(_fill(_COUNT, rule), values).one()
        yield OldRows(rule, before, row.rows, row.oldest, row.bytes)


def delete_old_rows(
    begin: Begin, rule: Rule, before: datetime, now: datetime, is_late: Callable[[], bool]
) -> int:
    """Delete, or empty, the old rows of ``rule``, until ``is_late``; return how many."""
    statement = _fill(_DELETE_PAGE, rule)
    values: dict[str, Any] = {"after": rule.begin, "limit": PAGE_ROWS, "before": before, "now": now}
    count = 0
    while not is_late():
        with begin() as tx:
            page = tx.exec_driver_sql(statement, values).one()
        count += page.gone
        if page.seen < PAGE_ROWS or page.oldest >= before:
            break
        # Rows of one time may be on two pages, so a page begins with the last time of the one before.
        is_stuck = page.last == values["after"] and not page.gone
        values["after"] = page.last
        if isinstance(page.last, int):
            values["after"] += 1
        elif is_stuck:
            values["after"] += timedelta(microseconds=1)
    return count


def merge_totals(tx: Connection, total: datetime, now: datetime) -> int:
    """Add the totals of ended worker processes to one row of each topic; return how many topics changed."""
    return tx.exec_driver_sql(_MERGE_TOTALS, {"total": total, "before": now - ENDED_AFTER}).rowcount


def _fill(statement: str, rule: Rule) -> str:
    return statement.format(
        table=rule.table,
        key=rule.key,
        created=rule.created,
        scope=rule.scope,
        is_old=rule.is_old,
        action=rule.action.format(table=rule.table, is_picked="w.ctid = any(array(select ctid from old))"),
        follow=f", parts as ({rule.follow})" if rule.follow else "",
        return_key="id" if rule.follow else rule.key,
    )
