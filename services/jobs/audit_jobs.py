"""The night's work on the audit: verify every chain, anchor the heads, archive what is old."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents
from services.audit.anchors import anchor_entry, find_heads, make_anchor
from services.audit.archive import archive_chain
from services.audit.checkpoints import record_checkpoints
from services.audit.diagnose import Finding
from services.audit.rows import hold_still
from services.audit.signing import make_signer
from services.audit.verify import Report, Wanted, verify_audit
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Refused
from services.core.settings import get_settings
from services.jobs.effect import Finished, Run
from services.jobs.notices import AUDIT_FAILED
from services.ledger.work import Recorded
from services.providers.object_store import open_store


def verify_chains(run: Run) -> Finished:
    """Every chain was hashed again from its first row and held against every checkpoint and anchor.

    Whole chains get a checkpoint. A finding opens a P1 incident per chain and ends as ``Refused``: what is
    altered does not mend itself, so nobody tries again by itself.
    """
    settings = get_settings()
    signer = make_signer(settings)
    store = open_store(settings.archive_url)
    with transaction() as tx:
        report = verify_audit(tx, Wanted(full=True), signer, store)
    if report.findings:
        with transaction() as tx:
            record_incidents(tx, _describe(report, run.period), utc_now())
        raise Refused("audit.altered", f"{report.findings[0]}; run `fleet audit verify --full` for all of it")

    def record(tx: Connection) -> Recorded:
        heads = [(chain.shop_id, chain.head) for chain in report.chains if chain.is_whole and chain.head.seq]
        record_checkpoints(tx, heads, signer, utc_now())
        return Recorded()

    stats = {
        "rows": report.rows,
        "chains": len(report.chains),
        "anchors": report.anchors,
        "seconds": round(report.seconds, 3),
    }
    return Finished(stats=stats, record=record)


def anchor_heads(run: Run) -> Finished:
    """The signed heads of all chains are in the archive store, and the fleet's own chain says so."""
    settings = get_settings()
    store = open_store(settings.archive_url)
    now = utc_now()
    with transaction() as tx:
        hold_still(tx)
        heads = find_heads(tx)
    anchor = make_anchor(heads, store, make_signer(settings), now)
    store.put(anchor.key, anchor.data, now + timedelta(days=settings.archive_retain_days))
    entry = anchor_entry(anchor, store, by=f"job {run.job}", request_id=run.request_id)
    stats: dict[str, int | str] = {"heads": anchor.heads, "bytes": len(anchor.data), "key": anchor.key}
    return Finished(stats=stats, record=lambda tx: Recorded(audit=[entry]))  # noqa: ARG005


def archive_events(run: Run) -> Finished:
    """The events past 90 days of the run's shop (none: of the fleet's own chain) are in the store alone."""
    settings = get_settings()
    now = utc_now()
    done = archive_chain(
        transaction,
        run.shop_id,
        open_store(settings.archive_url),
        now=now,
        retain_until=now + timedelta(days=settings.archive_retain_days),
        by=f"job {run.job}",
        request_id=run.request_id,
    )
    return Finished(stats={"events": done.rows, "archives": done.archives, "bytes": done.bytes_stored})


def describe_finding(
    shop_id: int | None, period: str, first: Finding, findings: Sequence[Finding]
) -> Incident:
    """Return the incident of a chain that is not as it was written; ``findings`` are all of this chain."""
    return Incident(
        shop_id,
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
            "findings": [str(found) for found in findings],
        },
    )


def _describe(report: Report, period: str) -> list[Incident]:
    """Return one incident per chain that is not as it was written."""
    first = {finding.shop_id: finding for finding in reversed(report.findings)}
    return [
        describe_finding(shop_id, period, finding, [f for f in report.findings if f.shop_id == shop_id])
        for shop_id, finding in first.items()
    ]
