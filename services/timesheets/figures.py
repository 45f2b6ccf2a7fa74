"""The figure of reports: those whose newest run failed."""

from datetime import datetime

from sqlalchemy import Connection

from services.alerts.figures import Figures, make_figure
from services.timesheets.follow import FOLLOWED

_FAILED = """
select 1 as value, r.shop_id, p.name as subject, p.name as report, r.period, r.error_code as code
  from reports p
 cross join lateral (
    select * from report_runs where report_id = p.id order by due_at desc limit 1) r
 where r.status = 'failed' and r.due_at > %(since)s
"""


def collect_figures(tx: Connection, now: datetime) -> Figures:
    """Return a figure for each report whose newest run failed."""
    rows = tx.exec_driver_sql(_FAILED, {"since": now - FOLLOWED})
    return {"report_failed": [make_figure(row) for row in rows]}
