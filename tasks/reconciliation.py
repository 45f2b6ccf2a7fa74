"""Queue ``reconciliation``: our books are held against Stripe's."""

from services.books.reconcile import Reconcile
from services.jobs.effect import JobEffect
from tasks.runner import work_task

reconcile = work_task("reconcile", JobEffect(Reconcile()))
