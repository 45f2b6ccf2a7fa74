"""Audit jobs: verify every chain, anchor the heads, archive old events."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

from services.alerts.incidents import Incident, list_open_incidents, record_incidents, resolve_incident
from services.alerts.recorded_rules import AUDIT_FAILED
from services.audit.anchors import anchor_entry, list_heads, make_anchor
from services.audit.append import WORK_ID_TAKEN
from services.audit.archive import archive_chain, open_truncate
from services.audit.chain import ChainPosition
from services.audit.checkpoints import record_checkpoints
from services.audit.diagnose import AuditFinding
from services.audit.queries import count_events, use_snapshot
from services.audit.signing import make_signer
from services.audit.verifications import AGAIN, find_repaired, record_verification
from services.audit.verify import ChainAltered, VerifyOptions, VerifyReport, verify_audit
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import Refused
from services.core.settings import get_settings
from services.core.times import format_time
from services.jobs.handler import JobResult, JobRun
from services.ledger.work import FollowUp
from services.providers.object_store import open_store

ROWS_KEPT = "audit_rows_kept"
"""Rule of the incident that archived events stay in the database: no role may delete them."""

WORK_ID_INCIDENT = "audit_work_id_taken"
"""Rule of the incidents that a work item has two different events: one per chain and day."""

LOOK_BACK = timedelta(days=7)
"""How far back such events are searched: they are found even after nights without a verification."""


def verify_chains(run: JobRun) -> JobResult:
    """Verify every chain from its first row, against every checkpoint and anchor.

    Also checks all manifests, and the bodies of the archives that are due. Unaltered chains get a checkpoint,
    except those with an open finding. A finding opens a P1 incident per chain and raises ``ChainAltered``, a
    ``Refused``: no retry can change it. A work item with two different events opens a P2 incident.
    """
    settings = get_settings()
    signer = make_signer(settings)
    store = open_store(settings.archive_url)
    options = VerifyOptions(full=True, turn=date.fromisoformat(run.period).toordinal())
    now = utc_now()
    with transaction() as tx:
        taken = count_events(tx, WORK_ID_TAKEN, now - LOOK_BACK)
        record_incidents(tx, [_describe_taken(*found) for found in taken], now)
    with transaction() as tx:
        report = verify_audit(tx, options, signer, store)
    with transaction() as tx:
        record_findings(tx, report.findings, run.period, utc_now(), list_unaltered(report))
    if report.findings:
        raise ChainAltered(report.findings, "`fleet audit verify --full --archives` lists every finding")
    with transaction() as tx:
        unresolved = list_open_findings(tx)

    def record(tx: Connection) -> FollowUp:
        record_checkpoints(tx, find_signable(report, unresolved), signer, utc_now())
        return FollowUp()

    stats = {
        "rows": report.rows,
        "chains": len(report.chains),
        "archives": sum(chain.archives for chain in report.chains),
        "archived_rows": sum(chain.archived_rows for chain in report.chains),
        "anchors": report.anchors,
        "open_findings": len(unresolved),
        "seconds": round(report.seconds, 3),
    }
    return JobResult(stats=stats, result="finding_open" if unresolved else "done", record=record)


def find_signable(
    report: VerifyReport, unresolved: Sequence[Row[Any]]
) -> list[tuple[int | None, ChainPosition]]:
    """Return the heads to sign: of unaltered chains without a finding in ``unresolved``."""
    doubtful = {incident.shop_id for incident in unresolved}
    return [
        (chain.shop_id, chain.head)
        for chain in report.chains
        if chain.is_whole and chain.head.seq and chain.shop_id not in doubtful
    ]


def list_open_findings(tx: Connection, *only: int | None) -> list[Row[Any]]:
    """Return the open incidents of altered chains: of all chains, or of the shops in ``only``."""
    found = list_open_incidents(tx, AUDIT_FAILED)
    return [incident for incident in found if not only or incident.shop_id in only]


def list_open(unresolved: Sequence[Row[Any]], slugs: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return open findings for programs, with the shop's slug from ``slugs``."""
    return [
        {"incident": one.id, "shop": find_slug(one.shop_id, slugs), "detail": describe_open(one)}
        for one in unresolved
    ]


def find_slug(shop_id: int | None, slugs: Mapping[int, str]) -> str | None:
    """Return the slug of a chain's shop, the id of a shop without one, None for the fleet's chain."""
    return None if shop_id is None else slugs.get(shop_id, str(shop_id))


def describe_open(incident: Row[Any]) -> str:
    """Return why ``incident`` stays open although the chain verifies again, and how to resolve it."""
    return (
        f"incident {incident.id}, open since {format_time(incident.opened_at)}: {incident.summary} "
        "It stays open, even if the chain verifies again, until a person with the role that owns the tables "
        "closes it with a reason, such as a restored backup: "
        f"fleet incidents resolve {incident.id} --reason TEXT"
    )


def anchor_heads(run: JobRun) -> JobResult:
    """Store the signed heads of all chains as an anchor, and record it in the fleet's chain."""
    settings = get_settings()
    store = open_store(settings.archive_url)
    now = utc_now()
    with transaction() as tx:
        use_snapshot(tx)
        heads = list_heads(tx)
    anchor = make_anchor(heads, store, make_signer(settings), now)
    store.put(anchor.key, anchor.data, now + timedelta(days=settings.archive_retain_days))
    entry = anchor_entry(anchor, store, by=f"job {run.job}", request_id=run.request_id)
    stats: dict[str, int | str] = {"heads": anchor.heads, "bytes": len(anchor.data), "key": anchor.key}
    return JobResult(stats=stats, record=lambda tx: FollowUp(audit=[entry]))  # noqa: ARG005


def archive_events(run: JobRun) -> JobResult:
    """Move events older than 90 days of the run's shop (None: of the fleet's chain) to the store.

    If AUDIT_ARCHIVE_DATABASE_URL is empty, their rows stay in the database and an incident opens. Raises
    ``Refused`` for a chain that does not verify or has an open finding: nothing is archived or deleted.
    """
    settings = get_settings()
    now = utc_now()
    with transaction() as tx:
        unresolved = list_open_findings(tx, run.shop_id)
    if unresolved:
        raise Refused("audit.altered", f"nothing was archived or deleted: {describe_open(unresolved[0])}")
    try:
        with open_truncate(settings.audit_archive_database_url) as truncate:
            done = archive_chain(
                transaction,
                run.shop_id,
                open_store(settings.archive_url),
                make_signer(settings),
                truncate,
                now=now,
                retain_until=now + timedelta(days=settings.archive_retain_days),
                by=f"job {run.job}",
                request_id=run.request_id,
            )
    except ChainAltered as fault:
        with transaction() as tx:
            record_findings(tx, fault.findings, run.period, utc_now())
        raise
    with transaction() as tx:
        if done.kept:
            record_incidents(tx, [_KEPT], now)
        elif settings.audit_archive_database_url:
            resolve_incident(tx, None, ROWS_KEPT, None, now, "AUDIT_ARCHIVE_DATABASE_URL is set now.")
    stats = {
        "events": done.rows,
        "archives": done.archives,
        "bytes": done.bytes_stored,
        "deleted": done.deleted,
        "kept": done.kept,
    }
    return JobResult(stats=stats, result="rows_kept" if done.kept else "done")


_KEPT = Incident(
    None,
    ROWS_KEPT,
    "AUDIT_ARCHIVE_DATABASE_URL",
    "P2",
    "Archived audit events are in the store and also stay in the database: AUDIT_ARCHIVE_DATABASE_URL is "
    "empty, so no role may delete them. Create the role (docs/audit.md has the SQL), set the URL for "
    "`fleet migrate` and for the worker of the queue reports, and run `fleet jobs run weekly-audit-archive`.",
)


def _describe_taken(shop_id: int | None, day: date, count: int, seq: int) -> Incident:
    return Incident(
        shop_id,
        WORK_ID_INCIDENT,
        day.isoformat(),
        "P2",
        f"{format_count(count, 'change')} of {day} appended to the audit without the work_id, because the "
        f"chain already had different events with this work_id; row {seq} describes the newest. Only the "
        "password of the application role allows such an event: compare both events of each item "
        "(docs/audit.md has the query), and change the password.",
        {"count": count, "seq": seq},
    )


def list_unaltered(report: VerifyReport) -> list[int | None]:
    """Return the chains that a full verification found unaltered."""
    return [chain.shop_id for chain in report.chains if chain.is_whole]


def record_findings(
    tx: Connection,
    findings: Sequence[AuditFinding],
    period: str,
    now: datetime,
    unaltered: Sequence[int | None] = (),
) -> None:
    """Update the open incident of each altered chain, or open one for ``period``; the operator is mailed.

    The deploy gate is closed for these chains. ``unaltered`` are chains that a full verification found so.
    """
    periods = {incident.shop_id: incident.period for incident in reversed(list_open_findings(tx))}
    by_chain: dict[int | None, list[AuditFinding]] = {}
    for finding in findings:
        by_chain.setdefault(finding.shop_id, []).append(finding)
    chains = {*unaltered, *by_chain}
    repaired = find_repaired(tx)
    record_verification(tx, {chain: [str(one) for one in by_chain.get(chain, ())] for chain in chains}, now)
    again = f"{AGAIN}{format_time(now)})"
    incidents = [
        describe_findings(periods.get(chain, period), found, again if chain in repaired else "")
        for chain, found in by_chain.items()
    ]
    record_incidents(tx, incidents, now)


def describe_findings(period: str, findings: Sequence[AuditFinding], again: str = "") -> Incident:
    """Return the incident of an altered chain with all its findings.

    ``again`` marks the findings of a chain that was repaired: a person who resolved them must know.
    """
    first = findings[0]
    return Incident(
        first.shop_id,
        AUDIT_FAILED,
        period,
        "P1",
        f"{first}. Keep the database as it is, and compare it with a backup and the archive store.",
        {
            "kind": first.kind,
            "seq": first.seq,
            "event_id": first.event_id,
            "detail": first.detail,
            "subject": first.subject,
            "findings": [f"{found}{again}" for found in findings],
        },
    )
