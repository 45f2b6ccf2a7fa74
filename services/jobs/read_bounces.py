"""Job ``read-bounces``: reads delivery reports from the mailbox ``BOUNCE_MAILBOX_URL``."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.audit.append import append_all
from services.core.clock import is_plausible, utc_now
from services.core.db import transaction
from services.core.pg_arrays import text_array
from services.core.settings import get_settings
from services.jobs.handler import JobResult, JobRun
from services.ledger.work import FLEET, WorkItem
from services.mail.account_events import AccountEvent, insert_events
from services.mail.delivery_report import DeliveryReport, parse_report
from services.mail.events import apply_events
from services.mail.outbox import KEY_PREFIX
from services.providers.bounce_mailbox import open_mailbox
from services.providers.mail_event_payload import BOUNCED, MailEvent

MOST_MESSAGES = 500
"""Messages of one run; the next run reads the others."""
PIECE = 50
"""Messages that share a transaction."""

# A report comes within days. The Message-ID has a random token, which only a recipient knows.
_FIND_MAILS = """
select id, token, message_id from mail_outbox
 where created_at > %(now)s - interval '30 days' and emptied_at is null
   and message_id = any(%(message_id)s::text[])
"""


def read_bounces(run: JobRun, *, clock: Callable[[], datetime] = utc_now) -> JobResult:
    """Store the reports of unseen messages, and mark these as seen after the commit.

    A message that is read again after a crash changes nothing. Reports of unknown mails are ignored: anybody
    can send such a message. Results: ``done``, ``more``, ``off`` (no mailbox is set).
    """
    url = get_settings().bounce_mailbox_url
    if not url:
        return JobResult(result="off")
    item = WorkItem(run.work_id, FLEET, "bounce_read", "", {}, 0, run.request_id)
    stats = {"messages": 0, "reports": 0, "new": 0}
    with open_mailbox(url) as mailbox:
        listed = mailbox.list_unseen(MOST_MESSAGES + 1)
        uids = listed[:MOST_MESSAGES]
        for start in range(0, len(uids), PIECE):
            piece = uids[start : start + PIECE]
            reports = [report for uid in piece for report in parse_report(mailbox.read(uid))]
            with transaction() as tx:
                stats["new"] += _store(tx, item, reports, clock())
            mailbox.mark_seen(piece)
            stats["messages"] += len(piece)
            stats["reports"] += len(reports)
    return JobResult(result="more" if len(listed) > MOST_MESSAGES else "done", stats=stats)


def _store(tx: Connection, item: WorkItem, reports: Sequence[DeliveryReport], now: datetime) -> int:
    """Store the new ones of ``reports`` about known mails; return how many."""
    names = text_array(sorted({report.message_id for report in reports}))
    rows = tx.exec_driver_sql(_FIND_MAILS, {"message_id": names, "now": now}).all() if reports else []
    mails = {row.message_id: row for row in rows}
    events = {
        report.report_id: AccountEvent(
            item,
            None,
            "smtp",
            MailEvent(
                event_id=report.report_id,
                kind=report.kind,
                cause=report.kind if report.kind == BOUNCED else "",
                address="",
                at=report.at if report.at and is_plausible(report.at) and report.at < now else now,
                mail_id=mail.id,
                mail_key=KEY_PREFIX + mail.token,
                provider_id="",
                detail=report.detail,
            ),
        )
        for report in reports
        if (mail := mails.get(report.message_id))
    }
    inserted = insert_events(tx, events.values())
    new = [event for event in events.values() if event.key in inserted]
    audit = apply_events(tx, new, now).audit
    append_all(tx, [entry._replace(work_id=None) for entry in audit], now)
    return len(new)
