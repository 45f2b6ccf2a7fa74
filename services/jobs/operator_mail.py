"""Mails to the operator about urgent incidents: failed and missing runs, and every P1.

One mail covers a rule and period at all shops. If it is not P1, it waits five minutes for further shops;
shops that fail later are in at most one more mail per hour. ``incidents.mailed_at`` is set on mailed
incidents.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.core.locks import lock_objects
from services.core.pg_arrays import int_array
from services.core.settings import Settings, get_settings
from services.jobs.complete_run import FAILED, NOT_RUN
from services.ledger.accept import WorkRef, record_work
from services.ledger.work import FLEET
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

AUDIT_FAILED = "audit_chain_failed"
WAIT_FOR_SHOPS = timedelta(minutes=5)
UPDATE_AFTER = timedelta(hours=1)
MAX_NAMED = 10
"""Most shops named in one mail; the others are only counted."""

_IS_URGENT = f"(i.severity = 'P1' or split_part(i.rule, ':', 1) in ('{NOT_RUN}', '{FAILED}'))"

_FIND_DUE = f"""
select i.rule, i.period from incidents i
 where i.status = 'open' and i.mailed_at is null and {_IS_URGENT}
   and (i.severity = 'P1' or i.opened_at <= %(gathered)s)
   and not exists (select from incidents m where m.rule = i.rule and m.period = i.period
                      and m.mailed_at > %(before)s)
 group by 1, 2 order by 1, 2
"""  # noqa: S608 - constants only

_FIND_OPEN = f"""
select i.id, coalesce(s.slug, 'fleet') as shop, i.severity, i.summary, i.detail, i.opened_at,
       i.mailed_at is not null as is_mailed
  from incidents i left join shops s on s.id = i.shop_id
 where i.status = 'open' and i.rule = %(rule)s and i.period = %(period)s and {_IS_URGENT}
 order by is_mailed, shop, id
"""  # noqa: S608

_MARK_MAILED = "update incidents set mailed_at = %(now)s where id = any(%(id)s::bigint[])"


class IncidentNotice(NamedTuple):
    """The open incidents of one rule and period; ``found`` has rows of ``_FIND_OPEN``."""

    rule: str
    period: str
    found: Sequence[Row[Any]]

    @property
    def subject(self) -> str:
        """The part of the rule after the colon, such as a job; empty if there is none."""
        return self.rule.partition(":")[2]


def record_notices(tx: Connection, now: datetime) -> list[WorkRef]:
    """Record mails to ``OPERATOR_EMAIL`` about incidents not mailed yet; return the work that sends them.

    Without that setting nothing is recorded; incidents that are still open when it is set are mailed then.
    """
    settings = get_settings()
    limits = {"before": now - UPDATE_AFTER, "gathered": now - WAIT_FOR_SHOPS}
    if not settings.operator_email or not tx.exec_driver_sql(_FIND_DUE, limits).first():
        return []
    # Beat and each monitor thread run this; the lock prevents two mails about the same incidents.
    lock_objects(tx, [(FLEET, "operator-mail")])
    mails = []
    for rule, period in tx.exec_driver_sql(_FIND_DUE, limits).all():
        notice = IncidentNotice(
            rule, period, tx.exec_driver_sql(_FIND_OPEN, {"rule": rule, "period": period}).all()
        )
        mails.append(_compose(notice, settings, now))
        tx.exec_driver_sql(_MARK_MAILED, {"now": now, "id": int_array(one.id for one in notice.found)})
    return record_work(tx, record_mails(tx, mails, now), now)


def _compose(notice: IncidentNotice, settings: Settings, now: datetime) -> Mail:
    planned = None
    if notice.rule.startswith(f"{NOT_RUN}:"):
        planned = _plan_late(notice, settings)
    elif notice.rule == AUDIT_FAILED:
        planned = _plan_audit(notice)
    mail_type, facts = planned or (INCIDENT_MAIL, _plan_incident(notice))
    return compose_mail(
        mail_type,
        facts,
        shop=None,
        recipient=settings.operator_email,
        period=f"{notice.rule} {notice.period} {now:%Y-%m-%dT%H:%M:%SZ}",
        zone=settings.zone,
    )


def _plan_incident(notice: IncidentNotice) -> dict[str, Any]:
    """Return the facts of any incident; for a failed run with the steps to run it again."""
    job = notice.subject if notice.rule.startswith(f"{FAILED}:") else ""
    first = notice.found[0]
    scope = "" if first.shop == "fleet" else f" --shop {first.shop}"
    steps: list[Step] = [
        ("See what was found.", f"fleet incidents show {first.id}"),
        ("When nothing is left to do, close it.", f'fleet incidents resolve {first.id} --reason "..."'),
    ]
    if job:
        again = "When the cause is removed, run this period again for each shop that failed."
        steps = [
            ("See each shop’s error.", f"fleet jobs history {job}"),
            ("See which credentials are refused and how to replace them.", "fleet mail accounts"),
            (again, f"fleet jobs run {job}{scope} --period {notice.period}"),
        ]
    return plan_incident(
        title=f"{job} failed" if job else notice.rule.replace("_", " "),
        severity=min(one.severity for one in notice.found),
        rule=notice.rule,
        period=notice.period,
        opened_at=min(one.opened_at for one in notice.found),
        found=[(one.shop, one.summary) for one in notice.found[:MAX_NAMED]],
        count=len(notice.found),
        is_update=any(one.is_mailed for one in notice.found),
        steps=steps,
    )


def _plan_late(notice: IncidentNotice, settings: Settings) -> tuple[MailType, dict[str, Any]] | None:
    if not all(one.detail.get("due_at") for one in notice.found):
        return None
    first = min(notice.found, key=lambda one: str(one.detail["due_at"]))
    names = [one.shop for one in notice.found]
    many = "1 shop" if len(names) == 1 else f"{len(names)} shops"
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    shops = "" if names == ["fleet"] else f" at {many}: {', '.join(names[:MAX_NAMED])}{more}"
    started_at = first.detail.get("started_at")
    facts = plan_job_late(
        job=notice.subject,
        period=notice.period,
        shop_slug="",
        expected_at=datetime.fromisoformat(first.detail["due_at"]),
        zone_name=settings.fleet_timezone,
        grace=timedelta(seconds=first.detail.get("grace_seconds", 0)),
        started_at=datetime.fromisoformat(started_at) if started_at else None,
        seen=f"{first.detail['status']}{shops}",
    )
    return JOB_LATE_MAIL, facts


def _plan_audit(notice: IncidentNotice) -> tuple[MailType, dict[str, Any]] | None:
    """Return the facts of one altered chain; None for several chains, which share one mail."""
    (first, *others), detail = notice.found, notice.found[0].detail
    if others or detail.get("kind") not in CHAIN_FAULTS or "detail" not in detail:
        return None
    known = {
        name: detail[name] for name in ("kind", "seq", "event_id", "detail", "subject") if name in detail
    }
    return AUDIT_FAILED_MAIL, plan_audit_failed(chain=first.shop, found_at=first.opened_at, **known)
