"""Notifies the channels of what changed: an incident opened, got worse, has no person yet, is open
for long, or ended.

The end of an incident that opened again waits until ``GATHER`` after that: one that comes and goes is open.

The first message of a rule leaves at once. Changes of the same rule at more shops wait ``GATHER`` and leave
as one message, so fifty shops with one fault are two messages. Quiet hours and maintenance windows hold
changes back; what is due when they end leaves then. A P1 waits only for a P1 of its rule,
and one of the fleet only for a P1 of the same subject.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import chain, groupby

from sqlalchemy import Connection

from services.alerts.channel_figures import record_not_planned
from services.alerts.channels import Channel, list_channels
from services.alerts.decide import Change
from services.alerts.figures import CLOCKS_APART
from services.alerts.messages import Notice
from services.alerts.quiet import list_windows
from services.core.locks import lock_objects
from services.core.pg_arrays import arrays
from services.core.sentry import capture_bug
from services.ledger.accept import WorkRef, record_work
from services.ledger.work import FLEET, NewWork

GATHER = timedelta(minutes=5)
REPEAT_AFTER = timedelta(minutes=30)
"""A P1 that nobody acknowledged is sent again after this time; else its holder is reminded without a note."""
ESCALATE_AFTER = timedelta(hours=2)
"""A P1 that is open for so long is sent once more, with two failed actions any incident is.

If it is sent as a P1 late (it was held back, or was a P2), people first have ``REPEAT_AFTER`` for it.
"""

_COLUMNS = """
c.severity, c.rule, c.period, c.summary, c.detail, c.opened_at, coalesce(s.slug, 'fleet') as shop, c.shop_id,
s.timezone, c.reopened_at, c.acknowledged_by, c.resolved_at, c.resolved_by, c.resolved_reason
"""
_ENTRIES = "from incident_entries e where e.incident_id = i.id and e.kind"
_FAILED = f"""
{_ENTRIES} = 'action' and e.detail ->> 'outcome' = 'failed' and e.at >= coalesce(i.reopened_at, i.opened_at)
"""
_FIND_DUE = f"""
with changed as (
  select i.*, split_part(i.rule, ':', 1) as base, case
      when i.status = 'resolved' and i.resolved_by is null and i.reopened_at > %(gathered)s
           and i.reopened_at <= %(latest)s then null
      when i.status = 'resolved' then 'recovered'
      when i.notified_change in ('', 'recovered') then 'opened'
      when i.worsened_at > i.notified_at then 'worsened'
      when (i.escalated_at is null or i.escalated_at < i.reopened_at)
           and (i.severity = 'P1' and coalesce(i.reopened_at, i.opened_at) <= %(escalate)s
                  and (i.notified_change not in ('opened', 'worsened') or i.notified_at <= %(repeat)s)
                or (select count(*) {_FAILED}) >= 2) then 'escalated'
      when i.severity <> 'P1' or (i.notified_at > %(repeat)s and i.notified_at <= %(latest)s) then null
      when i.acknowledged_at is null then 'repeated'
      when i.acknowledged_at <= %(repeat)s
           and not exists (select {_ENTRIES} in ('note', 'action') and e.at > %(repeat)s) then 'reminded'
    end as change, array(select e.text {_FAILED} order by e.id) as failed_actions
    from incidents i
   where i.status = 'open' and (i.snoozed_until is null or i.snoozed_until <= %(now)s)
      or i.status = 'resolved' and i.notified_change not in ('', 'recovered')
)
select c.id, c.base, c.change, c.failed_actions, {_COLUMNS}
  from changed c left join shops s on s.id = c.shop_id
 where c.change is not null
   and (c.change in ('repeated', 'reminded', 'escalated') or not exists (
     select from incidents t
      where t.notified_at > %(gathered)s and t.notified_at <= %(latest)s and t.notified_change = c.change
        and split_part(t.rule, ':', 1) = c.base and (t.id <> c.id or c.change <> 'opened')
        and (c.severity <> 'P1' or t.severity = 'P1' and (c.shop_id is not null or t.rule = c.rule))))
 order by c.base, c.change, c.severity, c.opened_at, shop, c.id
"""  # noqa: S608 - constants only

_FIND_ONE = f"""
select c.id, split_part(c.rule, ':', 1) as base, 'noted' as change, {_COLUMNS}
  from incidents c left join shops s on s.id = c.shop_id where c.id = %(id)s
"""  # noqa: S608

# What another transaction changes just now is sent as it is then, at the next check.
_LOCK_UNCHANGED = "select id from incidents where id = any(%(ids)s) for update skip locked"

# A change that no channel gets (an end, for Sentry) is marked too, without an entry.
_MARK_NOTIFIED = """
with notified as (
  update incidents i set notified_change = v.change, notified_at = %(now)s,
         escalated_at = case when v.change = 'escalated' then %(now)s else i.escalated_at end
    from unnest(%(id)s::bigint[], %(change)s::text[], %(channels)s::text[]) as v(id, change, channels)
   where v.id = i.id
  returning i.id, v.change, v.channels
)
insert into incident_entries (incident_id, at, kind, text)
select id, %(now)s, 'notified', change || ' queued for ' || channels from notified where channels <> ''
"""

_log = logging.getLogger(__name__)


def record_alerts(tx: Connection, now: datetime) -> list[WorkRef]:
    """Record the messages that are due, one for each rule and change; return the work that sends them.

    An incident that no channel gets stays as it is: it is sent once there is such a channel. So does one
    whose message no channel could form: the next call tries again.
    """
    channels = list_channels()
    if not channels or not (due := _find_due(tx, channels, now)):
        return []
    # Beat and each monitor thread run this; the lock prevents two messages about one change.
    lock_objects(tx, [(FLEET, "alerts")])
    locked = {*tx.exec_driver_sql(_LOCK_UNCHANGED, {"ids": [row.id for row in due]}).scalars()}
    found = [row for row in _find_due(tx, channels, now) if row.id in locked]
    work: list[NewWork] = []
    sent: list[tuple[int, str, str]] = []
    for _, group in groupby(found, lambda row: (row.base, row.change)):
        rows = list(group)
        planned = _plan_work(tx, rows, channels, now)
        work += chain.from_iterable(planned.values())
        for row in rows:
            names = [each.name for each in channels if each.takes(row)]
            missing = [name for name in names if name not in planned]
            planned_for = ", ".join(name for name in names if name in planned)
            if planned_for or not missing:
                more = f"; not planned for {', '.join(missing)}" if missing else ""
                sent.append((row.id, row.change, planned_for + more))
    tx.exec_driver_sql(_MARK_NOTIFIED, {**arrays("id change channels", sent), "now": now})
    return record_work(tx, work, now)


def post_note(tx: Connection, incident_id: int, note: str, by: str, now: datetime) -> list[WorkRef]:
    """Record the message that sends ``note`` at once; return its work. Windows do not hold it back.

    Without a channel that gets notes nothing is recorded.
    """
    found = Notice(**tx.exec_driver_sql(_FIND_ONE, {"id": incident_id}).one()._asdict())
    notice = found._replace(note=note.strip(), by=by)
    channels = [channel for channel in list_channels() if channel.takes(notice)]
    return record_work(tx, [*chain.from_iterable(_plan_work(tx, [notice], channels, now).values())], now)


def _find_due(tx: Connection, channels: Sequence[Channel], now: datetime) -> list[Notice]:
    values = {
        "now": now,
        "repeat": now - REPEAT_AFTER,
        "gathered": now - GATHER,
        "escalate": now - ESCALATE_AFTER,
        "latest": now + CLOCKS_APART,
    }
    windows = list_windows(tx, now)
    return [
        row
        for row in (Notice(**row._asdict()) for row in tx.exec_driver_sql(_FIND_DUE, values))
        if (row.change != Change.OPENED or any(channel.takes(row) for channel in channels))
        and not any(window.holds(row.shop_id, row.severity, now) for window in windows)
    ]


def _plan_work(
    tx: Connection, rows: Sequence[Notice], channels: Sequence[Channel], now: datetime
) -> dict[str, list[NewWork]]:
    """Return the work of each channel whose message could be formed."""
    work = {}
    for channel in channels:
        taken = [row for row in rows if channel.takes(row)]
        try:
            with tx.begin_nested():
                planned = channel.plan(tx, taken, now) if taken else []
        except Exception as fault:  # noqa: BLE001 - the other channels still get it
            fields = {
                "channel": channel.name,
                "incident": rows[0].id,
                "error": f"{type(fault).__name__}: {fault}",
            }
            _log.error("alert_not_planned", extra={"fields": fields})
            capture_bug(fault, topic=f"alert:{channel.name}")
            record_not_planned(tx, channel.name)
        else:
            work[channel.name] = planned
    return work
