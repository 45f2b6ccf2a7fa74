"""Which step is due for whom: zones, daylight saving time, missed runs; compared with a slow computation."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from threading import Thread
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.db import transaction
from services.outreach.audience import Segment, lock_people
from services.outreach.people import ImportCounts
from services.outreach.plan import find_start, plan_person
from services.outreach.series import SERIES
from tests.outreach.audience import DAY, NINE, TWO_PM, Audience

ZONES = (
    "UTC", "Europe/Berlin", "America/Vancouver", "America/St_Johns", "Australia/Adelaide",
    "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu", "Australia/Lord_Howe",
)  # fmt: skip


class Person(NamedTuple):
    signed_up_at: datetime
    last_active_at: datetime | None
    timezone: str = ""
    steps: Sequence[str] = ()
    days: Sequence[date] = ()
    consents: Sequence[tuple[datetime, datetime | None]] = ()
    has_withdrawn: bool = False
    steps_before: Mapping[str, Sequence[str]] = {}


MINUTES = st.integers(0, 365 * 24 * 60).map(
    lambda minutes: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)


@given(now=MINUTES, ago=st.integers(0, 6 * 24 * 60), zone=st.sampled_from(ZONES))
@settings(max_examples=300, deadline=None)
def test_a_reminder_is_due_if_no_minute_of_today_or_yesterday_had_activity(
    now: datetime, ago: int, zone: str
) -> None:
    active = now - timedelta(minutes=ago)
    person = Person(now - 90 * DAY, active)
    step = SERIES["reminders"].find_step(person, (), now, ZoneInfo(zone))

    # Slow: walk back minute by minute to the second midnight of the zone.
    at, midnights, was_active = now, 0, False
    while midnights < 2:
        was_active = was_active or at == active
        before = at - timedelta(minutes=1)
        midnights += before.astimezone(ZoneInfo(zone)).date() != at.astimezone(ZoneInfo(zone)).date()
        at = before
    assert bool(step.step) != was_active


@given(
    signed_up=MINUTES, zone=st.sampled_from(ZONES), missed=st.sets(st.integers(0, 9)), hours=st.integers(0, 5)
)
@settings(max_examples=300, deadline=None)
def test_each_step_goes_once_in_order_and_at_most_a_day_late(
    signed_up: datetime, zone: str, missed: set[int], hours: int
) -> None:
    slot = signed_up.replace(hour=14, minute=0, second=0, microsecond=0)
    slot += DAY if slot <= signed_up else timedelta()
    sent: dict[str, int] = {}
    lost: list[str] = []
    where = ZoneInfo(zone)
    for number in range(10):
        now = slot + number * DAY + timedelta(hours=hours)
        if number in missed:
            continue
        found = SERIES["founder"].find_step(Person(signed_up, None), {*sent, *lost}, now, where)
        lost += found.late
        if found.step and not found.is_sent:
            assert found.step not in sent
            sent[found.step] = (now.astimezone(where).date() - signed_up.astimezone(where).date()).days
    assert list(sent) == sorted(sent)
    assert not set(sent) & set(lost)
    for step, days in sent.items():
        assert days - int(step[-1]) in (0, 1)
    if not missed:
        assert (list(sent), lost) == (["day1", "day2", "day3"], [])
    if len(missed) < 8 and 9 not in missed:
        assert len(sent) + len(lost) == 3


@pytest.mark.parametrize(
    ("at", "zone", "starts"),
    [
        ("2026-11-20T09:00", "Europe/Berlin", None),
        ("2026-11-20T07:00", "Europe/Berlin", None),
        ("2026-11-20T06:59", "Europe/Berlin", "2026-11-20T07:00"),
        ("2026-11-20T19:59", "Europe/Berlin", None),
        ("2026-11-20T20:00", "Europe/Berlin", "2026-11-21T07:00"),
        # The night in which the clock goes forward: 08:00 is an hour earlier in UTC.
        ("2026-03-28T22:00", "Europe/Berlin", "2026-03-29T06:00"),
        ("2026-10-24T22:00", "Europe/Berlin", "2026-10-25T07:00"),
        ("2026-11-20T09:00", "Pacific/Kiritimati", "2026-11-20T18:00"),
    ],
)
def test_quiet_hours_end_at_eight_in_the_persons_zone(at: str, zone: str, starts: str | None) -> None:
    found = find_start(datetime.fromisoformat(at).replace(tzinfo=UTC), ZoneInfo(zone))

    assert found == (datetime.fromisoformat(starts).replace(tzinfo=UTC) if starts else None)


def test_the_cap_counts_the_day_on_which_the_mail_goes_out() -> None:
    now = datetime(2026, 11, 20, 20, 30, tzinfo=UTC)  # 21:30 in Berlin: it goes out on the 21st
    given_at = now - 90 * DAY
    person = Person(now - 90 * DAY, None, "Europe/Berlin", (), (date(2026, 11, 20),), ((given_at, None),))
    plan = plan_person(SERIES["reminders"], person, (), 1, "UTC", now)

    assert (plan.reason, plan.local_day) == ("", date(2026, 11, 21))
    person = person._replace(days=(date(2026, 11, 21),))
    assert plan_person(SERIES["reminders"], person, (), 1, "UTC", now).reason == "capped"


def test_a_missed_run_sends_its_step_a_day_late_and_loses_older_ones(audience: Audience) -> None:
    audience.add({"external_id": "ada", "signed_up_at": TWO_PM - DAY})
    audience.add({"external_id": "bo", "signed_up_at": TWO_PM - 3 * DAY})

    assert audience.run("founder-sequence", TWO_PM) == {
        "sent": 2, "day1_sent": 1, "day2_sent": 1, "skipped": 1, "too_late": 1,
    }  # fmt: skip
    assert audience.run("founder-sequence", TWO_PM + DAY) == {"sent": 2, "day2_sent": 1, "day3_sent": 1}
    assert audience.run("founder-sequence", TWO_PM + 2 * DAY) == {"sent": 1, "day3_sent": 1}
    assert audience.run("founder-sequence", TWO_PM + 3 * DAY) == {}


def test_two_runs_at_once_send_each_step_once(audience: Audience) -> None:
    audience.add(*[{"external_id": f"u-{n}", "signed_up_at": NINE - 2 * DAY} for n in range(40)])
    audience.start("send-reminders", NINE)
    audience.start("send-reminders", NINE, force=True)
    audience.start("founder-sequence", NINE)
    threads = [Thread(target=audience.compose, args=(NINE,)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    audience.send()

    found: list[Any] = audience.rows("select count(*), count(distinct recipient) from mail_outbox")
    assert found == [(40, 40)]
    assert audience.rows("select count(*) from outreach_sends where status = 'mailed'") == [(40,)]
    assert len(audience.smtp.mails) == 40


def test_an_import_of_several_statements_locks_people_in_the_order_of_their_ids(
    audience: Audience, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As composition does: in another order the two wait for each other."""
    audience.add({"external_id": "b"})
    audience.add({"external_id": "a"})
    monkeypatch.setattr("services.outreach.people.MAX_PEOPLE", 1)
    changed = [{"external_id": "a", "name": "Ada"}, {"external_id": "b", "name": "Bo"}, {"external_id": "c"}]
    found: list[Any] = []
    other = Thread(target=lambda: found.append(audience.add(*changed)))
    series, shop_id = SERIES["reminders"], audience.shop.id
    waits = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    with transaction(audience.engine) as tx:
        lock_people(tx, series, Segment(shop_id, 1, 1), NINE)
        other.start()
        while not audience.rows(waits):
            assert other.is_alive()
        lock_people(tx, series, Segment(shop_id, 2, 2), NINE)
    other.join()

    assert found == [ImportCounts(new=1, changed=2, unchanged=0, consents=1)]
