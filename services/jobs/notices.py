"""The operator is told by mail what cannot wait for the morning: once each, by way of the outbox."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby

from sqlalchemy import Connection

from services.audit.diagnose import Finding
from services.core.settings import get_settings
from services.jobs.overdue import Overdue
from services.ledger.work import NewWork
from services.mail.compose import compose
from services.mail.outbox import record_mails
from services.mail.own_kinds import plan_audit_failed, plan_job_late


def record_late_mails(tx: Connection, overdue: Sequence[Overdue], now: datetime) -> list[NewWork]:
    """One mail for each job and period that did not run, at however many shops; return the work of sending.

    None without an ``OPERATOR_EMAIL``. What was told before is not told again.
    """
    settings = get_settings()
    if not settings.operator_email:
        return []
    mails = []
    for (job, period), group in groupby(sorted(overdue, key=_job_and_period), key=_job_and_period):
        late = list(group)
        first = min(late, key=lambda one: one.due_at)
        many = "1 shop" if len(late) == 1 else f"{len(late)} shops"
        shops = f" at {many}" if first.shop_id is not None else ""
        facts = plan_job_late(
            job=job,
            period=period,
            shop_slug="",
            expected_at=first.due_at,
            zone_name=settings.fleet_timezone,
            grace=first.grace,
            started_at=first.started_at,
            seen=f"{first.status}{shops}",
        )
        mails.append(
            compose(
                "job_late",
                facts,
                shop=None,
                recipient=settings.operator_email,
                period=f"{job} {period}",
                zone=settings.zone,
            )
        )
    return record_mails(tx, mails, now)


def record_audit_mail(
    tx: Connection, finding: Finding, chain: str, period: str, now: datetime, *, request_id: str = ""
) -> list[NewWork]:
    """The operator is told that the chain of ``chain`` (a slug, or ``fleet``) is not as it was written."""
    settings = get_settings()
    if not settings.operator_email:
        return []
    facts = plan_audit_failed(
        chain=chain,
        verdict=finding.kind,
        seq=finding.seq,
        event_id=finding.event_id,
        detail=finding.detail,
        subject=finding.subject,
        found_at=now,
    )
    mail = compose(
        "audit_failed",
        facts,
        shop=None,
        recipient=settings.operator_email,
        period=f"{chain} {period}",
        zone=settings.zone,
    )
    return record_mails(tx, [mail], now, request_id=request_id)


def _job_and_period(late: Overdue) -> tuple[str, str]:
    return (late.job, late.period)
