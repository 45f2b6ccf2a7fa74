"""WHEN: every periodic job of the fleet in one table. ``celery -A tasks beat`` runs it.

Work is found by "due and not done", never by "now is the minute": a tick that was missed or came
twice changes nothing.
"""

from datetime import timedelta
from typing import Any

from celery.schedules import schedule

from services.ledger.topics import QUEUES
from tasks.ops import canary, drift, plan_daily_reconciliation, sweep


def _entry(task: Any, every: timedelta, *, queue: str = "ops", args: tuple[str, ...] = ()) -> dict[str, Any]:
    # A message that waited longer than two ticks is worth nothing: the next one is on its way.
    expires = max(every.total_seconds() * 2, 10)
    return {
        "task": task.name,
        "schedule": schedule(every),
        "args": args,
        "options": {"queue": queue, "expires": expires},
    }


SCHEDULE: dict[str, dict[str, Any]] = {
    # what, how often
    "sweep": _entry(sweep, timedelta(seconds=2)),
    "measure-drift": _entry(drift, timedelta(seconds=15)),
    "daily-reconciliation": _entry(plan_daily_reconciliation, timedelta(minutes=5)),
    **{
        f"canary-{queue}": _entry(canary, timedelta(seconds=15), queue=queue, args=(queue,))
        for queue in QUEUES
    },
}
