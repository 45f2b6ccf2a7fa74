"""The channel ``mail``: mails to ``OPERATOR_EMAIL`` about incidents, stored in the outbox.

A mail about a job is for one job and period, with the steps for it. Other mails are for all incidents of
their rule and change.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.alerts.decide import Change
from services.alerts.messages import MAX_NAMED, Notice, describe_escalation, list_steps
from services.alerts.recorded_rules import AUDIT_FAILED, JOB_FAILED, NOT_RUN
from services.alerts.runbook import find_command
from services.core.counts import format_count
from services.core.settings import Settings, get_settings
from services.core.times import format_moment
from services.ledger.work import NewWork
from services.mail.compose import compose_mail
from services.mail.message import Mail, MailType
from services.mail.outbox import record_mails
from services.mail.system_mails import (
    AUDIT_FAILED_MAIL,
    CHAIN_FAULTS,
    INCIDENT_MAIL,
    JOB_LATE_MAIL,
    Step,
    plan_audit_failed,
    plan_incident,
    plan_job_late,
)

ORIGIN = "alert"
"""The origin of the work of alerts, see ``services.alerts.channel_figures``."""


def plan_mails(tx: Connection, rows: Sequence[Notice], now: datetime) -> list[NewWork]:
    """Store the mails about ``rows``, which have one rule and change; return the work that sends them."""
    settings = get_settings()
    groups: dict[tuple[str, str], list[Notice]] = {}
    for row in rows:
        key = (row.rule, row.period) if row.base in (NOT_RUN, JOB_FAILED) else ("", "")
        groups.setdefault(key, []).append(row)
    work = record_mails(tx, [_compose(group, settings, now) for group in groups.values()], now)
    return [replace(one, origin=ORIGIN) for one in work]


def _compose(rows: Sequence[Notice], settings: Settings, now: datetime) -> Mail:
    first, planned = rows[0], None
    if first.change == Change.OPENED and first.base == NOT_RUN:
        planned = _plan_late(rows, settings)
    elif first.change == Change.OPENED and first.base == AUDIT_FAILED:
        planned = _plan_audit(rows)
    mail_type, facts = planned or (INCIDENT_MAIL, _plan_incident(rows, _find_zone(rows, settings), now))
    return compose_mail(
        mail_type,
        facts,
        shop=None,
        recipient=settings.operator_email,
        period=f"{first.rule} {first.period} {first.change} {_format_second(now, first.change)}",
        zone=_find_zone(rows, settings),
    )


def _format_second(now: datetime, change: str) -> str:
    """Return the time in the mail's key: once in a second for an incident, each test for itself."""
    return f"{now:%Y-%m-%dT%H:%M:%S.%fZ}" if change == Change.TEST else f"{now:%Y-%m-%dT%H:%M:%SZ}"


def _find_zone(rows: Sequence[Notice], settings: Settings) -> ZoneInfo:
    """Return the zone of the only shop of ``rows``, else the fleet's."""
    zones = {row.timezone for row in rows}
    return ZoneInfo(zone) if len(zones) == 1 and (zone := zones.pop()) else settings.zone


def _plan_incident(rows: Sequence[Notice], zone: ZoneInfo, now: datetime) -> dict[str, Any]:
    first, job = rows[0], _get_subject(rows[0]) if rows[0].base == JOB_FAILED else ""
    rule = first.rule if all(row.rule == first.rule for row in rows) else first.base
    return plan_incident(
        change=first.change,
        title=f"{job} failed" if job else rule.replace("_", " "),
        severity=min(row.severity for row in rows),
        rule=rule,
        period=str(format_moment(first.period, zone)),
        zone_name=str(zone),
        opened_at=min(row.opened_at for row in rows),
        found=[(row.shop, _describe(row, now)) for row in rows[:MAX_NAMED]],
        count=len(rows),
        steps=_list_steps(rows),
        **({"lead": f"{by} resolved it: {first.resolved_reason}"} if (by := first.resolved_by) else {}),
    )


def _describe(row: Notice, now: datetime) -> str:
    cause = describe_escalation(row, now)
    return f"{row.summary} (escalated because {cause})" if cause else row.summary


def _list_steps(rows: Sequence[Notice]) -> list[Step]:
    first = rows[0]
    if first.change == Change.TEST:
        return [("See the rules.", "fleet alerts list")]
    command = f"show {first.id}" if len(rows) == 1 else f"list --rule {first.base}"
    see: Step = ("See what was found.", f"fleet incidents {command}")
    if first.change == Change.RECOVERED:
        return [see]
    return [see, *((text.replace("`", ""), find_command(text)) for text in list_steps(rows) if text)]


def _plan_late(rows: Sequence[Notice], settings: Settings) -> tuple[MailType, dict[str, Any]] | None:
    if not all(row.detail.get("due_at") and row.detail.get("status") for row in rows):
        return None
    first = min(rows, key=lambda row: str(row.detail["due_at"]))
    names = [row.shop for row in rows]
    many = format_count(len(names), "shop")
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    shops = "" if names == ["fleet"] else f" at {many}: {', '.join(names[:MAX_NAMED])}{more}"
    started_at = first.detail.get("started_at")
    facts = plan_job_late(
        job=_get_subject(first),
        period=first.period,
        shop_slug="",
        expected_at=datetime.fromisoformat(first.detail["due_at"]),
        zone_name=str(_find_zone(rows, settings)),
        grace=timedelta(seconds=first.detail.get("grace_seconds", 0)),
        started_at=datetime.fromisoformat(started_at) if started_at else None,
        seen=f"{first.detail['status']}{shops}",
    )
    return JOB_LATE_MAIL, facts


def _plan_audit(rows: Sequence[Notice]) -> tuple[MailType, dict[str, Any]] | None:
    """Return the facts of one altered chain; None for several chains, which share one mail."""
    (first, *others), detail = rows, rows[0].detail
    if others or detail.get("kind") not in CHAIN_FAULTS or "detail" not in detail:
        return None
    known = {
        name: detail[name] for name in ("kind", "seq", "event_id", "detail", "subject") if name in detail
    }
    return AUDIT_FAILED_MAIL, plan_audit_failed(chain=first.shop, found_at=first.opened_at, **known)


def _get_subject(row: Notice) -> str:
    """Return the part of the rule after the colon, such as a job."""
    return str(row.rule.partition(":")[2])
