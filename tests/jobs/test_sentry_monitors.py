"""Rounds: the runs of one monitor, and their end."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.jobs.complete_run import sync_run_status
from services.jobs.definition import FLEET_ZONE, Covers, Job
from services.jobs.runs import start_run
from services.jobs.sentry_monitors import LONGEST_SLUG, name_monitor
from services.jobs.store import change_job
from services.shops.shops import get_shop
from tests.fakes.settings import settings_of
from tests.jobs.job_rows import add_jobs, add_shops, make_job, run_tick, runs, settle

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)  # 01:00 in Vancouver, 18:00 in Tokyo
EVENING = NOW - timedelta(hours=20)
DSN = "http://public@127.0.0.1:9/1"
FLEET_JOB = make_job(name="audit-verify", topic="audit_verify", zone=FLEET_ZONE, per_shop=False)

ROUNDS = "select job, monitor, period, closed_at is null from monitor_checkins order by monitor, id"
SENT = """
select payload->>'monitor_slug', payload->>'status' from work_queue where topic = 'sentry_checkin' order by id
"""
CONFIGS = "select payload->'monitor_config' from work_queue where topic = 'sentry_checkin' order by key"


def begin(engine: Engine, *jobs: Job, **zones: str) -> None:
    """Insert shops and their jobs, known since the evening before, and run one tick."""
    add_shops(engine, LONG_AGO, **zones)
    add_jobs(engine, EVENING, *jobs)
    run_tick(engine, EVENING)


def follow(engine: Engine, now: datetime = NOW) -> None:
    with transaction(engine) as tx:
        sync_run_status(tx, now)


def end_runs(engine: Engine, where: str = "true", status: str = "done") -> None:
    with transaction(engine) as tx:
        ended = (
            "update job_runs set status = :status, started_at = due_at, ended_at = due_at + interval '90 s'"
        )
        tx.execute(text(f"{ended} where {where}"), {"status": status})


def at_once(count: int, act: Callable[[], object]) -> None:
    """Run ``act`` ``count`` times at once."""
    start = threading.Barrier(count)

    def wait_and_act(_: int) -> None:
        start.wait(60)
        act()

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(wait_and_act, range(count)))


def sent_checkins(engine: Engine) -> list[tuple[Any, ...]]:
    return runs(engine, SENT)


def test_runs_of_one_zone_are_one_round_with_one_begin_and_one_end(engine: Engine) -> None:
    with settings_of(SENTRY_DSN=DSN):
        begin(engine, make_job(), west="America/Los_Angeles", mill="America/Los_Angeles", east="Asia/Tokyo")
        run_tick(engine, NOW)
        run_tick(engine, NOW)

        assert runs(engine, ROUNDS) == [
            ("daily-reconciliation", "daily-reconciliation-america-los-angeles", "2026-11-20", True),
            ("daily-reconciliation", "daily-reconciliation-asia-tokyo", "2026-11-20", True),
        ]
        begun = sorted(sent_checkins(engine))
        assert begun == [
            ("daily-reconciliation-america-los-angeles", "in_progress"),
            ("daily-reconciliation-asia-tokyo", "in_progress"),
        ]

        end_runs(engine, "shop_id in (1, 3)")
        follow(engine)
        assert sent_checkins(engine)[2:] == [("daily-reconciliation-asia-tokyo", "ok")]

        end_runs(engine)
        follow(engine)
        follow(engine)
        assert sent_checkins(engine)[3:] == [("daily-reconciliation-america-los-angeles", "ok")]


@pytest.mark.parametrize(
    ("grace", "margin", "longest"), [(timedelta(seconds=90), 2, 2), (timedelta(hours=2), 30, 120)]
)
def test_the_monitor_has_the_schedule_zone_and_grace_that_hold(
    engine: Engine, grace: timedelta, margin: int, longest: int
) -> None:
    with settings_of(SENTRY_DSN=DSN):
        begin(engine, make_job(grace=grace), west="America/Los_Angeles")
        run_tick(engine, NOW)

    ((config,),) = runs(engine, CONFIGS)
    assert config == {
        "schedule": {"type": "crontab", "value": "0 0 * * *"},
        "timezone": "America/Los_Angeles",
        "checkin_margin": margin,
        "max_runtime": longest,
    }


def test_a_shop_with_its_own_schedule_has_its_own_monitor(engine: Engine) -> None:
    with settings_of(SENTRY_DSN=DSN):
        begin(engine, make_job(), west="America/Los_Angeles", mill="America/Los_Angeles")
        with transaction(engine) as tx:
            shop = get_shop(tx, "mill")
            change_job(tx, make_job(), shop, {"schedule": "30 0 * * *"}, by="ada", now=EVENING)
        run_tick(engine, NOW)

    assert [(row[1], row[2]) for row in runs(engine, ROUNDS)] == [
        ("daily-reconciliation-america-los-angeles", "2026-11-20"),
        ("daily-reconciliation-at-mill", "2026-11-20"),
    ]
    assert [row[0]["schedule"]["value"] for row in runs(engine, CONFIGS)] == ["0 0 * * *", "30 0 * * *"]


def test_a_job_of_the_fleet_has_one_monitor_of_its_name_in_the_fleets_zone(engine: Engine) -> None:
    with settings_of(SENTRY_DSN=DSN, FLEET_TIMEZONE="Europe/Berlin"):
        begin(engine, FLEET_JOB)
        run_tick(engine, NOW)

    assert [row[1] for row in runs(engine, ROUNDS)] == ["audit-verify"]
    assert [row[0]["timezone"] for row in runs(engine, CONFIGS)] == ["Europe/Berlin"]


def test_one_failed_run_makes_the_round_an_error_and_its_time_is_from_first_start_to_last_end(
    engine: Engine,
) -> None:
    with settings_of(SENTRY_DSN=DSN):
        begin(engine, make_job(), west="America/Los_Angeles", mill="America/Los_Angeles")
        run_tick(engine, NOW)
        end_runs(engine, "shop_id = 1")
        with transaction(engine) as tx:
            tx.execute(text("update job_runs set started_at = due_at - interval '60 s' where shop_id = 2"))
            tx.execute(text("update work_queue set finished_at = now()"))
            settle(tx, "daily-reconciliation", "dead")
            tx.execute(
                text(
                    "update work_queue w set finished_at = r.due_at + interval '30 s' "
                    "from job_runs r where r.work_id = w.id"
                )
            )
        follow(engine)

    assert sent_checkins(engine)[-1] == ("daily-reconciliation-america-los-angeles", "error")
    ((seconds,),) = runs(
        engine, "select payload->>'duration' from work_queue where payload->>'status' = 'error'"
    )
    assert float(seconds) == 150.0


def test_manual_run_has_its_own_round(engine: Engine) -> None:
    with settings_of(SENTRY_DSN=DSN):
        begin(engine, FLEET_JOB)
        run_tick(engine, NOW)
        end_runs(engine)
        follow(engine)
        with transaction(engine) as tx:
            start_run(tx, FLEET_JOB, None, "2026-11-20", origin="cli", by="ada", now=NOW, force=True)
        end_runs(engine)
        follow(engine)

    assert [status for _, status in sent_checkins(engine)] == ["in_progress", "ok", "in_progress", "ok"]
    ids = runs(
        engine, "select distinct payload->>'check_in_id' from work_queue where payload ? 'check_in_id'"
    )
    assert len(ids) == 2


def test_restarted_run_belongs_to_its_open_round(engine: Engine) -> None:
    with settings_of(SENTRY_DSN=DSN):
        begin(engine, make_job(), west="America/Los_Angeles", mill="America/Los_Angeles")
        run_tick(engine, NOW)
        end_runs(engine, "shop_id = 1")
        with transaction(engine) as tx:
            start_run(tx, make_job(), get_shop(tx, "west"), None, origin="cli", by="ada", now=NOW, force=True)
        end_runs(engine, "shop_id = 2")
        follow(engine)
        assert [status for _, status in sent_checkins(engine)] == ["in_progress"]

        end_runs(engine)
        follow(engine)
    assert [status for _, status in sent_checkins(engine)] == ["in_progress", "ok"]


def test_two_concurrent_follow_ups_close_a_round_once(engine: Engine) -> None:
    with settings_of(SENTRY_DSN=DSN):
        begin(engine, FLEET_JOB)
        run_tick(engine, NOW)
        end_runs(engine)
        at_once(4, lambda: follow(engine))

    assert [status for _, status in sent_checkins(engine)] == ["in_progress", "ok"]


def test_two_beats_at_once_open_a_round_once(engine: Engine) -> None:
    with settings_of(SENTRY_DSN=DSN):
        begin(engine, make_job(), west="America/Los_Angeles", mill="America/Los_Angeles")
        at_once(4, lambda: run_tick(engine, NOW))

    assert [status for _, status in sent_checkins(engine)] == ["in_progress"]


def test_concurrent_starts_of_shops_of_one_round_share_it(engine: Engine) -> None:
    slugs = ["west", "mill", "bay", "cove"]

    def start() -> None:
        with transaction(engine) as tx:
            shop = get_shop(tx, slugs.pop())
            start_run(tx, make_job(), shop, None, origin="cli", by="ada", now=NOW)

    with settings_of(SENTRY_DSN=DSN):
        begin(engine, make_job(), **dict.fromkeys(slugs, "America/Los_Angeles"))
        at_once(4, start)

    assert [status for _, status in sent_checkins(engine)] == ["in_progress"]
    assert runs(engine, "select count(*), count(distinct checkin_id) from job_runs") == [(4, 1)]


def test_run_by_hand_of_an_old_period_changes_no_monitor(engine: Engine) -> None:
    with settings_of(SENTRY_DSN=DSN):
        begin(engine, make_job(), west="America/Los_Angeles")
        with transaction(engine) as tx:
            start_run(tx, make_job(), get_shop(tx, "west"), "2026-11-12", origin="cli", by="ada", now=NOW)
        end_runs(engine, status="failed")
        follow(engine)

    assert runs(engine, "select period, status, checkin_id from job_runs") == [("2026-11-12", "failed", None)]
    assert sent_checkins(engine) == []


def test_round_is_not_closed_while_a_run_joins_it(engine: Engine) -> None:
    with settings_of(SENTRY_DSN=DSN):
        begin(engine, make_job(), west="America/Los_Angeles")
        run_tick(engine, NOW)
        end_runs(engine)
        with transaction(engine) as joining:
            west = get_shop(joining, "west")
            start_run(joining, make_job(), west, None, origin="cli", by="ada", now=NOW, force=True)
            follow(engine)  # reads the run as ended, and the round is locked by the joining run
        follow(engine)

    assert runs(engine, ROUNDS)[0][3] is True
    assert [status for _, status in sent_checkins(engine)] == ["in_progress"]


def test_without_a_dsn_there_are_no_rounds(engine: Engine) -> None:
    begin(engine, FLEET_JOB)
    run_tick(engine, NOW)
    end_runs(engine)
    follow(engine)

    assert runs(engine, ROUNDS) == []
    assert sent_checkins(engine) == []


def test_a_dsn_that_is_taken_away_leaves_no_round_open(engine: Engine) -> None:
    with settings_of(SENTRY_DSN=DSN):
        begin(engine, FLEET_JOB)
        run_tick(engine, NOW)
    end_runs(engine)
    follow(engine)

    assert [row[3] for row in runs(engine, ROUNDS)] == [False]
    assert [status for _, status in sent_checkins(engine)] == ["in_progress"]


@pytest.mark.parametrize(
    ("zone", "own", "slug"),
    [
        ("America/Port-au-Prince", None, "nightly-america-port-au-prince"),
        ("Etc/GMT+3", None, "nightly-etc-gmtplus3"),
        ("Etc/GMT-3", None, "nightly-etc-gmt-3"),
        ("Asia/Tokyo", "asia-tokyo", "nightly-at-asia-tokyo"),
    ],
)
def test_monitor_names_are_unique(zone: str, own: str | None, slug: str) -> None:
    assert name_monitor(make_job(name="nightly"), zone, own) == slug


def test_long_name_is_cut_and_stays_unique() -> None:
    job = make_job(name="weekly-conversations-comparison", covers=Covers.WEEK)
    zones = "America/Argentina/Buenos_Aires", "America/Argentina/Catamarca"
    names = {name_monitor(job, zone, None) for zone in zones}

    assert [len(name) for name in names] == [LONGEST_SLUG] * 2
