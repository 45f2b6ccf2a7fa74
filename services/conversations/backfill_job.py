"""Job ``conversations-backfill``: records the calls and messages of the last days that had no webhook."""

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.audit.chain import AuditEntry, Mutation
from services.conversations.access import find_quo_key
from services.conversations.backfill import BackfillCounts, backfill_conversations
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.jobs.handler import JobResult, JobRun
from services.ledger.work import FollowUp

JOB = "conversations-backfill"
FIRST_DAYS = 30
"""The days that the first run of a shop reads; later runs begin at its cursor."""


def backfill_nightly(run: JobRun, *, clock: Callable[[], datetime] = utc_now) -> JobResult:
    """Read the calls and messages since the cursor; result ``no_quo`` for a shop without a quo-key.

    The cursor with the earliest start goes on. Raises the ``WorkError`` of a call to Quo.
    """
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    with transaction() as tx:
        if not find_quo_key(tx, run.shop_id):
            return JobResult(result="no_quo", stats={"synced": 0})
    now = clock()
    counts = backfill_conversations(run.shop_id, now - timedelta(days=FIRST_DAYS), now, run.request_id)
    stats = {"synced": counts.synced, "skipped": counts.skipped, "failed": counts.failed, **counts.topics}
    mutation = describe_backfill(counts)

    def record(tx: Connection) -> FollowUp:
        del tx
        entry = [AuditEntry(run.shop_id, f"job {JOB}", "conversations.backfill", run.request_id, [mutation])]
        return FollowUp(audit=entry if counts.topics else [])

    return JobResult(result="backfilled" if counts.synced else "complete", stats=stats, record=record)


def describe_backfill(counts: BackfillCounts) -> Mutation:
    """Return what the audit contains of a backfill: numbers, never people or texts."""
    total = counts.topics.total()
    summary = f"recorded {format_count(total, 'event')} of calls and messages without a webhook"
    return Mutation("inbound_events", format_count(total, "row"), summary, None, dict(counts.topics))
