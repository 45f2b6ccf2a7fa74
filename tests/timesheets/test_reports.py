"""A report goes out once for each period, to each recipient, and heals when its cause is gone."""

import threading
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import InputInvalid
from services.jobs.definition import Covers
from services.jobs.schedule import PeriodInvalid
from services.timesheets.definition import ReportDefinition
from services.timesheets.figures import collect_figures
from services.timesheets.follow import follow_reports
from services.timesheets.store import (
    get_report,
    list_reports,
    record_due_reports,
    remove_report,
    save_report,
    start_report,
)
from tests.timesheets.company import SINCE, Company

# Monday 23 November 2026, 06:00 in Vancouver is 13:00 UTC.
BEFORE, DUE = datetime(2026, 11, 23, 12, 59, tzinfo=UTC), datetime(2026, 11, 23, 13, 0, tzinfo=UTC)
RUNS = "select period, status, coalesce(error_code, '') from report_runs order by due_at"
MAILS = "select recipient, status from mail_outbox where kind = 'timesheet_report' order by id"
NOTICES = "select kind, text from notifications order by id"


def due(company: Company, now: datetime) -> int:
    with transaction(company.engine) as tx:
        return len(record_due_reports(tx, now))


def follow(company: Company, now: datetime = DUE) -> None:
    with transaction(company.engine) as tx:
        follow_reports(tx, now)


def start(company: Company, report: ReportDefinition, period: str | None = "2026-W47") -> str:
    with transaction(company.engine) as tx:
        return start_report(tx, report, company.shop, period, origin="cli", by="ada", now=utc_now()).status


def send(company: Company) -> None:
    company.serve("report_send")
    company.serve("mail_send")


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
        started.wait(30)
        with transaction(company.engine) as tx:
            from services.ledger.accept import record_work

            record_work(tx, record_due_reports(tx, DUE), DUE)

    threads = [threading.Thread(target=fire) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    send(company)
    assert company.rows(MAILS) == [("pay@harbour.example", "sent")]
    assert company.rows("select count(*) from work_queue where topic = 'report_send'") == [(1,)]


def test_a_report_is_mailed_with_its_files_to_each_recipient(company: Company) -> None:
    report = company.save(recipients=["Pay@Harbour.example", "boss@harbour.example", "pay@harbour.example "])
    assert start(company, report) == "pending"
    send(company)
    follow(company)
    assert {row[0].lower() for row in company.rows(MAILS)} == {"pay@harbour.example", "boss@harbour.example"}
    assert company.rows(RUNS) == [("2026-W47", "sent", "")]
    ((subject, body),) = company.rows("select subject, text from mail_outbox where recipient like 'boss%'")
    assert subject == "Harbour Bikes: Payroll, Mon 16 Nov 2026 to Sun 22 Nov 2026"
    for line in ("Dana Ruiz", "Regular: 8.00", "Overtime: 4.00", "Double time: 1.00", "British Columbia"):
        assert line in body
    parts = company.rows("select distinct name, content_type from mail_parts order by 1")
    assert [name for name, _ in parts] == ["payroll-2026-W47.csv", "payroll-2026-W47.xlsx"]


def test_a_report_that_went_out_does_not_go_again(company: Company) -> None:
    report = company.save()
    start(company, report)
    send(company)
    follow(company)
    assert start(company, report) == "sent"
    with transaction(company.engine) as tx:
        tx.execute(text("update work_queue set status = 'pending', finished_at = null"))
    send(company)
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


def as_values(report: ReportDefinition) -> dict[str, Any]:
    return {name: getattr(report, name) for name in report.__slots__}  # type: ignore[attr-defined]


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
    ],
)
def test_a_period_has_the_days_before_its_slot(
    company: Company, changes: dict[str, Any], first: date, last: date, slot: str
) -> None:
    report = company.save(**changes)
    period = report.period_at(datetime.fromisoformat(slot), company.shop.zone)
    assert report.days_of(period, company.shop.zone) == (first, last)


def test_a_period_that_is_not_over_or_not_readable_is_refused(company: Company) -> None:
    report = company.save()
    for period, message in (("2036-W01", "is not over yet"), ("2026-47", "should be a week such as")):
        with pytest.raises(PeriodInvalid, match=message):
            start(company, report, period)
    assert company.rows(RUNS) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "hours"}, "kind='hours'"),
        ({"name": "  "}, "name=' *'"),
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


def test_who_is_on_the_clock_is_about_the_moment_it_is_made(company: Company) -> None:
    company.control(
        timesheets=[
            {
                "id": 9,
                "user_id": 8,
                "start": "2026-11-23T04:00:00-08:00",
                "date": "2026-11-23",
                "on_the_clock": True,
            }
        ]
    )
    report = company.save(
        kind="on-the-clock", covers=Covers.MOMENT, overtime="none", schedule="*/15 9-17 * * *", formats=[]
    )
    with transaction(company.engine) as tx:
        period = start_report(
            tx, report, company.shop, None, origin="cli", by="ada", now=datetime(2026, 11, 23, 14, tzinfo=UTC)
        ).period
    assert period == "2026-11-23T14:00:00Z"
    company.serve("report_send")
    ((body,),) = company.rows("select text from mail_outbox where kind = 'timesheet_report'")
    assert "kai" in body


def test_a_broken_connection_notifies_once_and_heals_by_itself(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.save()
    company.control(revoke=True)
    due_now = company.run_due(monkeypatch, DUE)
    assert due_now == {"tokens_due": 0, "tokens_failed": 0}
    company.serve("report_send")
    for _ in range(2):
        follow(company)
    assert company.rows(RUNS) == [("2026-W47", "failed", "quickbooks_time.refresh_refused")]
    kinds = [kind for kind, _ in company.rows(NOTICES)]
    assert sorted(kinds) == ["qbt_token_expired", "report_send_failed"]
    assert (
        company.rows("select recipient from mail_outbox where kind = 'notification'")
        == [("owner@harbour.example",)] * 2
    )
    with transaction(company.engine) as tx:
        assert [one.subject for one in collect_figures(tx, DUE)["report_failed"]] == ["Payroll"]

    # The company connects again: the next cycle sends the report.
    company.control(access_token="a-1", refresh_token="r-1")
    from services.shops.connections import record_connection_ok

    with transaction(company.engine) as tx:
        record_connection_ok(tx, company.shop.id, "quickbooks-time", DUE + timedelta(minutes=10))
    company.run_due(monkeypatch, DUE + timedelta(minutes=15))
    send(company)
    follow(company)
    assert company.rows(RUNS) == [("2026-W47", "sent", "")]
    assert company.rows(MAILS) == [("pay@harbour.example", "sent")]
    with transaction(company.engine) as tx:
        assert collect_figures(tx, DUE) == {"report_failed": []}


def test_a_refused_refresh_breaks_the_connection_while_reports_go_out(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.control(client_secrets=["s-2"])
    with transaction(company.engine) as tx:
        tx.execute(text("update connections set token_expires_at = now() + interval '4 days'"))
    assert company.run_due(monkeypatch, utc_now())["tokens_failed"] == 0
    follow(company)
    assert company.rows("select status, code, resource from connections") == [
        ("broken", "quickbooks_time.client_refused", "token refresh")
    ]
    assert [kind for kind, _ in company.rows(NOTICES)] == ["qbt_refresh_failed"]
    start(company, company.save())
    send(company)
    follow(company)
    assert company.rows(RUNS) == [("2026-W47", "sent", "")]
    of_time = "select status, resource from connections where provider = 'quickbooks-time'"
    assert company.rows(of_time) == [("broken", "token refresh")]


def test_a_refused_recipient_is_named_and_the_run_heals_when_the_mail_is_sent(company: Company) -> None:
    start(company, company.save())
    company.serve("report_send")
    with transaction(company.engine) as tx:
        tx.execute(
            text(
                "update mail_outbox set status = 'refused', error_code = 'smtp.recipient_refused',"
                " last_error = '550 no such user'"
            )
        )
    follow(company)
    assert company.rows(RUNS) == [("2026-W47", "failed", "smtp.recipient_refused")]
    assert company.rows(NOTICES) == [
        (
            "report_send_failed",
            "The report Payroll for 2026-W47 was not sent: smtp.recipient_refused: 550 no such user",
        )
    ]
    with transaction(company.engine) as tx:
        tx.execute(
            text("update mail_outbox set status = 'sent', sent_at = now() where kind = 'timesheet_report'")
        )
    follow(company)
    assert company.rows(RUNS) == [("2026-W47", "sent", "")]


def test_a_company_that_never_connected_is_named(company: Company) -> None:
    with transaction(company.engine) as tx:
        tx.execute(text("delete from shop_secrets"))
    start(company, company.save())
    company.serve("report_send")
    follow(company)
    assert company.rows(RUNS) == [("2026-W47", "failed", "quickbooks_time.not_connected")]
