"""Both jobs, run by a worker from the run row to its end."""

from datetime import timedelta
from functools import partial

from sqlalchemy import text

from services.closing.gap_backfill import backfill_gaps
from services.jobs.handler import JobWork
from services.shopify.subscriptions.check import check_subscriptions
from tests.jobs.job_rows import add_jobs, run_tick, runs
from tests.jobs.work import finish_runs
from tests.shopify.backfill.fake_shop import Shops, put_order, work_off
from tests.shopify.backfill.sample_day import EVENING

ENDED = """
select s.slug, r.period, r.status, r.stats ->> %(figure)s, w.result
  from job_runs r join shops s on s.id = r.shop_id join work_queue w on w.id = r.work_id order by 1
"""


def run_hour(shops: Shops, job: str, topic: str, work: JobWork, figure: str) -> list[tuple[object, ...]]:
    """Run ``job`` at the full hour; return its runs."""
    from beat_schedule import JOBS

    with shops.engine.begin() as tx:
        tx.execute(text("update shops set created_at = :at"), {"at": EVENING - timedelta(days=1)})
    add_jobs(shops.engine, EVENING, *(one for one in JOBS if one.name == job))
    assert run_tick(shops.engine, EVENING + timedelta(hours=1)) == 2
    assert finish_runs(shops.engine, topic, work) == 2
    work_off(shops.engine)
    return runs(shops.engine, ENDED.replace("%(figure)s", f"'{figure}'"))


def test_hourly_job_runs_for_each_shop_and_records_what_is_missing(shops: Shops) -> None:
    put_order(shops, EVENING)

    ended = run_hour(
        shops, "gap-healing", "gap_heal", partial(backfill_gaps, clock=lambda: EVENING), "entered"
    )

    assert ended == [
        ("holed", "2026-11-21T06:17:00Z", "done", "1", "backfilled"),
        ("whole", "2026-11-21T06:17:00Z", "done", "0", "complete"),
    ]
    with shops.engine.connect() as connection:
        counted = connection.scalar(
            text("select m.after from audit_mutations m where m.table_name = 'inbound_events'")
        )
    assert counted == {"orders/updated": 1}


def test_the_watchdog_runs_for_each_shop_that_is_connected(shops: Shops) -> None:
    ended = run_hour(
        shops,
        "subscription-watchdog",
        "subscription_watch",
        partial(check_subscriptions, clock=lambda: EVENING),
        "good",
    )

    assert ended == [
        ("holed", "2026-11-21T06:47:00Z", "done", "0", "well"),
        ("whole", "2026-11-21T06:47:00Z", "done", None, "not_connected"),
    ]
