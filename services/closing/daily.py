"""Job ``daily-reconciliation``: closes a shop's day.

It compares the payments with Stripe's, verifies the audit chain end to end, lists low stock and counts the
requests that failed. The summary is in ``shop_config.last_daily_run``; the owner gets a mail if something is
wrong.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from services.audit.diagnose import AuditFinding
from services.audit.queries import use_snapshot
from services.audit.signing import make_signer
from services.audit.verify import VerifyOptions, verify_chain
from services.closing.daily_mail import MAX_MAILED, record_anomaly_mail
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import WorkError
from services.core.settings import get_settings
from services.jobs.audit_jobs import record_findings
from services.jobs.handler import JobResult, JobRun, JobWork
from services.jobs.schedule import period_bounds
from services.ledger.request_errors import count_requests
from services.ledger.work import FollowUp
from services.payments.breaks import PaymentBreak, format_side, list_day_breaks
from services.payments.reconcile import reconcile_day
from services.providers.object_store import open_store
from services.shopify.stock.low_stock import LowStock, list_low_stock

MAX_STOCK_AGE = timedelta(hours=36)
"""Stock has no history, so a run for a day that ended earlier does not check it."""

MAX_LEVELS = 500
"""Low levels that the summary lists, the lowest first; all are counted."""

_LEVEL_FIELDS = ("sku", "location_id", "available", "reorder_point", "sold_30d")

MAX_LOGGED = 100
"""Log lines of one run."""

# The run of an older day does not replace a newer summary. A summary without reported levels keeps the
# earlier ones.
_RECORD = """
insert into shop_config as c (shop_id, last_daily_run) values (%(shop_id)s, %(summary)s::jsonb)
on conflict (shop_id) do update set
   last_daily_run = jsonb_build_object('low_told', coalesce(c.last_daily_run -> 'low_told', '[]'::jsonb))
                    || excluded.last_daily_run
 where coalesce(c.last_daily_run ->> 'day', '') <= excluded.last_daily_run ->> 'day'
"""

_FIND_REPORTED_LOW = """
select coalesce(last_daily_run -> 'low_told', '[]') from shop_config where shop_id = %(shop_id)s
"""

_log = logging.getLogger(__name__)


class DayChecks(NamedTuple):
    """The checks of a day except the payments. ``low_stock`` is None if stock was not checked."""

    shop_id: int
    day: date
    at: datetime
    audit_rows: int
    findings: Sequence[AuditFinding]
    low_stock: Sequence[LowStock] | None
    requests: dict[str, int]


def check_day(
    run: JobRun, *, compare: JobWork = reconcile_day, clock: Callable[[], datetime] = utc_now
) -> JobResult:
    """Check the day; ``clock`` dates the summary, which the result's ``record`` writes.

    If the comparison fails, raises its error. The summary is then ``not_compared``, with the error code and
    the results of the other checks.
    """
    checks = _check(run, clock())
    try:
        payments = compare(run)
    except WorkError as fault:
        outcome = JobResult(result="not_compared")
        with transaction() as tx:
            _record_summary(tx, checks, _plan_summary(checks, outcome, {"error_code": fault.code}))
        raise
    summary = _plan_summary(checks, payments, {})
    low = {} if checks.low_stock is None else {"low_stock": len(checks.low_stock)}
    audit = {"audit_rows": checks.audit_rows, "audit_findings": len(checks.findings)}
    return JobResult(
        stats={**payments.stats, **low, **audit},
        result=summary["status"],
        record=partial(_record, run, checks, payments, summary),
    )


def _check(run: JobRun, now: datetime) -> DayChecks:
    """Verify the audit chain without its anchors (a fleet job verifies those); find low stock."""
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    begins, ends = period_bounds(run.covers, run.period, run.zone)
    settings = get_settings()
    options = VerifyOptions(shop_id=run.shop_id, is_one_chain=True, full=True)
    with transaction() as tx:
        use_snapshot(tx)
        store = open_store(settings.archive_url)
        chain = verify_chain(tx, run.shop_id, options, make_signer(settings), store, ())
    with transaction() as tx:
        requests = count_requests(tx, run.shop_id, begins, ends)
    low_stock = None
    if now - ends < MAX_STOCK_AGE:
        with transaction() as tx:
            low_stock = list_low_stock(tx, run.shop_id, min(ends, now))
    day, findings = date.fromisoformat(run.period), list(chain.findings)
    return DayChecks(run.shop_id, day, now, chain.rows, findings, low_stock, requests)


def _plan_summary(checks: DayChecks, payments: JobResult, error: dict[str, str]) -> dict[str, Any]:
    """Return the stored JSON; without an ``error`` with ``low_told``, the levels reported to the owner."""
    low, low_stock, reported = checks.low_stock, None, {}
    if low is not None:
        levels = [
            {name: getattr(one, name) for name in _LEVEL_FIELDS}
            | {"days_cover": None if one.days_cover is None else str(one.days_cover)}
            for one in low[:MAX_LEVELS]
        ]
        low_stock = {"count": len(low), "levels": levels}
        if not error:
            reported = {"low_told": [[one.sku, one.location_id] for one in low]}
    return {
        "day": checks.day.isoformat(),
        "at": checks.at.isoformat(),
        "status": "audit_failed" if checks.findings else payments.result,
        **payments.stats,
        "payments": payments.result,
        **error,
        "audit": {
            "verified": not checks.findings,
            "rows": checks.audit_rows,
            "findings": [str(finding) for finding in checks.findings[:10]],
        },
        "requests": checks.requests,
        "low_stock": low_stock,
        **reported,
    }


def _record_summary(tx: Connection, checks: DayChecks, summary: dict[str, Any]) -> None:
    """Write ``summary`` to ``shop_config.last_daily_run``, unless that is of a later day."""
    tx.exec_driver_sql(_RECORD, {"shop_id": checks.shop_id, "summary": orjson.dumps(summary).decode()})


def _record(
    run: JobRun, checks: DayChecks, payments: JobResult, summary: dict[str, Any], tx: Connection
) -> FollowUp:
    """Write the breaks, the incidents, the summary, and a mail if something is wrong."""
    recorded = payments.record(tx) if payments.record else FollowUp()
    reported = tx.exec_driver_sql(_FIND_REPORTED_LOW, {"shop_id": checks.shop_id}).scalar() or []
    if checks.findings:
        record_findings(tx, checks.findings, run.period, checks.at)
    _record_summary(tx, checks, summary)
    breaks: Sequence[PaymentBreak] = ()
    if payments.result == "breaks":
        breaks = list_day_breaks(tx, checks.shop_id, checks.day, limit=MAX_MAILED)
    low = checks.low_stock or ()
    _log_findings(run, breaks, low)
    newly_low = [one for one in low if [one.sku, one.location_id] not in reported]
    mails = record_anomaly_mail(tx, run, checks.day, breaks, newly_low, low, checks.findings, now=checks.at)
    return FollowUp([*recorded.new_work, *mails], recorded.audit)


def _log_findings(run: JobRun, breaks: Sequence[PaymentBreak], low: Sequence[LowStock]) -> None:
    """Log the findings line by line, for an operator who runs the job by hand."""
    lines: list[tuple[str, dict[str, Any]]] = [
        ("payment_break",
         {"kind": found.kind, "subject": found.subject, "id": found.provider_id,
          "ours": format_side(found.ours), "theirs": format_side(found.theirs),
          "cause": found.cause or "unknown"})
        for found in breaks
    ]  # fmt: skip
    lines += [
        ("low_stock",
         {"sku": one.sku, "available": one.available, "reorder_point": one.reorder_point,
          "days_cover": "" if one.days_cover is None else str(one.days_cover)})
        for one in low
    ]  # fmt: skip
    for message, fields in lines[:MAX_LOGGED]:
        _log.info(message, extra={"fields": {"shop_id": run.shop_id, "day": run.period, **fields}})
    if (left := len(lines) - MAX_LOGGED) > 0:
        fields = {"count": left, "next": f"fleet payments breaks --day {run.period}"}
        _log.info("findings_not_logged", extra={"fields": fields})
