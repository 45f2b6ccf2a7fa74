"""Job ``run-due-reports``: refreshes tokens, and starts each report whose time has passed, once."""

from contextlib import suppress
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from services.audit.append import Author
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import WorkError
from services.jobs.handler import JobResult, JobRun
from services.jobs.schedule import PeriodInvalid
from services.ledger.accept import record_work
from services.ledger.work import FollowUp
from services.providers.quickbooks_time_oauth import PROVIDER
from services.shops.shops import get_shop_by_id
from services.shops.tokens import get_access_token
from services.timesheets.account import QUICKBOOKS_TIME
from services.timesheets.follow import list_healed
from services.timesheets.store import find_report_by_id, record_due_reports, start_report

_FIND_DUE = """
select shop_id from connections
 where provider = %(provider)s and shop_id is not null and token_expires_at < %(before)s
   and not exists (select from shop_config s
                    where s.shop_id = connections.shop_id and s.settings ? 'removed_at')
 order by token_expires_at
"""


def run_due_reports(run: JobRun) -> JobResult:
    """Refresh the tokens that are due, then start the reports that are due.

    A refresh that fails is recorded on its connection and stops no other company. A report that failed
    because of its company's connection starts again once that works.
    """
    now = utc_now()
    with transaction() as tx:
        values = {"provider": PROVIDER, "before": now + QUICKBOOKS_TIME.good_for}
        due = list(tx.exec_driver_sql(_FIND_DUE, values).scalars())
    failed = 0
    for shop_id in due:
        try:
            get_access_token(QUICKBOOKS_TIME, shop_id, now)
        except WorkError:
            failed += 1
    return JobResult(
        stats={"tokens_due": len(due), "tokens_failed": failed}, record=partial(_record, run.request_id, now)
    )


def _record(request_id: str, now: datetime, tx: Connection) -> FollowUp:
    for report_id, period in list_healed(tx, now):
        report = find_report_by_id(tx, report_id)
        assert report is not None  # noqa: S101 - the run's foreign key
        shop = get_shop_by_id(tx, report.shop_id)
        author: Author = {"by": "job run-due-reports", "now": now, "request_id": request_id}
        with suppress(PeriodInvalid):  # the report covers other periods since
            start_report(tx, report, shop, period, origin="job", **author)
    new = record_due_reports(tx, now)
    record_work(tx, new, now)
    return FollowUp()
