"""Notifies the channels of what changed: an incident opened, got worse, has no person yet, or ended.

The first message of a rule leaves at once. Changes of the same rule at more shops wait ``GATHER`` and leave
as one message, so fifty shops with one fault are two messages.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row

from services.alerts.channels import CHANNELS, Channel
from services.alerts.rules import RULES
from services.core.locks import lock_objects
from services.core.pg_arrays import arrays
from services.core.settings import get_settings
from services.ledger.accept import WorkRef, record_work
from services.ledger.work import FLEET, NewWork

GATHER = timedelta(minutes=5)
REPEAT_AFTER = timedelta(minutes=30)
"""A P1 that nobody acknowledged is sent again after this time."""
MAX_NAMED = 10
"""Most incidents listed in one message; the others are only counted."""

_FIND_DUE = """
with changed as (
  select i.*, split_part(i.rule, ':', 1) as base, case
      when i.status = 'resolved' then 'recovered'
      when i.notified_change in ('', 'recovered') then 'opened'
      when i.worsened_at > i.notified_at then 'worsened'
      when i.severity = 'P1' and i.acknowledged_at is null and i.notified_at <= %(repeat)s then 'repeated'
    end as change
    from incidents i
   where i.status = 'open' and (i.snoozed_until is null or i.snoozed_until <= %(now)s)
      or i.status = 'resolved' and i.notified_change not in ('', 'recovered')
)
select c.id, c.base, c.change, c.severity, c.rule, c.period, c.summary, c.opened_at, c.resolved_at,
       c.resolved_by, c.resolved_reason, coalesce(s.slug, 'fleet') as shop
  from changed c left join shops s on s.id = c.shop_id
 where c.change is not null
   and not exists (
     select from incidents t
      where t.notified_at > %(gathered)s and t.notified_change = c.change
        and split_part(t.rule, ':', 1) = c.base
        and c.change <> 'repeated' and (t.id <> c.id or c.change <> 'opened'))
 order by c.base, c.change, c.severity, c.opened_at, c.id
"""

_MARK_NOTIFIED = """
with notified as (
  update incidents i set notified_change = v.change, notified_at = %(now)s
    from unnest(%(id)s::bigint[], %(change)s::text[]) as v(id, change) where v.id = i.id
  returning i.id, i.notified_change
)
insert into incident_entries (incident_id, at, kind, text)
select id, %(now)s, 'notified', notified_change || ' sent to ' || %(channels)s from notified
"""


def record_alerts(tx: Connection, now: datetime) -> list[WorkRef]:
    """Record the messages that are due, one for each rule and change; return the work that sends them.

    Without a channel nothing is recorded; open incidents are sent once there is one.
    """
    settings = get_settings()
    channels = [channel for channel in CHANNELS.values() if channel.is_set(settings)]
    values = {"now": now, "repeat": now - REPEAT_AFTER, "gathered": now - GATHER}
    if not channels or not tx.exec_driver_sql(_FIND_DUE, values).first():
        return []
    # Beat and each monitor thread run this; the lock prevents two messages about one change.
    lock_objects(tx, [(FLEET, "alerts")])
    found = tx.exec_driver_sql(_FIND_DUE, values).all()
    work = [
        new
        for _, group in groupby(found, lambda row: (row.base, row.change))
        for new in _plan_work(list(group), channels, now)
    ]
    notified: dict[str, Any] = {**arrays("id change", [(row.id, row.change) for row in found])}
    notified |= {"now": now, "channels": ", ".join(channel.name for channel in channels)}
    tx.exec_driver_sql(_MARK_NOTIFIED, notified)
    return record_work(tx, work, now)


def _plan_work(rows: Sequence[Row[Any]], channels: Sequence[Channel], now: datetime) -> list[NewWork]:
    message = make_message(rows, now)
    return [
        NewWork(
            shop_id=FLEET,
            topic="alert_send",
            key=f"{channel.name}:{message['id']}",
            payload={"channel": channel.name, "message": message},
            origin="alert",
        )
        for channel in channels
    ]


def make_message(rows: Sequence[Row[Any]], now: datetime) -> dict[str, Any]:
    """Return the message about ``rows``, which have one rule and change. It is JSON."""
    first, rule = rows[0], RULES.get(rows[0].base)
    return {
        "id": f"{first.id}-{first.change}-{now:%Y%m%dT%H%M%SZ}",
        "change": first.change,
        "severity": min(row.severity for row in rows),
        "rule": first.base,
        "about": rule.about if rule else first.base.replace("_", " "),
        "action": rule.action if rule else "",
        "at": now.isoformat(),
        "count": len(rows),
        "incidents": [
            {
                "id": row.id,
                "shop": row.shop,
                "rule": row.rule,
                "period": row.period,
                "severity": row.severity,
                "summary": row.summary,
                "opened_at": row.opened_at.isoformat(),
                "resolved_at": row.resolved_at and row.resolved_at.isoformat(),
                "resolved_by": row.resolved_by,
                "resolved_reason": row.resolved_reason,
            }
            for row in rows[:MAX_NAMED]
        ],
    }
