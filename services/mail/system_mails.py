"""The fleet's own mails: a test, an incident, a job that did not run, an audit chain that fails.

Each ``plan_`` function makes the context of one mail type, and of its sample.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from services.mail.message import MailType
from services.shops.shops import Shop

Step = tuple[str, str]
"""What to do, and the command for it or an empty text."""

CHAIN_FAULTS = {
    "altered": "was altered",
    "missing": "is missing",
    "reordered": "is out of order",
    "inserted": "was inserted",
    "rewritten": "was rewritten",
}


def plan_job_late(*, job: str, period: str, shop_slug: str, **facts: Any) -> dict[str, Any]:
    """Return the context of ``job_late``. ``shop_slug`` is empty for a job of the whole fleet.

    ``facts``: expected_at, zone_name, grace, started_at (or None), and seen, the state of the run.
    """
    scope = f" --shop {shop_slug}" if shop_slug else ""
    steps: list[Step] = [
        ("See the job’s runs and their errors.", f"fleet jobs history {job}{scope}"),
        ("Check beat, the database and the broker.", "fleet doctor"),
        (
            "Run this period now. It prints its log and exits with 0 or 1.",
            f"fleet jobs run {job}{scope} --period {period}",
        ),
    ]
    return {"job": job, "late_period": period, "steps": steps, **facts}


def plan_audit_failed(*, chain: str, kind: str, seq: int, subject: str = "", **facts: Any) -> dict[str, Any]:
    """Return the context of ``audit_failed``. ``chain`` is a shop's slug, or ``fleet``.

    ``kind`` is a key of ``CHAIN_FAULTS``. ``subject`` names a checkpoint or archive that is at fault instead
    of a row (``checkpoint 7``). ``facts``: event_id (or None), detail, found_at.
    """
    scope = f" --shop {chain}" if chain != "fleet" else ""
    steps: list[Step] = [
        ("Export the evidence before anything changes it.", f"fleet audit export{scope}"),
        (
            "Verify again from the first row, against every anchor and archive.",
            f"fleet audit verify{scope} --full --archives",
        ),
        (
            "Find out who could write to the table: the application’s role cannot. Check the database’s log "
            "for the role that owns the tables, the restores, and who had its password.",
            "",
        ),
        ("Compare the row with the last good backup or archive, and write down what was changed.", ""),
    ]
    fault = f"{subject or f'row {seq:,}'} {CHAIN_FAULTS[kind]}"
    return {"chain": chain, "fault": fault, "seq": seq, "steps": steps, **facts}


_CHANGES = {
    "opened": ("", "This needs a person."),
    "worsened": ("Worse: ", "It is worse than in the last mail."),
    "escalated": ("Escalated: ", "Get a second person."),
    "recovered": ("Recovered: ", "It has ended. Nothing is left to do."),
    "test": ("Test: ", "This is a test. Nothing is left to do."),
}
"""By change: how the subject begins, and the first sentence."""


def plan_incident(
    *,
    change: str,
    period: str,
    found: Sequence[tuple[str, str]],
    count: int,
    steps: Sequence[Step],
    **facts: Any,
) -> dict[str, Any]:
    """Return the context of ``incident``: one rule, at one or more shops.

    ``change`` is a key of ``_CHANGES``. ``found`` are the first shops (``fleet`` for none) with what was
    found at each; ``count`` is how many there are in all. ``facts``: title, severity, rule, opened_at and
    zone_name, the zone of all times.
    """
    prefix, lead = _CHANGES[change]
    names = ", ".join(shop for shop, _ in found[:3]) + (f" and {count - 3} more" if count > 3 else "")
    return {
        "is_over": change in ("recovered", "test"), "prefix": prefix, "lead": lead, "incident_period": period,
        "names": names, "found": list(found), "count": count, "steps": list(steps), **facts,
    }  # fmt: skip


def _sample_test(_shop: Shop | None, now: datetime) -> Mapping[str, Any]:
    sent = {"transport": "smtp, mail.example.com", "sender": "Shopfleet <shopfleet@localhost>"}
    return sent | {"requested_by": "ada", "requested_at": now}


def _sample_job_late(shop: Shop | None, now: datetime) -> Mapping[str, Any]:
    expected = now.replace(minute=10, second=0, microsecond=0) - timedelta(hours=3)
    return plan_job_late(
        job="daily-reconciliation",
        period=expected.date().isoformat(),
        shop_slug=shop.slug if shop else "",
        expected_at=expected,
        zone_name=str(shop.zone) if shop else "UTC",
        grace=timedelta(minutes=45),
        started_at=None,
        seen="no worker has started it: is its queue paused, or its worker dead?",
    )


def _sample_audit_failed(shop: Shop | None, now: datetime) -> Mapping[str, Any]:
    return plan_audit_failed(
        chain=shop.slug if shop else "fleet",
        kind="altered",
        seq=12_408,
        event_id=30_117,
        detail="its hash does not match its content",
        found_at=now,
    )


def _sample_incident(shop: Shop | None, now: datetime) -> Mapping[str, Any]:
    why = "daily-reconciliation failed: stripe.key_refused: HTTP 401"
    slugs = [shop.slug if shop else "harbour", "lagoon", "northwind", "pinecone", "quarry"]
    return plan_incident(
        change="opened",
        title="daily-reconciliation failed",
        severity="P2",
        rule="job_failed:daily-reconciliation",
        period="2026-11-20",
        opened_at=now - timedelta(minutes=20),
        zone_name=str(shop.zone) if shop else "UTC",
        found=[(slug, why) for slug in slugs],
        count=12,
        steps=[
            ("See each shop’s error.", "fleet jobs history daily-reconciliation"),
            ("See which credentials are refused, and what to do.", "fleet mail accounts"),
        ],
    )


INCIDENT_MAIL = MailType(
    name="incident",
    package="services.mail",
    about="an incident that a person acts on today: P1 or P2",
    reader="operator",
    why="You get this because you look after the fleet. One mail when an incident opens, gets worse or ends; "
    "more shops with the same fault are together in the next one.",
    sample=_sample_incident,
)
TEST_MAIL = MailType(
    name="test",
    package="services.mail",
    about="mail is set up correctly",
    reader="person who tests",
    why="You get this because the fleet’s mail was tested with your address.",
    sample=_sample_test,
)
JOB_LATE_MAIL = MailType(
    name="job_late",
    package="services.mail",
    about="a job did not run on time",
    reader="operator",
    why="You get this because you look after the fleet’s jobs. One mail for each job and period.",
    sample=_sample_job_late,
)
AUDIT_FAILED_MAIL = MailType(
    name="audit_failed",
    package="services.mail",
    about="an audit chain fails verification",
    reader="operator",
    why="You get this because you look after the fleet’s audit. One mail for each fault found.",
    sample=_sample_audit_failed,
)

SYSTEM_MAILS = (INCIDENT_MAIL, TEST_MAIL, JOB_LATE_MAIL, AUDIT_FAILED_MAIL)
