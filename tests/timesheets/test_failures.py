"""Failures of reports: who is notified, and how they heal."""

from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from services.cli.main import main
from services.core.clock import utc_now
from services.core.db import transaction
from services.jobs.definition import Covers
from services.mail.suppressions import suppress
from services.shops.connections import record_connection_ok
from services.timesheets.figures import collect_figures
from services.timesheets.store import start_report
from tests.timesheets.company import DUE, MAILS, RUNS, Company

NOTICES = "select kind, text from notifications order by id"


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
        company.follow(DUE)
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
    with transaction(company.engine) as tx:
        record_connection_ok(tx, company.shop.id, "quickbooks-time", DUE + timedelta(minutes=10))
    company.run_due(monkeypatch, DUE + timedelta(minutes=15))
    company.send()
    company.follow(DUE)
    assert company.rows(RUNS) == [("2026-W47", "sent", "")]
    assert company.rows(MAILS) == [("pay@harbour.example", "sent")]
    with transaction(company.engine) as tx:
        assert collect_figures(tx, DUE) == {"report_failed": []}


def test_a_failed_run_of_another_kind_of_period_stops_no_other_report(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.start(company.save())
    company.control(revoke=True)
    company.serve("report_send")
    company.follow(DUE)
    company.save(covers=Covers.DAY)
    company.save(name="Second")
    with transaction(company.engine) as tx:
        later = utc_now() + timedelta(minutes=10)
        record_connection_ok(tx, company.shop.id, "quickbooks-time", later)
    company.run_due(monkeypatch, utc_now() + timedelta(minutes=15))
    assert ("2026-W47", "failed", "quickbooks_time.refresh_refused") in company.rows(RUNS)
    assert (
        len(
            company.rows(
                "select 1 from report_runs r join reports p on p.id = report_id where p.name = 'Second'"
            )
        )
        == 1
    )


def test_a_refused_refresh_breaks_the_connection_while_reports_go_out(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.control(client_secrets=["s-2"])
    with transaction(company.engine) as tx:
        tx.execute(text("update connections set token_expires_at = now() + interval '4 days'"))
    assert company.run_due(monkeypatch, utc_now())["tokens_failed"] == 0
    company.follow(DUE)
    assert company.rows("select status, code, resource from connections") == [
        ("broken", "quickbooks_time.client_refused", "token refresh")
    ]
    assert [kind for kind, _ in company.rows(NOTICES)] == ["qbt_refresh_failed"]
    company.start(company.save())
    company.send()
    company.follow(DUE)
    assert company.rows(RUNS) == [("2026-W47", "sent", "")]
    of_time = "select status, resource from connections where provider = 'quickbooks-time'"
    assert company.rows(of_time) == [("broken", "token refresh")]


def test_a_suppressed_recipient_is_named_with_what_to_do_and_the_run_heals_by_it(company: Company) -> None:
    company.start(company.save(recipients=["pay@harbour.example", "ada@harbour.example"]))
    with transaction(company.engine) as tx:
        suppress(tx, company.shop.id, "Pay@Harbour.example", "bounced", "sendgrid event 1", DUE)
        # Commercial mail only: a report is under contract.
        suppress(tx, company.shop.id, "ada@harbour.example", "unsubscribed", "one click", DUE)
    company.send()
    company.follow(DUE)

    assert company.rows(RUNS) == [("2026-W47", "failed", "mail.suppressed")]
    assert company.rows(MAILS) == [("ada@harbour.example", "sent"), ("pay@harbour.example", "refused")]
    ((number,),) = company.rows("select id from mail_outbox where status = 'refused'")
    ((kind, notice),) = company.rows(NOTICES)
    assert (kind, "mail.suppressed" in notice) == ("report_send_failed", True)
    undo = (
        "mail",
        "suppressions",
        "remove",
        "pay@harbour.example",
        "--shop",
        "harbour",
        "--reason",
        "it works",
    )
    again = ("mail", "resend", str(number), "--reason", "it works", "-f")
    for words, named in ((undo, "`fleet mail suppressions remove ADDRESS --shop SHOP --reason TEXT`"),
                         (again, f"`fleet mail resend {number} --reason TEXT`")):  # fmt: skip
        assert named in notice
        done = CliRunner().invoke(main, [*words])
        assert done.exit_code == 0, done.output

    company.serve("mail_send")
    company.follow(DUE)
    assert company.rows(RUNS) == [("2026-W47", "sent", "")]
    assert company.rows(MAILS) == [("ada@harbour.example", "sent"), ("pay@harbour.example", "sent")]


def test_a_refused_recipient_is_named_and_the_run_heals_when_the_mail_is_sent(company: Company) -> None:
    company.start(company.save())
    company.serve("report_send")
    with transaction(company.engine) as tx:
        tx.execute(
            text(
                "update mail_outbox set status = 'refused', error_code = 'smtp.recipient_refused',"
                " last_error = '550 no such user'"
            )
        )
    company.follow(DUE)
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
    company.follow(DUE)
    assert company.rows(RUNS) == [("2026-W47", "sent", "")]


def test_a_company_that_never_connected_is_named(company: Company) -> None:
    with transaction(company.engine) as tx:
        tx.execute(text("delete from shop_secrets"))
    company.start(company.save())
    company.serve("report_send")
    company.follow(DUE)
    assert company.rows(RUNS) == [("2026-W47", "failed", "quickbooks_time.not_connected")]


def test_a_removed_shop_needs_no_token_and_notifies_nobody(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.control(revoke=True)
    with transaction(company.engine) as tx:
        tx.execute(text("update connections set token_expires_at = now(), status = 'broken'"))
        tx.execute(text('update shop_config set settings = \'{"removed_at": "2026-11-20T00:00:00Z"}\''))
    assert company.run_due(monkeypatch, utc_now()) == {"tokens_due": 0, "tokens_failed": 0}
    company.follow(DUE)
    assert company.rows(NOTICES) == []
