"""Incidents for requests to erase a shop that are not confirmed: P2, and P1 from day 20 on."""

from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents

RULE = "shop_redact_not_confirmed"
URGENT_AFTER = timedelta(days=20)
"""From receipt; ten days before Shopify's deadline."""

_FIND_OPEN = """
select r.id, r.shop_id, s.slug, r.received_at, r.due_at
  from privacy_requests r join shops s on s.id = r.shop_id
 where r.kind = 'shop_redact' and r.status = 'open' and r.confirmed_at is null
 order by r.id
"""


def record_unconfirmed_erasures(tx: Connection, now: datetime) -> None:
    """Every open and unconfirmed request to erase a shop has its incident, one for each request.

    The severity is P2, from ``URGENT_AFTER`` on P1. The summary names the last day, in UTC.
    """
    incidents = []
    for row in tx.exec_driver_sql(_FIND_OPEN):
        severity = "P1" if now - row.received_at >= URGENT_AFTER else "P2"
        summary = (
            f"{row.slug}: shop/redact was received at {row.received_at:%Y-%m-%d %H:%M} UTC and is not "
            f"confirmed: the last day to erase the shop is {row.due_at:%Y-%m-%d}. "
            f"`fleet privacy confirm {row.id} --reason TEXT` erases it; "
            f"`fleet privacy reject {row.id} --reason TEXT` keeps it, where the shop did not leave."
        )
        incidents.append(Incident(row.shop_id, RULE, str(row.id), severity, summary))
    record_incidents(tx, incidents, now)
