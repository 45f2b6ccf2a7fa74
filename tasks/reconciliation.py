"""Queue ``reconciliation``: a shop's day is closed, its payments held against Stripe's."""

from services.closing.daily import CloseDay
from services.jobs.effect import JobEffect
from tasks.runner import work_task

reconcile = work_task("reconcile", JobEffect(CloseDay()))
