"""WHEN: everything periodic in one place. ``celery -A tasks beat`` keeps it.

``JOBS`` is the table to read first: what runs when, in whose time zone, how late is too late, what becomes
of slots that passed while nobody kept time, and where one sees that it ran. A run of a job is found by
"due and not done", never by "now is the minute". Schedules are five cron fields; what a person changed
for a shop (``fleet jobs set``) is in the database and holds without a restart.

``SCHEDULE`` is the fleet's own pulse: messages every few seconds that carry no work.
"""

from datetime import timedelta
from typing import Any

from celery.schedules import schedule

from services.jobs.definition import FLEET_ZONE, SHOP_ZONE, CatchUp, Covers, Job
from services.ledger.topics import QUEUES

JOBS: tuple[Job, ...] = (
    Job(
        name="daily-reconciliation",
        topic="reconcile",
        title="yesterday is closed: payments against Stripe's, the audit chain, what runs low",
        schedule="0 0 * * *",
        zone=SHOP_ZONE,
        per_shop=True,
        covers=Covers.DAY,
        grace=timedelta(minutes=30),
        catch_up=CatchUp.ALL,
        volume="theirs",
        evidence="job_runs, shop_config.last_daily_run, reconciliation_breaks",
    ),
    Job(
        name="gap-healing",
        topic="gap_heal",
        title="what Shopify and Stripe have and no webhook told is brought in",
        schedule="17 * * * *",
        zone=FLEET_ZONE,
        per_shop=True,
        covers=Covers.MOMENT,
        grace=timedelta(hours=2),
        catch_up=CatchUp.ONCE,
        evidence="job_runs, sync_cursors, inbound_events with origin backfill",
    ),
    Job(
        name="subscription-watchdog",
        topic="subscription_watch",
        title="Shopify still sends what it should; what it dropped is made anew",
        schedule="47 * * * *",
        zone=FLEET_ZONE,
        per_shop=True,
        covers=Covers.MOMENT,
        grace=timedelta(hours=2),
        catch_up=CatchUp.ONCE,
        evidence="job_runs, webhook_subscriptions",
    ),
    Job(
        name="weekly-owner-digest",
        topic="owner_digest",
        title="the week before is mailed to the owner: revenue, who and what sold best",
        schedule="0 6 * * 1",
        zone=SHOP_ZONE,
        per_shop=True,
        covers=Covers.WEEK,
        grace=timedelta(hours=1),
        catch_up=CatchUp.ONCE,
        evidence="job_runs, mail_outbox",
    ),
    Job(
        name="monthly-close",
        topic="month_close",
        title="the month before is closed: sales tax, profit and loss, mailed to owner and accountant",
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
        name="audit-verify",
        topic="audit_verify",
        title="every audit chain is recomputed and held against its anchors",
        schedule="30 1 * * *",
        zone=FLEET_ZONE,
        covers=Covers.DAY,
        grace=timedelta(hours=1),
        catch_up=CatchUp.ONCE,
        evidence="job_runs, audit_checkpoints",
    ),
    Job(
        name="audit-anchor",
        topic="audit_anchor",
        title="the signed heads of all chains go to the archive store",
        schedule="0 1 * * *",
        zone=FLEET_ZONE,
        covers=Covers.DAY,
        grace=timedelta(minutes=30),
        catch_up=CatchUp.ONCE,
        evidence="job_runs, anchors/ in the archive store",
    ),
    Job(
        name="weekly-audit-archive",
        topic="audit_archive",
        title="audit events past 90 days move to the archive store",
        schedule="0 6 * * 1",
        zone=SHOP_ZONE,
        per_shop=True,
        covers=Covers.WEEK,
        grace=timedelta(hours=2),
        catch_up=CatchUp.ONCE,
        evidence="job_runs, audit_archives, manifests in the archive store",
    ),
    Job(
        name="weekly-audit-archive-fleet",
        topic="audit_archive",
        title="the fleet's own audit events past 90 days move to the archive store",
        schedule="0 6 * * 1",
        zone=FLEET_ZONE,
        covers=Covers.WEEK,
        grace=timedelta(hours=2),
        catch_up=CatchUp.ONCE,
        evidence="job_runs, audit_archives, manifests in the archive store",
    ),
)


def _entry(task: str, every: timedelta, *, queue: str = "ops", args: tuple[str, ...] = ()) -> dict[str, Any]:
    # A message that waited longer than two ticks is worth nothing: the next one is on its way.
    expires = max(every.total_seconds() * 2, 10)
    return {
        "task": task,
        "schedule": schedule(every),
        "args": args,
        "options": {"queue": queue, "expires": expires},
    }


SCHEDULE: dict[str, dict[str, Any]] = {
    # what, how often
    "sweep": _entry("sweep", timedelta(seconds=2)),
    "measure-drift": _entry("measure-drift", timedelta(seconds=15)),
    **{
        f"canary-{queue}": _entry("canary", timedelta(seconds=15), queue=queue, args=(queue,))
        for queue in QUEUES
    },
}
