"""Incidents for shops that Shopify wants erased and no one has confirmed: P2, and P1 from day 20 on."""

from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents

RULE = "shop_redact_not_confirmed"
URGENT_AFTER = timedelta(days=20)
"""From receipt; ten days before Shopify's time to answer ends."""

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
    for number, shop_id, slug, received_at, due_at in tx.exec_driver_sql(_FIND_OPEN):
        severity = "P1" if now - received_at >= URGENT_AFTER else "P2"
        summary = (
            f"{slug}: shop/redact was received at {received_at:%Y-%m-%d %H:%M} UTC and is not confirmed: "
            f"the last day to erase the shop is {due_at:%Y-%m-%d}. `fleet privacy confirm {number} "
            f"--reason TEXT` erases it; `fleet privacy reject {number} --reason TEXT` keeps it, where the "
            "shop did not leave."
        )
        incidents.append(Incident(shop_id, RULE, str(number), severity, summary))
    record_incidents(tx, incidents, now)
