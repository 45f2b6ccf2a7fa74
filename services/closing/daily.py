"""Job ``daily-reconciliation``: closes a shop's day.

It compares the payments with Stripe's, verifies the audit chain end to end, and lists low stock. The summary
is in ``shop_config.last_daily_run``; the owner gets a mail if something is wrong.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection

from services.audit.diagnose import AuditFinding
from services.audit.queries import use_snapshot
from services.audit.signing import make_signer
from services.audit.verify import VerifyOptions, verify_chain
from services.closing.daily_mail import record_anomaly_mail
from services.closing.daily_summary import DailySummary, find_reported_low, record_summary
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import WorkError
from services.core.settings import get_settings
from services.jobs.audit_jobs import record_findings
from services.jobs.handler import JobResult, Run
from services.jobs.schedule import period_bounds
from services.ledger.work import FollowUp
from services.payments.break_mail import MAX_MAILED
from services.payments.breaks import PaymentBreak, format_side, list_day_breaks
from services.payments.reconcile import DayOutcome, reconcile_day
from services.providers.object_store import open_store
from services.shopify.stock.low_stock import LowStock, find_low_stock

MAX_STOCK_AGE = timedelta(hours=36)
"""Stock has only its current state: the run of a day that ended earlier leaves it out."""

MAX_LOGGED = 100
"""Log lines of one run."""

_log = logging.getLogger(__name__)

CompareDay = Callable[[Run], DayOutcome]


class CloseDay:
    """Closes days. ``compare`` compares the payments with Stripe's; ``clock`` dates the summary."""

    def __init__(self, compare: CompareDay = reconcile_day, clock: Callable[[], datetime] = utc_now) -> None:
        self._compare, self._clock = compare, clock

    def __call__(self, run: Run) -> JobResult:
        """Check the day; the result's ``record`` writes the summary.

        If the comparison fails, its error is raised for the ledger to retry or give up; the summary is then
        ``not_compared`` with the error code, next to the results of the other checks.
        """
        assert run.shop_id is not None  # noqa: S101 - the job is per shop
        _, ends = period_bounds(run.covers, run.period, run.zone)
        now = self._clock()
        rows, findings = _verify(run.shop_id)
        low = _find_low(run.shop_id, ends, now) if now - ends < MAX_STOCK_AGE else None
        summary = DailySummary(
            day=date.fromisoformat(run.period), at=now, audit_rows=rows, findings=findings, low_stock=low
        )
        try:
            payments = self._compare(run)
        except WorkError as fault:
            with transaction() as tx:
                record_summary(tx, run.shop_id, summary.not_compared(fault.code))
            raise
        summary = summary.compared(payments.verdict, payments.stats)
        return JobResult(
            stats=summary.stats(),
            result=summary.status,
            record=partial(_record, run, payments, summary),
        )


def _verify(shop_id: int) -> tuple[int, list[AuditFinding]]:
    """Return how many rows of the shop's chain were verified, and the findings.

    Anchors are left to the fleet's own job, which reads each of them once for all shops.
    """
    settings = get_settings()
    wanted = VerifyOptions(shop_id=shop_id, is_one_chain=True, full=True)
    with transaction() as tx:
        use_snapshot(tx)
        verdict = verify_chain(
            tx, shop_id, wanted, make_signer(settings), open_store(settings.archive_url), ()
        )
    return verdict.rows, list(verdict.findings)


def _find_low(shop_id: int, ends: datetime, now: datetime) -> list[LowStock]:
    with transaction() as tx:
        return find_low_stock(tx, shop_id, min(ends, now))


def _record(run: Run, payments: DayOutcome, summary: DailySummary, tx: Connection) -> FollowUp:
    """Write breaks, incidents, the summary and, if something is wrong, a mail."""
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    recorded = payments.record(tx)
    reported = find_reported_low(tx, run.shop_id)
    if summary.findings:
        record_findings(tx, summary.findings, run.period, summary.at)
    record_summary(tx, run.shop_id, summary)
    breaks: Sequence[PaymentBreak] = ()
    if summary.payments == "breaks":
        breaks = list_day_breaks(tx, run.shop_id, summary.day, limit=MAX_MAILED)
    _log_findings(run, breaks, summary.low_stock or ())
    mails = record_anomaly_mail(tx, run.shop_id, summary, breaks, reported, request_id=run.request_id)
    return FollowUp([*recorded.new_work, *mails], recorded.audit)


def _log_findings(run: Run, breaks: Sequence[PaymentBreak], low: Sequence[LowStock]) -> None:
    """Log the findings line by line, for an operator who runs the job by hand."""
    lines: list[tuple[str, dict[str, Any]]] = [
        (f"break: {found.kind}",
         {"subject": found.subject, "id": found.provider_id, "ours": format_side(found.ours),
          "theirs": format_side(found.theirs), "cause": found.cause or "unknown"})
        for found in breaks
    ]  # fmt: skip
    lines += [
        ("low stock",
         {"sku": one.sku, "available": one.available, "reorder_point": one.reorder_point,
          "days_cover": "" if one.days_cover is None else str(one.days_cover)})
        for one in low
    ]  # fmt: skip
    for message, fields in lines[:MAX_LOGGED]:
        _log.info(message, extra={"fields": {"shop_id": run.shop_id, "day": run.period, **fields}})
    if (left := len(lines) - MAX_LOGGED) > 0:
        message = f"and {left} more: fleet payments breaks --day {run.period}"
        _log.info(message, extra={"fields": {"left": left}})
