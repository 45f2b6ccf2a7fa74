"""Queue ``reconciliation``: our books are held against the providers' own lists.

The healing of gaps is here, and not beside the pushes and the mails: a shop's first one may take minutes.
"""

from services.closing.daily import close_day
from services.closing.gap_backfill import fill_gaps
from services.jobs.handler import JobHandler
from services.shopify.subscriptions.check import watch_subscriptions
from tasks.runner import work_task

reconcile = work_task("reconcile", JobHandler(close_day))
gap_heal = work_task("gap_heal", JobHandler(fill_gaps))
subscription_watch = work_task("subscription_watch", JobHandler(watch_subscriptions))
