"""Scheduler: no run twice and none lost, with beat failures and wrong clocks."""

import threading
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.jobs.definition import FLEET_ZONE, CatchUp, Covers
from services.jobs.store import change_job
from services.shops.shops import get_shop
from tests.jobs.job_rows import add_jobs, add_shops, make_job, periods, run_tick, runs

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
# 09:00 UTC: over in Vancouver (01:00) and in Tokyo (18:00), not yet in Honolulu (23:00 the day before).
NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def begin(engine: Engine, now: datetime = NOW, **zones: str) -> None:
    """Insert shops with the nightly job; the last tick was just before ``now``."""
    add_shops(engine, LONG_AGO, **(zones or {"west": "America/Los_Angeles"}))
    add_jobs(engine, now, make_job())
    run_tick(engine, now)


def test_each_shop_gets_the_day_that_ended_in_its_zone(engine: Engine) -> None:
    begin(engine, NOW - 20 * HOUR, west="America/Los_Angeles", east="Asia/Tokyo", far="Pacific/Honolulu")

    assert run_tick(engine, NOW) == 2

    assert runs(engine) == [
        ("daily-reconciliation", 1, "2026-11-20", "pending"),
        ("daily-reconciliation", 2, "2026-11-20", "pending"),
    ]
    work = "select topic, payload->>'period', q.shop_id from work_queue q join job_runs on work_id = q.id"
    assert sorted(runs(engine, work)) == [("reconcile", "2026-11-20", 1), ("reconcile", "2026-11-20", 2)]


def test_second_tick_begins_nothing(engine: Engine) -> None:
    begin(engine, NOW - 12 * HOUR)
    assert run_tick(engine, NOW) == 1
    assert run_tick(engine, NOW) == 0
    assert run_tick(engine, NOW + HOUR) == 0


def test_new_job_does_not_catch_up_for_earlier_periods(engine: Engine) -> None:
    begin(engine)
    assert runs(engine) == []


def test_a_shop_that_opened_today_has_no_yesterday(engine: Engine) -> None:
    add_jobs(engine, LONG_AGO, make_job())
    add_shops(engine, NOW - timedelta(minutes=5), west="America/Los_Angeles")
    assert run_tick(engine, NOW) == 0
    assert run_tick(engine, NOW + 24 * HOUR) == 1
    assert periods(engine) == ["2026-11-21"]


@pytest.mark.parametrize(
    ("catch_up", "expected", "skipped"),
    [
        (CatchUp.ALL, ["2026-11-21T09:00:00Z", "2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z"], []),
        (CatchUp.ONCE, ["2026-11-21T11:00:00Z"], []),
        (CatchUp.SKIP, [], ["2026-11-21T11:00:00Z"]),
    ],
)
def test_beat_that_was_dead_for_three_hours_catches_up_by_the_rule_of_the_job(
    engine: Engine, catch_up: CatchUp, expected: list[str], skipped: list[str]
) -> None:
    hourly = make_job(
        name="hourly",
        schedule="0 * * * *",
        zone=FLEET_ZONE,
        per_shop=False,
        covers=Covers.MOMENT,
        catch_up=catch_up,
    )
    add_jobs(engine, NOW - HOUR, hourly)
    run_tick(engine, NOW - timedelta(minutes=10))

    run_tick(engine, NOW + 2 * HOUR + timedelta(minutes=50))

    assert periods(engine) == expected
    assert periods(engine, "skipped") == skipped


def test_two_beats_at_once_begin_each_run_once(engine: Engine) -> None:
    begin(engine, NOW - 3 * 24 * HOUR, **{f"shop-{n}": "America/Los_Angeles" for n in range(20)})
    began: list[int] = []
    gate = threading.Barrier(4)

    def beat() -> None:
        gate.wait(60)
        began.append(run_tick(engine, NOW))

    beats = [threading.Thread(target=beat) for _ in range(4)]
    for thread in beats:
        thread.start()
    for thread in beats:
        thread.join()

    assert sorted(began) == [0, 0, 0, 60]
    assert runs(engine, "select count(*), count(distinct (shop_id, period)) from job_runs") == [(60, 60)]
    assert runs(engine, "select count(*) from work_queue") == [(60,)]


def test_clock_that_jumped_ahead_and_came_back_loses_no_run_and_repeats_none(engine: Engine) -> None:
    begin(engine, NOW - 24 * HOUR)
    run_tick(engine, NOW)
    run_tick(engine, NOW + timedelta(days=3))
    ahead = periods(engine)

    back = [run_tick(engine, NOW + timedelta(hours=h)) for h in (1, 24, 48, 72, 96, 120)]

    assert ahead == ["2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23"]
    assert back == [0, 0, 0, 0, 1, 1]
    assert periods(engine) == [*ahead, "2026-11-24", "2026-11-25"]


def test_runs_skipped_by_a_clock_that_was_ahead_start_when_due(engine: Engine) -> None:
    add_shops(engine, LONG_AGO, west="America/Los_Angeles")
    add_jobs(engine, NOW - 24 * HOUR, make_job(catch_up=CatchUp.ONCE))
    run_tick(engine, NOW)
    run_tick(engine, NOW + timedelta(days=3))  # one run, for the newest of three
    ahead = periods(engine)

    back = [run_tick(engine, NOW + timedelta(hours=h)) for h in (1, 24, 48, 72, 96)]

    assert ahead == ["2026-11-20", "2026-11-23"]
    assert back == [0, 1, 1, 0, 1]
    assert sorted(periods(engine)) == ["2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23", "2026-11-24"]


def test_clock_that_goes_back_an_hour_repeats_nothing(engine: Engine) -> None:
    begin(engine, NOW - 24 * HOUR)
    assert run_tick(engine, NOW) == 1
    assert [run_tick(engine, NOW - 2 * HOUR), run_tick(engine, NOW - HOUR), run_tick(engine, NOW)] == [
        0,
        0,
        0,
    ]


@pytest.mark.parametrize(
    ("zone", "night"),
    [
        ("America/Los_Angeles", date(2026, 3, 8)),
        ("America/Los_Angeles", date(2026, 11, 1)),
        ("Australia/Lord_Howe", date(2026, 4, 5)),
        ("Australia/Lord_Howe", date(2026, 10, 4)),
    ],
)
@pytest.mark.parametrize("schedule", ["0 0 * * *", "45 1 * * *", "30 2 * * *"])
def test_nights_when_clocks_change_have_one_run_each(
    engine: Engine, zone: str, night: date, schedule: str
) -> None:
    begins = datetime(night.year, night.month, night.day, tzinfo=ZoneInfo(zone)).astimezone(UTC) - 2 * HOUR
    add_shops(engine, LONG_AGO, shop=zone)
    add_jobs(engine, begins, make_job(schedule=schedule))

    for minutes in range(0, 34 * 60, 20):
        run_tick(engine, begins + timedelta(minutes=minutes))

    assert periods(engine) == [(night - timedelta(days=1)).isoformat(), night.isoformat()]


def test_a_changed_schedule_holds_at_the_next_tick_and_only_for_its_shop(engine: Engine) -> None:
    begin(engine, NOW - 12 * HOUR, west="America/Los_Angeles", other="America/Los_Angeles")
    with transaction(engine) as tx:
        change_job(
            tx, make_job(), get_shop(tx, "west"), {"schedule": "30 1 * * *"}, by="ada", now=NOW - 11 * HOUR
        )

    run_tick(engine, NOW)
    assert [row[1] for row in runs(engine)] == [2]

    run_tick(engine, NOW + HOUR)
    assert [row[1] for row in runs(engine)] == [1, 2]


def test_run_due_before_a_change_uses_the_old_schedule(engine: Engine) -> None:
    begin(engine, NOW - 12 * HOUR)
    with transaction(engine) as tx:  # beat was dead from before midnight until now
        change_job(tx, make_job(), None, {"schedule": "0 5 * * *"}, by="ada", now=NOW - timedelta(minutes=5))

    assert run_tick(engine, NOW) == 1
    assert periods(engine) == ["2026-11-20"]


def test_runs_due_during_a_pause_are_not_started_later(engine: Engine) -> None:
    begin(engine, NOW - 12 * HOUR)
    with transaction(engine) as tx:
        change_job(tx, make_job(), None, {"enabled": False}, by="ada", reason="moving", now=NOW - 11 * HOUR)
    assert run_tick(engine, NOW + 24 * HOUR) == 0
    assert runs(engine, "select next_due_at from job_schedule_state") == [(None,)]

    with transaction(engine) as tx:
        change_job(tx, make_job(), None, {"enabled": None}, by="ada", now=NOW + 25 * HOUR)
    assert run_tick(engine, NOW + 26 * HOUR) == 0
    assert run_tick(engine, NOW + 48 * HOUR) == 1
    assert periods(engine) == ["2026-11-22"]


def test_every_change_is_audited_in_words(engine: Engine) -> None:
    begin(engine)
    with transaction(engine) as tx:
        change_job(
            tx, make_job(), get_shop(tx, "west"), {"enabled": False}, by="ada", reason="moving", now=NOW
        )
    with transaction(engine) as tx:
        change_job(tx, make_job(), None, {"schedule": "0 5 * * *"}, by="ada", now=NOW)
    query = (
        "select shop_id, staff_label, summary from audit_events e join audit_mutations on event_id = e.id "
        "order by e.id"
    )
    assert runs(engine, query) == [
        (1, "ada", "daily-reconciliation is switched off at west: moving"),
        (None, "ada", "daily-reconciliation has the schedule '0 5 * * *'"),
    ]


def test_thousand_shops_are_checked_in_one_statement_and_started_together(engine: Engine) -> None:
    with transaction(engine) as tx:
        tx.execute(
            text(
                "insert into shops (slug, name, timezone, currency, created_at) select 's' || n, 's', "
                "(array['America/Los_Angeles', 'Asia/Tokyo', 'Europe/Berlin'])[n % 3 + 1], "
                "'CAD', :at from generate_series(1, 1000) n"
            ),
            {"at": LONG_AGO},
        )
    add_jobs(engine, NOW - 24 * HOUR, make_job())
    run_tick(engine, NOW - 23 * HOUR)

    assert run_tick(engine, NOW) == 1000
    assert run_tick(engine, NOW) == 0
