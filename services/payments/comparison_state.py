"""Whether a shop's day was compared with Stripe: an empty list of breaks means nothing where it was not."""

from datetime import date
from typing import Any

from sqlalchemy import Connection

from services.jobs.schedule import day_bounds
from services.payments.reconcile import JOB, NO_STRIPE
from services.shops.shops import Shop

_FIND = """
select r.status, r.stats, coalesce(r.error, w.error_code || ': ' || w.last_error, '') as error
  from job_runs r
  left join work_queue w on w.id = r.work_id and w.status in ('pending', 'error')
 where r.job = %(job)s and r.shop_id = %(shop_id)s and r.period = %(period)s
"""


def find_not_compared(tx: Connection, shop: Shop, day: date) -> str:
    """Return why ``day`` was not compared with Stripe, and which command comes next; empty where it was."""
    period = day.isoformat()
    values = {"job": JOB, "shop_id": shop.id, "period": period}
    run = tx.exec_driver_sql(_FIND, values).first()
    if run is not None:
        return _explain_run(shop, period, run)
    _, ends = day_bounds(shop.zone, day)
    if ends <= shop.created_at:
        added = shop.created_at.astimezone(shop.zone).date().isoformat()
        return f"the shop was added on {added}, after that day; to compare it, {_rerun(shop, period)}"
    return f"no run of {JOB} has taken place for it; when the day is over, {_rerun(shop, period)}"


def _explain_run(shop: Shop, period: str, run: Any) -> str:
    because = f" ({run.error})" if run.error else ""
    if run.status == "done":
        if not run.stats.get(NO_STRIPE):
            return ""
        return (
            "the shop has no stripe-key and no payments of Stripe; to record a key, "
            f"`fleet shops secret {shop.slug} stripe-key --stdin`"
        )
    if run.status in ("pending", "running"):
        words = "waits" if run.status == "pending" else "has begun and not ended"
        return f"its run {words}{because}; see `fleet jobs history {JOB} --shop {shop.slug}`"
    verb = "was skipped" if run.status == "skipped" else "failed"
    return f"its run {verb}{because}; correct the cause, then {_rerun(shop, period)}"


def _rerun(shop: Shop, period: str) -> str:
    return f"`fleet jobs run {JOB} --shop {shop.slug} --period {period} --force`"
