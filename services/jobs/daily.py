"""The nightly reconciliation of every shop, planned once its own day is over."""

import logging
from collections.abc import Iterable
from datetime import date, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import Connection

from services.core.arrays import text_array
from services.jobs.due import find_due_day
from services.ledger.work import NewWork

JOB = "daily-reconciliation"
TOPIC = "reconcile"

_log = logging.getLogger(__name__)

_FIND_ZONES = "select distinct timezone from shops"

# "Due and not done", not "now is midnight": a beat that was away plans it when it is back, two beats
# plan it once. A shop that opened today has no yesterday.
_ANNOUNCE = """
insert into job_runs (job, shop_id, period, started_at, status, origin)
select %(job)s, s.id, v.day, %(now)s, 'running', 'beat'
  from unnest(%(zone)s::text[], %(day)s::text[]) as v(zone, day)
  join shops s on s.timezone = v.zone and (s.created_at at time zone s.timezone)::date <= v.day::date
 order by s.id
on conflict (job, shop_id, period) do nothing
returning shop_id, period
"""


def plan_due_reconciliations(tx: Connection, now: datetime) -> list[NewWork]:
    """Every shop whose yesterday is not yet reconciled has its run announced; return the work to do.

    Only yesterday: older days that were missed are a person's to ask for. Called as often as one likes.
    """
    days = _due_days((row[0] for row in tx.exec_driver_sql(_FIND_ZONES)), now)
    if not days:
        return []
    rows = tx.exec_driver_sql(
        _ANNOUNCE,
        {
            "job": JOB,
            "now": now,
            "zone": text_array(list(days)),
            "day": text_array([day.isoformat() for day in days.values()]),
        },
    )
    return [
        NewWork(shop_id=shop_id, topic=TOPIC, key=period, payload={"day": period}, origin="beat")
        for shop_id, period in rows
    ]


def _due_days(zones: Iterable[str], now: datetime) -> dict[str, date]:
    days: dict[str, date] = {}
    for zone in zones:
        try:
            days[zone] = find_due_day(ZoneInfo(zone), now)
        except (ZoneInfoNotFoundError, ValueError):
            # One shop's bad row must not keep every other shop's night from running.
            _log.error("timezone %r of some shop is unknown here: its jobs are not planned", zone)
    return days
