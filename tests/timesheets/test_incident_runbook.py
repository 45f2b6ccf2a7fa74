"""The runbook of an operator of timesheet reports, step by step: a broken token, an expired mail secret."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

import beat_schedule
from services.accounts.roles import Role
from services.core.db import transaction
from services.jobs.store import record_jobs
from services.timesheets.job import run_due_reports
from tests.console.people import make_console, sign_in_as
from tests.console.test_reports import begin, come_back, post
from tests.fakes.mail_services import aadsts
from tests.fakes.settings import settings_of
from tests.jobs.cron_client import SECRET
from tests.jobs.work import finish_runs
from tests.mail.services import graph
from tests.timesheets.company import DUE, MAILS, RUNS, SINCE, Company

DUE_REPORTS = "/api/v1/internal/run-due-reports"


@pytest.fixture
def admin(company: Company) -> FlaskClient:
    with transaction(company.engine) as tx:
        record_jobs(tx, beat_schedule.JOBS, SINCE)
    with settings_of(CRON_SECRET=SECRET):
        return sign_in_as(make_console(company.engine), Role.ADMIN)


def fire(company: Company, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, secret: str = SECRET) -> int:
    """Start the job by HTTP, as a cron worker outside does, and let a worker do it."""
    monkeypatch.setattr("services.timesheets.job.utc_now", lambda: DUE)
    answer = client.post(DUE_REPORTS, headers={"X-Internal-Secret": secret})
    finish_runs(company.engine, "due_reports", run_due_reports)
    company.serve("report_send")
    company.serve("mail_send")
    company.follow(DUE)
    return answer.status_code


def test_a_broken_token_is_seen_repaired_and_followed_by_the_report(
    company: Company, admin: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.save()
    company.control(revoke=True)

    assert fire(company, admin, monkeypatch, "wrong" * 10) == 403
    assert company.rows(RUNS) == []
    assert fire(company, admin, monkeypatch) == 202
    assert company.rows(RUNS) == [("2026-W47", "failed", "quickbooks_time.refresh_refused")]
    kinds = company.rows("select kind from notifications order by kind")
    assert kinds == [("qbt_token_expired",), ("report_send_failed",)]
    health = admin.get("/platform/health").text
    assert "refused: quickbooks_time.refresh_refused" in health

    url, _ = begin(admin)
    assert "QuickBooks Time is connected" in post(
        admin, "/oauth/quickbooks-time/callback", **come_back(admin, url)
    )
    assert "refused: quickbooks_time" not in admin.get("/platform/health").text
    post(admin, "/reports/1/send", period="2026-W47")
    company.send()
    company.follow(DUE)
    assert company.rows(RUNS) == [("2026-W47", "sent", "")]

    fire(company, admin, monkeypatch)  # a report that already went out does not go again
    assert company.rows(MAILS) == [("pay@harbour.example", "sent")]


def test_an_expired_graph_secret_is_named_and_the_report_goes_out_with_a_new_one(
    company: Company, admin: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.save()
    with graph(monkeypatch) as service:
        service.sign_in_answer = aadsts("7000222")
        fire(company, admin, monkeypatch)
        assert company.rows(RUNS) == [("2026-W47", "failed", "graph.client_secret_expired")]
        ((notice,),) = company.rows("select text from notifications")
        assert "graph.client_secret_expired" in notice
        assert "make a new one in the Entra admin center" in notice

        service.sign_in_answer = None
        with transaction(company.engine) as tx:
            again = "update work_queue set status = 'pending', finished_at = null where topic = 'mail_send'"
            tx.execute(text(again))
        company.serve("mail_send")
        company.follow(DUE)
        sent: list[Any] = service.mails
    assert company.rows(RUNS) == [("2026-W47", "sent", "")]
    assert any("Payroll" in str(mail) for mail in sent)


def test_a_client_secret_that_was_rotated_is_recorded_in_the_app_and_the_company_connects_again(
    company: Company, admin: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.save()
    company.control(client_secrets=["s-2"], expire_tokens=True)
    fire(company, admin, monkeypatch)
    assert company.rows(RUNS) == [("2026-W47", "failed", "quickbooks_time.client_refused")]
    assert "refused: quickbooks_time.client_refused" in admin.get("/platform/health").text

    secret = {"name": "quickbooks-time-client-secret", "value": "s-2"}
    assert "quickbooks-time-client-secret is recorded" in post(admin, "/shops/harbour/secrets", **secret)
    url, _ = begin(admin)
    post(admin, "/oauth/quickbooks-time/callback", **come_back(admin, url))
    assert "refused: quickbooks_time" not in admin.get("/platform/health").text

    # The next cycle sends the report; no person starts it.
    fire(company, admin, monkeypatch)
    fire(company, admin, monkeypatch)
    assert company.rows(RUNS) == [("2026-W47", "sent", "")]
    assert company.rows(MAILS) == [("pay@harbour.example", "sent")]
