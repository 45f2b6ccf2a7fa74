"""Time is kept: no run twice, none lost, whatever happens to beat and to clocks."""

import threading
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.jobs.definition import FLEET_ZONE, CatchUp, Covers
from services.jobs.store import change_job
from services.shops.shops import get_shop
from tests.jobs.moments import a_job, add_shops, keep_time, know, periods, runs

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
# 09:00 UTC: over in Vancouver (01:00) and in Tokyo (18:00), not yet in Honolulu (23:00 the day before).
NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def begin(engine: Engine, now: datetime = NOW, **zones: str) -> None:
    """Shops with the nightly job, and time kept since a moment before ``now``."""
    add_shops(engine, LONG_AGO, **(zones or {"west": "America/Los_Angeles"}))
    know(engine, now, a_job())
    keep_time(engine, now)


def test_each_shop_gets_the_day_that_is_over_where_it_is(engine: Engine) -> None:
    begin(engine, NOW - 20 * HOUR, west="America/Los_Angeles", east="Asia/Tokyo", far="Pacific/Honolulu")

    assert keep_time(engine, NOW) == 2

    assert runs(engine) == [
        ("daily-reconciliation", 1, "2026-11-20", "pending"),
        ("daily-reconciliation", 2, "2026-11-20", "pending"),
    ]
    work = "select topic, payload->>'period', q.shop_id from work_queue q join job_runs on work_id = q.id"
    assert sorted(runs(engine, work)) == [("reconcile", "2026-11-20", 1), ("reconcile", "2026-11-20", 2)]


def test_second_tick_begins_nothing(engine: Engine) -> None:
    begin(engine, NOW - 12 * HOUR)
    assert keep_time(engine, NOW) == 1
    assert keep_time(engine, NOW) == 0
    assert keep_time(engine, NOW + HOUR) == 0


def test_a_job_that_is_new_does_not_make_up_for_the_time_before_it(engine: Engine) -> None:
    begin(engine)
    assert runs(engine) == []


def test_a_shop_that_opened_today_has_no_yesterday(engine: Engine) -> None:
    know(engine, LONG_AGO, a_job())
    add_shops(engine, NOW - timedelta(minutes=5), west="America/Los_Angeles")
    assert keep_time(engine, NOW) == 0
    assert keep_time(engine, NOW + 24 * HOUR) == 1
    assert periods(engine) == ["2026-11-21"]


@pytest.mark.parametrize(
    ("catch_up", "expected", "skipped"),
    [
        (CatchUp.ALL, ["2026-11-21T09:00:00Z", "2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z"], []),
        (CatchUp.ONCE, ["2026-11-21T11:00:00Z"], []),
        (CatchUp.SKIP, [], ["2026-11-21T11:00:00Z"]),
    ],
)
def test_beat_that_was_dead_for_three_hours_catches_up_as_the_job_says(
    engine: Engine, catch_up: CatchUp, expected: list[str], skipped: list[str]
) -> None:
    hourly = a_job(
        name="hourly",
        schedule="0 * * * *",
        zone=FLEET_ZONE,
        per_shop=False,
        covers=Covers.MOMENT,
        catch_up=catch_up,
    )
    know(engine, NOW - HOUR, hourly)
    keep_time(engine, NOW - timedelta(minutes=10))

    keep_time(engine, NOW + 2 * HOUR + timedelta(minutes=50))

    assert periods(engine) == expected
    assert periods(engine, "skipped") == skipped


def test_two_beats_at_once_begin_each_run_once(engine: Engine) -> None:
    begin(engine, NOW - 3 * 24 * HOUR, **{f"shop-{n}": "America/Los_Angeles" for n in range(20)})
    began: list[int] = []
    gate = threading.Barrier(4)

    def beat() -> None:
        gate.wait(10)
        began.append(keep_time(engine, NOW))

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
    keep_time(engine, NOW)
    keep_time(engine, NOW + timedelta(days=3))
    ahead = periods(engine)

    back = [keep_time(engine, NOW + timedelta(hours=h)) for h in (1, 24, 48, 72, 96, 120)]

    assert ahead == ["2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23"]
    assert back == [0, 0, 0, 0, 1, 1]
    assert periods(engine) == [*ahead, "2026-11-24", "2026-11-25"]


def test_what_a_clock_that_was_ahead_passed_over_runs_when_it_is_due(engine: Engine) -> None:
    add_shops(engine, LONG_AGO, west="America/Los_Angeles")
    know(engine, NOW - 24 * HOUR, a_job(catch_up=CatchUp.ONCE))
    keep_time(engine, NOW)
    keep_time(engine, NOW + timedelta(days=3))  # one run, for the newest of three
    ahead = periods(engine)

    back = [keep_time(engine, NOW + timedelta(hours=h)) for h in (1, 24, 48, 72, 96)]

    assert ahead == ["2026-11-20", "2026-11-23"]
    assert back == [0, 1, 1, 0, 1]
    assert sorted(periods(engine)) == ["2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23", "2026-11-24"]


def test_clock_that_goes_back_an_hour_repeats_nothing(engine: Engine) -> None:
    begin(engine, NOW - 24 * HOUR)
    assert keep_time(engine, NOW) == 1
    assert [keep_time(engine, NOW - 2 * HOUR), keep_time(engine, NOW - HOUR), keep_time(engine, NOW)] == [
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
    know(engine, begins, a_job(schedule=schedule))

    for minutes in range(0, 34 * 60, 20):
        keep_time(engine, begins + timedelta(minutes=minutes))

    assert periods(engine) == [(night - timedelta(days=1)).isoformat(), night.isoformat()]


def test_a_changed_schedule_holds_at_the_next_tick_and_only_for_its_shop(engine: Engine) -> None:
    begin(engine, NOW - 12 * HOUR, west="America/Los_Angeles", other="America/Los_Angeles")
    with transaction(engine) as tx:
        change_job(
            tx, a_job(), get_shop(tx, "west"), {"schedule": "30 1 * * *"}, by="ada", now=NOW - 11 * HOUR
        )

    keep_time(engine, NOW)
    assert [row[1] for row in runs(engine)] == [2]

    keep_time(engine, NOW + HOUR)
    assert [row[1] for row in runs(engine)] == [1, 2]


def test_what_was_due_before_a_change_still_runs_by_the_old_schedule(engine: Engine) -> None:
    begin(engine, NOW - 12 * HOUR)
    with transaction(engine) as tx:  # beat was dead from before midnight until now
        change_job(tx, a_job(), None, {"schedule": "0 5 * * *"}, by="ada", now=NOW - timedelta(minutes=5))

    assert keep_time(engine, NOW) == 1
    assert periods(engine) == ["2026-11-20"]


def test_what_falls_into_a_pause_does_not_run_later(engine: Engine) -> None:
    begin(engine, NOW - 12 * HOUR)
    with transaction(engine) as tx:
        change_job(tx, a_job(), None, {"enabled": False}, by="ada", reason="moving", now=NOW - 11 * HOUR)
    assert keep_time(engine, NOW + 24 * HOUR) == 0
    assert runs(engine, "select next_due_at from job_schedule_state") == [(None,)]

    with transaction(engine) as tx:
        change_job(tx, a_job(), None, {"enabled": None}, by="ada", now=NOW + 25 * HOUR)
    assert keep_time(engine, NOW + 26 * HOUR) == 0
    assert keep_time(engine, NOW + 48 * HOUR) == 1
    assert periods(engine) == ["2026-11-22"]


def test_every_change_is_audited_in_words(engine: Engine) -> None:
    begin(engine)
    with transaction(engine) as tx:
        change_job(tx, a_job(), get_shop(tx, "west"), {"enabled": False}, by="ada", reason="moving", now=NOW)
    with transaction(engine) as tx:
        change_job(tx, a_job(), None, {"schedule": "0 5 * * *"}, by="ada", now=NOW)
    said = (
        "select shop_id, staff_label, summary from audit_events e join audit_mutations on event_id = e.id "
        "order by e.id"
    )
    assert runs(engine, said) == [
        (1, "ada", "daily-reconciliation is switched off at west: moving"),
        (None, "ada", "daily-reconciliation has the schedule '0 5 * * *'"),
    ]


def test_a_thousand_shops_are_looked_at_in_one_statement_and_begin_at_once(engine: Engine) -> None:
    with transaction(engine) as tx:
        tx.execute(
            text(
                "insert into shops (slug, name, timezone, currency, created_at) select 's' || n, 's', "
                "(array['America/Los_Angeles', 'Asia/Tokyo', 'Europe/Berlin'])[n % 3 + 1], "
                "'CAD', :at from generate_series(1, 1000) n"
            ),
            {"at": LONG_AGO},
        )
    know(engine, NOW - 24 * HOUR, a_job())
    keep_time(engine, NOW - 23 * HOUR)

    assert keep_time(engine, NOW) == 1000
    assert keep_time(engine, NOW) == 0
