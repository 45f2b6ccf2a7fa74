"""Job ``daily-reconciliation``: a shop's day is closed.

Its payments are held against Stripe's, its audit chain is verified end to end, and what runs low is
listed. The summary is in ``shop_config.last_daily_run``; the owner is mailed where something is amiss.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection

from services.audit.diagnose import AuditFinding
from services.audit.queries import use_snapshot
from services.audit.signing import make_signer
from services.audit.verify import VerifyOptions, verify_chain
from services.closing.daily_mail import record_anomaly_mail
from services.closing.daily_summary import DailySummary, find_told_low, record_summary
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import WorkError
from services.core.settings import get_settings
from services.jobs.audit_jobs import record_findings
from services.jobs.handler import JobResult, Run
from services.jobs.schedule import period_bounds
from services.ledger.describe import format_money
from services.ledger.work import FollowUp
from services.payments.break_mail import MAX_MAILED
from services.payments.breaks import PaymentBreak, list_day_breaks
from services.payments.reconcile import DayOutcome, reconcile_day
from services.providers.object_store import open_store
from services.shopify.stock.low_stock import LowStock, find_low_stock

STOCK_IS_NEWS = timedelta(hours=36)
"""Stock is as it is now: the run of an older day has nothing to say of it."""

TOLD_AT_MOST = 100
"""Lines of the log that one run writes of what it found."""

_log = logging.getLogger(__name__)

CompareDay = Callable[[Run], DayOutcome]


class CloseDay:
    """Closes days. ``compare`` holds the payments against Stripe's; ``clock`` dates what was found."""

    def __init__(self, compare: CompareDay = reconcile_day, clock: Callable[[], datetime] = utc_now) -> None:
        self._compare, self._clock = compare, clock

    def __call__(self, run: Run) -> JobResult:
        """Everything of the day was looked at, and the summary says what was found.

        Where Stripe cannot be asked the fault is raised, so that the ledger tries again or a person is
        told; the summary then says ``not_compared`` and why, beside what was found of the rest.
        """
        assert run.shop_id is not None  # noqa: S101 - the job is per shop
        _, ends = period_bounds(run.covers, run.period, run.zone)
        now = self._clock()
        rows, findings = _verify(run.shop_id)
        low = _find_low(run.shop_id, ends, now) if now - ends < STOCK_IS_NEWS else None
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
    """Return how many rows of the shop's chain were hashed again, and what is wrong with it.

    Anchors are the fleet's own job's to compare: it reads each of them once for all shops.
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
    """Breaks, incidents and the summary are written, and a mail is due where something is amiss."""
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    told = payments.record(tx)
    known_low = find_told_low(tx, run.shop_id)
    if summary.findings:
        record_findings(tx, summary.findings, run.period, summary.at)
    record_summary(tx, run.shop_id, summary)
    breaks: Sequence[PaymentBreak] = ()
    if summary.payments == "breaks":
        breaks = list_day_breaks(tx, run.shop_id, summary.day, limit=MAX_MAILED)
    _tell(run, breaks, summary.low_stock or ())
    mails = record_anomaly_mail(tx, run.shop_id, summary, breaks, known_low, request_id=run.request_id)
    return FollowUp([*told.new_work, *mails], told.audit)


def _tell(run: Run, breaks: Sequence[PaymentBreak], low: Sequence[LowStock]) -> None:
    """Log what was found, line by line: whoever runs the job by hand reads it there."""
    lines: list[dict[str, Any]] = [
        {"said": f"break: {found.kind}", "subject": found.subject, "id": found.provider_id,
         "ours": _side(found.ours), "theirs": _side(found.theirs), "cause": found.cause or "unknown"}
        for found in breaks
    ]  # fmt: skip
    lines += [
        {"said": "low stock", "sku": one.sku, "available": one.available, "reorder_point": one.reorder_point,
         "days_cover": "" if one.days_cover is None else str(one.days_cover)}
        for one in low
    ]  # fmt: skip
    for fields in lines[:TOLD_AT_MOST]:
        said = fields.pop("said")
        _log.info(said, extra={"fields": {"shop_id": run.shop_id, "day": run.period, **fields}})
    if len(lines) > TOLD_AT_MOST:
        left = len(lines) - TOLD_AT_MOST
        _log.info(
            f"and {left} more: fleet payments breaks --day {run.period}", extra={"fields": {"left": left}}
        )


def _side(side: Mapping[str, Any] | None) -> str:
    return (
        "nothing"
        if side is None
        else f"{format_money(side['amount_cents'], side['currency'])} {side['status']}"
    )
