"""Topic ``report_send``: makes a report and writes its mails to the outbox, once for each period."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

import orjson
from sqlalchemy import Connection

from services.audit.chain import AuditEntry, Mutation
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.errors import Refused, WorkError
from services.core.log_redaction import quote_value
from services.ledger.work import Done, FollowUp, Outcome, PreparedCall, WorkItem
from services.mail.outbox import record_mails
from services.shops.shops import Shop, get_shop_by_id
from services.timesheets.compose import MadeReport, compose_report, make_report
from services.timesheets.definition import ReportDefinition
from services.timesheets.store import find_report_by_id

_START = """
update report_runs set status = 'pending', work_id = %(work_id)s, failed_at = null, error_code = null,
       error = null
 where id = %(id)s and status in ('pending', 'failed') and mail_ids = '{}'
   and coalesce(work_id, %(work_id)s) = %(work_id)s
returning report_id, period
"""
# The row stays locked until the mails are stored: a report that is removed meanwhile is not sent.
_MARK = """
update report_runs set status = 'mailed' where id = %(id)s and mail_ids = '{}' returning report_id
"""
_STORE = """
update report_runs set stats = %(stats)s::jsonb, mail_ids = %(mail_ids)s::bigint[]
 where id = %(id)s
"""


class ReportSendHandler:
    """Handler of ``report_send``; the payload's ``run`` is a row of ``report_runs``."""

    def prepare(
        self, tx: Connection, items: Sequence[WorkItem], now: datetime
    ) -> Sequence[PreparedCall | Outcome]:
        """Return the call of each item, or ``already_sent`` if its mails are in the outbox."""
        return [self._prepare_one(tx, item, now) for item in items]

    def _prepare_one(self, tx: Connection, item: WorkItem, now: datetime) -> PreparedCall | Outcome:
        run_id = item.payload.get("run")
        if not isinstance(run_id, int):
            return Refused("report.no_run", f"run is {quote_value(run_id)}: use `fleet reports send`")
        row = tx.exec_driver_sql(_START, {"id": run_id, "work_id": item.id}).first()
        report = find_report_by_id(tx, row.report_id) if row else None
        if row is None or report is None:
            return Done("already_sent" if row is None else "removed")
        shop = get_shop_by_id(tx, report.shop_id)
        if shop.removed_at is not None:
            return Done("removed")
        try:
            report.days_of(row.period, shop.zone)
        except ValueError:
            return Refused(
                "report.period_changed",
                f"the report covers a {report.covers} now, and {row.period} is none: `fleet reports send` "
                "starts its newest period",
            )
        return PreparedCall(item=item, act=partial(_act, run_id, report, shop, row.period, now, item))


def _act(
    run_id: int, report: ReportDefinition, shop: Shop, period: str, now: datetime, item: WorkItem
) -> Outcome:
    try:
        made = make_report(report, shop, period, now)
    except WorkError as fault:
        return fault
    return Done(record=partial(_record, run_id, made, shop, item))


def _record(run_id: int, made: MadeReport, shop: Shop, item: WorkItem, tx: Connection) -> FollowUp:
    marked = tx.exec_driver_sql(_MARK, {"id": run_id}).first()
    current = find_report_by_id(tx, marked.report_id) if marked else None
    if current is None:
        return FollowUp()
    made = replace(made, report=replace(made.report, recipients=current.recipients))
    work = record_mails(tx, compose_report(made, shop), utc_now(), request_id=item.request_id)
    mails = [int(one.key) for one in work]
    stats = {**made.stats, "mails": len(mails)}
    values = {"id": run_id, "stats": orjson.dumps(stats).decode(), "mail_ids": mails}
    tx.exec_driver_sql(_STORE, values)
    summary = f"report {made.report.name!r} for {made.period}: {format_count(len(mails), 'mail')}"
    mutation = Mutation("report_runs", str(run_id), summary, None, {"status": "mailed", **stats})
    entry = AuditEntry(shop.id, "report", "report.mail", item.request_id, [mutation], item.id)
    return FollowUp(work, [entry])
