"""Which channels fail: the figures of the rule ``alert_channel_failed``.

A channel fails while nothing got through since one of its messages became dead, since one was recorded that
waits for ``WAITED`` (it is retried, paused, or no worker takes it), or since one could not be formed. Mails
get through if the outbox has a sent mail to ``OPERATOR_EMAIL``.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.alerts.figures import CLOCKS_APART, Figure, Figures
from services.core.settings import get_settings

CHANNEL_FAILED = "alert_channel_failed"
WAITED = timedelta(minutes=15)
NOT_SENT = "alert.not_sent"
"""The code of a message that no worker has tried."""
NOT_PLANNED = "alert.not_planned"
"""The code of a message that could not be formed; the log event ``alert_not_planned`` has the error."""

# Three parts of the work, one for each partial index.
_OF_ALERTS = "origin = 'alert' and shop_id = 0 and topic in ('alert_send', 'mail_send')"
_COLUMNS = (
    f"topic, payload ->> 'channel' as channel, coalesce(error_code, '{NOT_SENT}') as error_code, created_at"
)
_WAITING = f"{_OF_ALERTS} and status in ('pending', 'error') and created_at <= %(since)s"
# By the clock that writes ``sent_at``.
_LATEST = f"clock_timestamp() + interval '{CLOCKS_APART.total_seconds():.0f} s'"
_FAILING = f"""
with failed as (
  select {_COLUMNS}, finished_at as failed_at from work_queue
   where {_OF_ALERTS} and status in ('dead', 'discarded') and status = 'dead'
  union all
  select {_COLUMNS}, created_at from work_queue where {_WAITING} and locked_at is null
  union all
  select {_COLUMNS}, created_at from work_queue where {_WAITING} and locked_at is not null
  union all
  select 'alert_send', name, '{NOT_PLANNED}', not_planned_at, not_planned_at from alert_channels
   where not_planned_at is not null
), found as (
  select coalesce(channel, 'mail') as channel, error_code, created_at, failed_at from failed
)
select distinct on (f.channel) f.channel as subject, f.error_code as code,
       f.created_at as since
  from found f left join alert_channels c on c.name = f.channel
 where (c.sent_at is null or c.sent_at < f.failed_at or c.sent_at > {_LATEST})
   and (f.channel <> 'mail' or not exists (
     select from mail_outbox m
      where m.emptied_at is null and m.created_at > f.created_at - interval '1 day' and m.shop_id is null
        and m.recipient = %(recipient)s and m.status = 'sent' and m.sent_at > f.failed_at
       and m.sent_at <= {_LATEST}))
 order by f.channel, f.failed_at
"""  # noqa: S608 - constants only

_SENT = """
insert into alert_channels (name, sent_at) values (%(name)s, clock_timestamp())
on conflict (name) do update set sent_at = excluded.sent_at
"""
_NOT_PLANNED = """
insert into alert_channels (name, not_planned_at) values (%(name)s, clock_timestamp())
on conflict (name) do update set not_planned_at = excluded.not_planned_at
"""


def record_not_planned(tx: Connection, channel: str) -> None:
    """Record that a message of ``channel`` could not be formed."""
    tx.exec_driver_sql(_NOT_PLANNED, {"name": channel})


def record_sent(tx: Connection, channel: str) -> None:
    """Record that a message got through ``channel``."""
    tx.exec_driver_sql(_SENT, {"name": channel})


def collect_channel_figures(tx: Connection, now: datetime, channels: Collection[str]) -> Figures:
    """Return a figure for each of ``channels`` that fails."""
    values = {"since": now - WAITED, "recipient": get_settings().operator_email}
    found = [row._asdict() for row in tx.exec_driver_sql(_FAILING, values) if row.subject in channels]
    return {CHANNEL_FAILED: [Figure(1.0, subject=one["subject"], detail=one) for one in found]}
