"""A report goes out once for each period, to each recipient, and heals when its cause is gone."""

import threading
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from services.core.db import transaction
from services.core.errors import InputInvalid
from services.jobs.definition import Covers
from services.jobs.schedule import PeriodInvalid
from services.ledger.accept import record_work
from services.timesheets.compose import MadeReport, make_report
from services.timesheets.definition import ReportDefinition
from services.timesheets.store import (
    check_period,
    get_report,
    list_reports,
    record_due_reports,
    remove_report,
    save_report,
    start_report,
)
from tests.timesheets.company import DUE, MAILS, RUNS, SINCE, Company

BEFORE = DUE - timedelta(minutes=1)


def due(company: Company, now: datetime) -> int:
    with transaction(company.engine) as tx:
        return len(record_due_reports(tx, now))


def test_a_report_is_due_from_its_time_on_and_once(company: Company) -> None:
    company.save()
    last_week = DUE - timedelta(days=7)
    times = (SINCE, last_week, BEFORE, DUE, DUE, DUE + timedelta(days=6))
    assert [due(company, at) for at in times] == [0, 1, 0, 1, 0, 0]
    assert company.rows(RUNS) == [("2026-W46", "pending", ""), ("2026-W47", "pending", "")]


def test_firing_ten_times_at_once_sends_once(company: Company) -> None:
    company.save()
    started = threading.Barrier(10)

    def fire() -> None:
        started.wait(60)
        with transaction(company.engine) as tx:
            record_work(tx, record_due_reports(tx, DUE), DUE)

    threads = [threading.Thread(target=fire) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    company.send()
    assert company.rows(MAILS) == [("pay@harbour.example", "sent")]
    assert company.rows("select count(*) from work_queue where topic = 'report_send'") == [(1,)]


def test_a_report_is_mailed_with_its_files_to_each_recipient(company: Company) -> None:
    report = company.save(recipients=["Pay@Harbour.example", "boss@harbour.example", "pay@harbour.example "])
    assert company.start(report) == "pending"
    company.send()
    company.follow(DUE)
    assert {row[0].lower() for row in company.rows(MAILS)} == {"pay@harbour.example", "boss@harbour.example"}
    assert company.rows(RUNS) == [("2026-W47", "sent", "")]
    ((subject, body),) = company.rows("select subject, text from mail_outbox where recipient like 'boss%'")
    assert subject == "Harbour Bikes: Payroll, Mon 16 Nov 2026 to Sun 22 Nov 2026"
    for line in ("Dana Ruiz", "Regular: 8.00", "Overtime: 4.00", "Double time: 1.00", "British Columbia"):
        assert line in body
    parts = company.rows("select distinct name, content_type from mail_parts order by 1")
    assert [name for name, _ in parts] == ["payroll-2026-W47.csv", "payroll-2026-W47.xlsx"]


@pytest.mark.parametrize(
    ("day_begins", "start", "end"),
    [
        (5, "2026-11-23T01:00:00-08:00", "2026-11-23T04:00:00-08:00"),
        (0, "2026-11-23T00:30:00-05:00", "2026-11-23T01:45:00-05:00"),  # before midnight in Vancouver
    ],
)
def test_a_shift_of_the_last_day_with_the_next_date_counts(
    company: Company, day_begins: int, start: str, end: str
) -> None:
    shift = {"id": 5, "user_id": 7, "jobcode_id": 3, "start": start, "end": end, "date": start[:10]}
    company.control(timesheets=[shift], delete_timesheets=[1, 2])
    company.start(company.save(day_begins=day_begins))
    company.serve("report_send")
    hours = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    ((body,),) = company.rows("select text from mail_outbox where kind = 'timesheet_report'")
    assert f"Regular: {hours.total_seconds() / 3600:.2f}" in body


def test_a_report_that_went_out_does_not_go_again(company: Company) -> None:
    report = company.save()
    company.start(report)
    company.send()
    company.follow(DUE)
    assert company.start(report) == "sent"
    with transaction(company.engine) as tx:
        tx.execute(text("update work_queue set status = 'pending', finished_at = null"))
    company.send()
    assert company.rows(MAILS) == [("pay@harbour.example", "sent")]


def test_after_an_outage_only_the_newest_slot_is_due(company: Company) -> None:
    company.save()
    assert due(company, DUE + timedelta(days=21)) == 1
    assert [row[0] for row in company.rows(RUNS)] == ["2026-W50"]


@pytest.mark.parametrize("paused", [True, False])
def test_a_paused_report_is_not_due(company: Company, paused: bool) -> None:
    company.save(paused_at=SINCE if paused else None)
    assert due(company, DUE) == (0 if paused else 1)


def test_a_changed_schedule_makes_no_earlier_slot_due(company: Company) -> None:
    report = company.save()
    with transaction(company.engine) as tx:
        changed = ReportDefinition(**{**as_values(report), "schedule": "0 5 * * 1"})
        save_report(tx, changed, by="ada", now=DUE - timedelta(minutes=30))
    assert due(company, DUE) == 0, "05:00 was before the change"


def test_changed_recipients_leave_the_slot_due_and_get_the_report(company: Company) -> None:
    report = company.save()
    with transaction(company.engine) as tx:
        changed = replace(report, recipients=["new@harbour.example"], formats=["pdf"])
        save_report(tx, changed, by="ada", now=DUE + timedelta(minutes=5))
    assert due(company, DUE + timedelta(minutes=10)) == 1


def test_a_run_that_a_person_starts_takes_the_place_of_no_slot(company: Company) -> None:
    report = company.save()
    with transaction(company.engine) as tx:
        author: Any = {"by": "ada", "now": DUE + timedelta(minutes=5)}
        start_report(tx, report, company.shop, "2026-W40", origin="cli", **author)
    assert due(company, DUE + timedelta(minutes=10)) == 1
    assert due(company, DUE + timedelta(minutes=25)) == 0


@pytest.mark.parametrize(
    ("change", "mails"),
    [("remove", []), ("recipients", [("new@harbour.example", "queued")]), ("shop", [])],
)
def test_a_change_while_the_report_waits_or_is_made_counts(
    company: Company, monkeypatch: pytest.MonkeyPatch, change: str, mails: list[tuple[str, str]]
) -> None:
    report = company.save()
    company.start(report)

    def make_then_change(*given: Any) -> MadeReport:
        made = make_report(*given)
        with transaction(company.engine) as tx:
            if change == "remove":
                remove_report(tx, report, by="ada", now=SINCE)
            else:
                save_report(tx, replace(report, recipients=["new@harbour.example"]), by="ada", now=SINCE)
        return made

    monkeypatch.setattr("services.timesheets.handler.make_report", make_then_change)
    if change == "shop":
        with transaction(company.engine) as tx:
            tx.execute(text('update shop_config set settings = \'{"removed_at": "2026-11-20T00:00:00Z"}\''))
    company.serve("report_send")
    assert company.rows(MAILS) == mails
    assert company.rows("select status from work_queue where topic = 'report_send'") == [("done",)]


def test_a_run_whose_period_its_report_covers_no_more_is_refused_with_what_to_do(company: Company) -> None:
    company.start(company.save())
    company.save(covers=Covers.DAY)
    company.send()
    company.follow(DUE)
    assert company.rows(RUNS) == [("2026-W47", "failed", "report.period_changed")]


def as_values(report: ReportDefinition) -> dict[str, Any]:
    return {name: getattr(report, name) for name in report.__slots__}


def test_a_report_of_a_removed_shop_is_not_due(company: Company) -> None:
    company.save()
    with transaction(company.engine) as tx:
        tx.execute(text('update shop_config set settings = \'{"removed_at": "2026-11-20T00:00:00Z"}\''))
    assert due(company, DUE) == 0


@pytest.mark.parametrize(
    ("changes", "first", "last", "slot"),
    [
        ({"week_begins": "monday"}, date(2026, 11, 16), date(2026, 11, 22), "2026-11-23T13:00Z"),
        ({"week_begins": "sunday"}, date(2026, 11, 15), date(2026, 11, 21), "2026-11-22T13:00Z"),
        ({"week_begins": "sunday"}, date(2026, 11, 15), date(2026, 11, 21), "2026-11-28T13:00Z"),
        ({"covers": Covers.DAY}, date(2026, 11, 22), date(2026, 11, 22), "2026-11-23T13:00Z"),
        ({"covers": Covers.MONTH}, date(2026, 10, 1), date(2026, 10, 31), "2026-11-23T13:00Z"),
        # In Vancouver 04:59 and 05:00 on a Monday, where Sunday ends at 05:00.
        ({"day_begins": 5}, date(2026, 11, 9), date(2026, 11, 15), "2026-11-23T11:59Z"),
        ({"day_begins": 5}, date(2026, 11, 16), date(2026, 11, 22), "2026-11-23T12:00Z"),
    ],
)
def test_a_period_has_the_days_before_its_slot(
    company: Company, changes: dict[str, Any], first: date, last: date, slot: str
) -> None:
    report = company.save(**changes)
    period = report.period_at(datetime.fromisoformat(slot), company.shop.zone)
    assert report.days_of(period, company.shop.zone) == (first, last)


def test_a_period_whose_last_day_ends_in_the_morning_is_not_over_before(company: Company) -> None:
    report, zone = company.save(day_begins=5), company.shop.zone
    ends = datetime(2026, 11, 23, 5, tzinfo=zone)
    with pytest.raises(PeriodInvalid, match="is not over yet"):
        check_period(report, "2026-W47", ends - timedelta(minutes=1), zone)
    assert check_period(report, "2026-W47", ends, zone) == "2026-W47"


def test_a_period_that_is_not_over_or_not_readable_is_refused(company: Company) -> None:
    report = company.save()
    for period, message in (("2036-W01", "is not over yet"), ("2026-47", "should be a week such as")):
        with pytest.raises(PeriodInvalid, match=message):
            company.start(report, period)
    assert company.rows(RUNS) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "hours"}, "kind='hours'"),
        ({"name": "  "}, "name=' *'"),
        ({"name": "a\0b"}, "should have no control characters"),
        ({"name": "\u202ellorya\x1b"}, "should have no control characters"),
        ({"schedule": "0 6 * *"}, "schedule='0 6 "),
        ({"recipients": []}, "recipients: 0 addresses"),
        ({"recipients": ["ada"]}, "email='ada' should be an address"),
        ({"formats": ["doc"]}, "formats='doc'"),
        ({"overtime": "CA-XX"}, "overtime='CA-XX'"),
        ({"kind": "hours-by-person"}, "overtime='CA-BC' should be none"),
        ({"filters": {"jobcode_ids": [3]}}, "should be empty for payroll"),
        ({"covers": Covers.MOMENT}, "covers=moment should be day, week or month"),
        ({"kind": "on-the-clock", "overtime": "none"}, "covers=week should be moment"),
        ({"day_begins": 24}, "day_begins=24"),
        ({"week_begins": "friday"}, "week_begins='friday'"),
    ],
)
def test_a_wrong_definition_is_refused_with_its_field(
    company: Company, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputInvalid, match=message):
        company.save(**changes)
    assert company.rows("select * from reports") == []


def test_a_report_is_changed_removed_and_audited(company: Company) -> None:
    company.save()
    company.save()  # nothing changes
    report = company.save(formats=["pdf"])
    with transaction(company.engine) as tx:
        assert [one.name for one in list_reports(tx, company.shop.id)] == ["Payroll"]
        remove_report(tx, report, by="ada", now=SINCE)
        with pytest.raises(InputInvalid, match="has no report yet"):
            get_report(tx, company.shop.id, "Payroll")
    actions = "select action from audit_events where action like 'report%' order by id"
    assert company.rows(actions) == [("report.set",), ("report.set",), ("report.remove",)]
