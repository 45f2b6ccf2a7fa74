"""The job ``retention``: archives old events, then deletes all other old rows."""

import logging
from datetime import timedelta
from time import monotonic

from services.core.clock import utc_now
from services.core.crypto import SealBroken, get_sealer
from services.core.db import transaction
from services.core.errors import Misconfigured
from services.core.settings import get_settings
from services.jobs.handler import JobResult, JobRun
from services.ledger.archive_keys import seal_shop_keys_again
from services.ledger.table_sizes import record_table_sizes
from services.ledger.tables import TOTAL
from services.providers.object_store import open_store
from services.retention.delete import delete_old_rows, merge_totals
from services.retention.events import ArchiveRun, archive_old_events
from services.retention.rules import EVENTS, RULES

LONGEST_SECONDS = 1500
"""After this time the job ends, before the time limit of its topic, and the next run continues."""

_log = logging.getLogger(__name__)


def delete_old(run: JobRun) -> JobResult:
    """Archive and delete the old rows of every rule; ``stats`` has the rows by table.

    Events are first: if the archive store cannot be used, the run fails and deletes nothing. The result is
    ``more`` if the time was too short for all rows.
    """
    settings, now, end = get_settings(), utc_now(), monotonic() + LONGEST_SECONDS

    def is_late() -> bool:
        return monotonic() > end

    with transaction() as tx:
        try:
            keys = seal_shop_keys_again(tx, get_sealer())
        except SealBroken as fault:
            raise Misconfigured("retention.key_sealed", f"{fault}; nothing was deleted") from None
    store = open_store(settings.archive_url)
    archived = ArchiveRun(
        begin=transaction,
        store=store,
        now=now,
        retain_until=now + timedelta(days=settings.archive_retain_days),
        by=f"job {run.job}",
        request_id=run.request_id,
    )
    if (before := EVENTS.get_before(settings, now)) is not None:
        archive_old_events(archived, before, is_late)
    stats: dict[str, int | float | str] = {
        "events_archived": archived.events,
        "work_archived": archived.work,
        "archives": archived.archives,
        "archives_dropped": archived.dropped,
        "bytes": archived.bytes_stored,
        "keys_sealed_again": keys,
        "leftovers_deleted": store.delete_leftovers(now - timedelta(days=1)),
    }
    for rule in RULES:
        if (before := rule.get_before(settings, now)) is not None:
            count = delete_old_rows(transaction, rule, before, now, is_late)
            name = f"{rule.table}_{rule.done}"
            stats[name] = int(stats.get(name, 0)) + count
            if count:
                fields = {"table": rule.table, "rows": count, "are": rule.done}
                _log.info("old_rows", extra={"fields": fields})
    with transaction() as tx:
        merge_totals(tx, TOTAL, now)
        record_table_sizes(tx, now)
    return JobResult(stats=stats, result="more" if is_late() else "done")
