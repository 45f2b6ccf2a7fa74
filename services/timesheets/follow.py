"""The result of each report: sent, or failed with the reason; and the notification of a failure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

from services.accounts.notifications import Notification, record_notifications
from services.ledger.accept import WorkRef
from services.providers.quickbooks_time_oauth import PROVIDER

FOLLOWED = timedelta(days=14)
"""A run is followed for so long: a mail that a person sends again later changes its report no more."""

# A mail that no server has yet, and whose work is not dead, may still be sent.
_FOLLOW = """
with open as (
  select r.id, r.mail_ids, w.status in ('dead', 'discarded') as is_dead,
         case w.status when 'discarded' then 'discarded' else w.error_code end as code, w.last_error as error
    from report_runs r left join work_queue w on w.id = r.work_id
   where r.status <> 'sent' and r.due_at > %(since)s
), mails as (
  select o.id, bool_and(m.status = 'sent') as all_sent, max(m.sent_at) as sent_at
    from open o join mail_outbox m on m.id = any(o.mail_ids) group by o.id
), faults as (
  select distinct on (o.id) o.id, coalesce(m.error_code, w.error_code, m.status) as code,
         coalesce(m.last_error, w.last_error, '') as error
    from open o
    join mail_outbox m on m.id = any(o.mail_ids)
    left join work_queue w on w.id = m.work_id
   where m.status in ('refused', 'unknown') or (m.status <> 'sent' and w.status in ('dead', 'discarded'))
   order by o.id, m.id
), found as (
  select o.id, m.sent_at,
         case when m.all_sent then 'sent'
              when f.id is not null or (m.id is null and o.is_dead) then 'failed'
              when m.id is null then 'pending'
              else 'mailed' end as status,
         coalesce(f.code, o.code, '') as code, coalesce(f.error, o.error, '') as error
    from open o left join mails m on m.id = o.id left join faults f on f.id = o.id
)
update report_runs r
   set status = f.status, sent_at = f.sent_at,
       failed_at = case f.status when 'failed' then coalesce(r.failed_at, %(now)s) end,
       error_code = case f.status when 'failed' then f.code end,
       error = case f.status when 'failed' then left(f.error, 500) end
  from found f
 where r.id = f.id
   and (r.status <> f.status or (f.status = 'failed' and r.error_code is distinct from f.code))
returning r.id, r.shop_id, r.report_id, r.period, r.status, r.error_code, r.error,
          (select name from reports p where p.id = r.report_id) as name
"""

_HEALED = """
select r.report_id, r.period from report_runs r
  join connections c on c.shop_id = r.shop_id and c.provider = %(provider)s and c.status = 'ok'
 where r.status = 'failed' and r.mail_ids = '{}' and r.due_at > %(since)s
   and r.error_code like 'quickbooks_time.%%' and c.since > r.failed_at
   and not exists (select from report_runs n where n.report_id = r.report_id and n.due_at > r.due_at)
 order by r.report_id
"""

_BROKEN = """
select shop_id, code, detail, resource, since from connections
 where provider = %(provider)s and status = 'broken' and shop_id is not null
   and not exists (select from shop_config s
                    where s.shop_id = connections.shop_id and s.settings ? 'removed_at')
"""


def follow_reports(tx: Connection, now: datetime) -> list[WorkRef]:
    """Set each open run to its state, and notify admins of failures once; return the work that mails them.

    A run is ``sent`` when the mail server has all its mails. A failed one may become ``sent``: its mails were
    sent again.
    """
    changed = tx.exec_driver_sql(_FOLLOW, {"since": now - FOLLOWED, "now": now}).all()
    failed = [_describe_failure(row) for row in changed if row.status == "failed"]
    broken = [_describe_connection(row) for row in tx.exec_driver_sql(_BROKEN, {"provider": PROVIDER})]
    return record_notifications(tx, [*failed, *broken], now)


def list_healed(tx: Connection, now: datetime) -> Sequence[tuple[int, str]]:
    """Return (report, period) of failed runs whose company's connection works again since."""
    rows = tx.exec_driver_sql(_HEALED, {"provider": PROVIDER, "since": now - FOLLOWED})
    return [(row.report_id, row.period) for row in rows]


def _describe_failure(run: Row[Any]) -> Notification:
    return Notification(
        run.shop_id,
        "report_send_failed",
        f"{run.report_id}/{run.period}/{run.error_code}",
        f"The report {run.name} for {run.period} was not sent: {run.error_code}: {run.error}",
    )


def _describe_connection(one: Row[Any]) -> Notification:
    is_refresh = one.resource == "token refresh"
    text = (
        "QuickBooks Time refuses to refresh the token. Reports go out until the token ends"
        if is_refresh
        else "The connection to QuickBooks Time does not work. No report goes out"
    )
    return Notification(
        one.shop_id,
        "qbt_refresh_failed" if is_refresh else "qbt_token_expired",
        f"{one.since.isoformat()}",
        f"{text}: {one.code}: {one.detail}",
    )
