"""The periodic jobs and messages of the fleet, run by ``celery -A tasks beat``.

``JOBS``: the schedule, time zone, grace, catch-up and evidence of each job; ``Job`` has the defaults. Changes
by a person (``fleet jobs set``) are in the database and need no restart.

``SCHEDULE``: messages every few seconds that carry no work.
"""

from datetime import timedelta
from typing import Any

from celery.schedules import schedule

from services.core.clock import steady_now
from services.jobs.definition import SHOP_ZONE, CatchUp, Covers, Job
from services.ledger.topics import QUEUES

JOBS: tuple[Job, ...] = (
    Job(
        name="daily-reconciliation",
        topic="reconcile",
        title="closes yesterday: compares payments with Stripe, verifies the audit chain, lists low stock",
        schedule="0 0 * * *",
        zone=SHOP_ZONE,
        per_shop=True,
        catch_up=CatchUp.ALL,
        volume="theirs",
        evidence="job_runs, shop_config.last_daily_run, reconciliation_breaks",
    ),
    Job(
        name="gap-healing",
        topic="gap_heal",
        title="imports data of Shopify and Stripe for which no webhook arrived",
        schedule="17 * * * *",
        per_shop=True,
        covers=Covers.MOMENT,
        grace=timedelta(hours=2),
        evidence="job_runs, sync_cursors, inbound_events with origin backfill",
    ),
    Job(
        name="subscription-watchdog",
        topic="subscription_watch",
        title="checks Shopify's webhook subscriptions and creates missing ones",
        schedule="47 * * * *",
        per_shop=True,
        covers=Covers.MOMENT,
        grace=timedelta(hours=2),
        evidence="job_runs, webhook_subscriptions",
    ),
    Job(
        name="weekly-owner-digest",
        topic="owner_digest",
        title="mails last week's revenue, best customers and best products to the owner",
        schedule="0 6 * * 1",
        zone=SHOP_ZONE,
        per_shop=True,
        covers=Covers.WEEK,
        grace=timedelta(hours=1),
        evidence="job_runs, mail_outbox",
    ),
    Job(
        name="owner-letter",
        topic="owner_letter",
        title="drafts the letter to the owner about last week; it is mailed on Tuesday 10:00",
        schedule="0 8 * * 1",
        zone=SHOP_ZONE,
        per_shop=True,
        covers=Covers.WEEK,
        grace=timedelta(hours=1),
        evidence="job_runs, owner_letters",
    ),
    Job(
        name="monthly-close",
        topic="month_close",
        title="closes last month; mails sales tax, profit and loss to owner and accountant",
        schedule="0 2 1 * *",
        zone=SHOP_ZONE,
        per_shop=True,
        covers=Covers.MONTH,
        grace=timedelta(hours=2),
        catch_up=CatchUp.ALL,
        volume="orders",
        evidence="job_runs, closed_periods, close/ in the archive store, mail_outbox",
    ),
    Job(
        name="sms-costs",
        topic="sms_cost_read",
        title="reads at Twilio what SMS cost the shop, the last weeks again",
        schedule="20 5 * * *",
        zone=SHOP_ZONE,
        per_shop=True,
        grace=timedelta(hours=2),
        evidence="job_runs, metered_costs",
    ),
    Job(
        name="conversations-backfill",
        topic="conversation_backfill",
        title="imports calls and messages of Quo for which no webhook arrived",
        schedule="40 4 * * *",
        zone=SHOP_ZONE,
        per_shop=True,
        grace=timedelta(hours=2),
        evidence="job_runs, sync_cursors, inbound_events with origin backfill",
    ),
    Job(
        name="notion-drift",
        topic="notion_drift",
        title="compares the pages of merchants at Notion with what is recorded, and repairs them",
        schedule="25 5 * * *",
        zone=SHOP_ZONE,
        per_shop=True,
        grace=timedelta(hours=2),
        evidence="job_runs, merchants, page_parts",
    ),
    Job(
        name="canvas-refresh",
        topic="canvas_refresh",
        title="copies the canvas cache to Valkey and reads Notion before its entries expire",
        schedule="7 * * * *",
        per_shop=True,
        covers=Covers.MOMENT,
        grace=timedelta(hours=2),
        evidence="job_runs, canvas_cache",
    ),
    Job(
        name="run-due-reports",
        topic="due_reports",
        title="sends the scheduled reports that are due, and renews tokens of QuickBooks Time",
        schedule="*/15 * * * *",
        covers=Covers.MOMENT,
        evidence="job_runs, report_runs, mail_outbox",
    ),
    Job(
        name="send-reminders",
        topic="outreach",
        title="mails people who signed up and were active neither today nor yesterday",
        schedule="0 9 * * *",
        zone="UTC",
        grace=timedelta(hours=1),
        evidence="job_runs, outreach_sends, mail_outbox",
    ),
    Job(
        name="founder-sequence",
        topic="outreach",
        title="mails people one, two and three days after their sign-up",
        schedule="0 14 * * *",
        zone="UTC",
        grace=timedelta(hours=1),
        evidence="job_runs, outreach_sends, mail_outbox",
    ),
    Job(
        name="read-bounces",
        topic="bounce_read",
        title="reads delivery reports of mail servers from a mailbox, if one is set",
        schedule="*/15 * * * *",
        covers=Covers.MOMENT,
        evidence="job_runs, mail_events, mail_suppressions",
    ),
    Job(
        name="audit-verify",
        topic="audit_verify",
        title="recomputes every audit chain and compares it with its anchors",
        schedule="30 1 * * *",
        grace=timedelta(hours=1),
        evidence="job_runs, audit_checkpoints",
    ),
    Job(
        name="audit-anchor",
        topic="audit_anchor",
        title="stores the signed heads of all audit chains in the archive store",
        schedule="0 1 * * *",
        evidence="job_runs, anchors/ in the archive store",
    ),
    Job(
        name="weekly-audit-archive",
        topic="audit_archive",
        title="moves audit events older than 90 days to the archive store",
        schedule="0 6 * * 1",
        zone=SHOP_ZONE,
        per_shop=True,
        covers=Covers.WEEK,
        grace=timedelta(hours=2),
        evidence="job_runs, audit_archives, manifests in the archive store",
    ),
    Job(
        name="weekly-audit-archive-fleet",
        topic="audit_archive",
        title="moves the fleet's audit events older than 90 days to the archive store",
        schedule="0 6 * * 1",
        covers=Covers.WEEK,
        grace=timedelta(hours=2),
        evidence="job_runs, audit_archives, manifests in the archive store",
    ),
    Job(
        name="retention",
        topic="retention",
        title="archives old events; deletes old work, figures, runs and texts of mails",
        schedule="30 3 * * *",
        grace=timedelta(hours=2),
        evidence="job_runs, event_archives, ledger/ in the archive store",
    ),
)


def _entry(task: str, seconds: int, *, queue: str = "ops", args: tuple[str, ...] = ()) -> dict[str, Any]:
    # A message that waited longer than two periods is dropped, because newer ones replace it.
    options = {"queue": queue, "expires": max(seconds * 2.0, 10)}
    # With the clock of the day, Celery sends nothing for an hour after that is set back by an hour.
    every = schedule(timedelta(seconds=seconds), nowfun=steady_now)
    return {"task": task, "schedule": every, "args": args, "options": options}


SCHEDULE: dict[str, dict[str, Any]] = {
    "sweep": _entry("sweep", 2),
    "measure-drift": _entry("measure-drift", 15),
    **{f"canary-{queue}": _entry("canary", 15, queue=queue, args=(queue,)) for queue in QUEUES},
}
