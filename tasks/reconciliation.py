"""Queue ``reconciliation``: our books are held against Stripe's."""

from services.books.reconcile import Reconcile
from tasks.runner import work_task

reconcile = work_task("reconcile", Reconcile())
