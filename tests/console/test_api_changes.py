"""Changes of queues, jobs, audit and reports in the API, and unmasked rows: as on the pages."""

import gzip
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from services.accounts.roles import Role
from services.console.auth import CHANGE_ROUTES, PAGE_ROUTES
from services.core.clock import utc_now
from services.core.db import transaction
from tests.console.people import make_console
from tests.console.test_api_actions import TokenClient
from tests.console.test_bulk import select_all
from tests.console.test_lists import add_rows
from tests.console.test_mails import add_mail
from tests.jobs.job_rows import add_jobs, make_job

IN_THE_API = {
    "queues.change": "change_queues", "jobs.change": "change_job", "audit_pages.verify": "verify_audit",
    "audit_pages.export": "export_audit", "reports.send": "send_report", "bulk.start": "start_bulk_action",
    "bulk.stop": "stop_bulk_action", "filters.share": "share_filter", "event_edit.edit": "edit_event",
    "reports.preview": "preview_report", "reports.save": "save_report", "reports.pause": "pause_report",
    "letters.edit": "change_letter", "letters.plan": "add_planned", "letters.unplan": "delete_planned",
    "pages.home": "show_scan", "pages.dead": "list_dead", "queues.index": "show_queues",
    "queues.show": "show_queues", "queues.plan": "change_queues", "jobs.index": "show_jobs",
    "jobs.show": "runs", "jobs.plan": "change_job", "letters.index": "list_letters",
    "letters.show": "list_letters", "reports.index": "list_reports", "reports.show": "list_reports",
    "shops.health": "list_connections", "shops.show": "show_shop", "details.work": "show_work",
    "details.event": "show_event", "details.error": "show_error", "details.incident": "show_incident",
    "details.mail": "show_mail", "bulk.show": "show_bulk_action", "bulk.confirm": "start_bulk_action",
}  # fmt: skip
"""Page or its change -> operation of the API with the same data; others have one name in both."""
ONLY_PAGES = {
    "shops.index": "leads to the scan",
    "details.postmortem": "a text for people; fleet incidents postmortem",
    "time_connection.show": "a browser signs in at QuickBooks Time",
    "time_connection.start": "a browser signs in at QuickBooks Time",
    "time_connection.finish": "a browser signs in at QuickBooks Time",
}
"""Page or its change that the API does not have, and why."""


def test_every_page_and_change_is_in_the_api_or_has_a_reason(engine: Engine) -> None:
    everything = {*CHANGE_ROUTES, *PAGE_ROUTES}
    pages = {name for name in everything if not name.startswith("api.")}
    same = {name for name in pages if f"api.{name.partition('.')[2]}" in everything}

    assert pages == {*IN_THE_API, *ONLY_PAGES} | same
    assert {f"api.{name}" for name in IN_THE_API.values()} <= everything


def test_a_pause_is_planned_made_and_ended(engine: Engine) -> None:
    add_rows(engine)
    api = TokenClient(engine, Role.OPERATOR)
    wanted = {"act": "pause", "what": "topic:order_ingest", "shop": "harbour", "lasts": "2h"}

    planned = api.post("/queues/change", {**wanted, "dry_run": True}).get_json()
    assert "of work will wait" in planned["result"]
    assert select_all("select * from pauses") == []
    assert api.post("/queues/change", wanted).status_code == 422, "without a reason"
    assert api.post("/queues/change", {**wanted, "reason": "a test"}).status_code == 200
    ((pause,),) = select_all("select id from pauses")
    resumed = api.post("/queues/change", {"act": "resume", "pause": pause, "reason": "done"})
    assert "Resumed" in resumed.get_json()["result"]
    slower = {"act": "backoff", "topic": "mail_send", "factor": 4, "reason": "slow"}
    assert api.post("/queues/change", slower).status_code == 200
    assert select_all("select factor from topic_backoffs") == [(4.0,)]


def test_a_job_runs_at_a_shop_of_the_person_alone(engine: Engine) -> None:
    add_rows(engine)
    add_jobs(engine, utc_now(), make_job())
    api = TokenClient(engine, Role.OPERATOR, {1: Role.OPERATOR})
    path = "/jobs/daily-reconciliation/change"
    run = {"act": "run", "shop": "harbour", "reason": "a test"}

    assert "starts" in api.post(path, {**run, "dry_run": True}).get_json()["result"]
    assert select_all("select * from job_runs") == []
    assert "starts" in api.post(path, run).get_json()["result"]
    assert select_all("select shop_id, origin from job_runs") == [(1, "console")]
    assert api.post(path, {**run, "shop": "linden"}).status_code == 404
    assert api.post(path, {"act": "pause", "reason": "x"}).status_code == 403, "everywhere"
    assert api.post(path, {**run, "act": "schedule", "schedule": "0 3 * * *"}).status_code == 403
    assert api.post("/jobs/nothing/change", run).status_code == 404


def test_a_chain_is_verified_and_exported_by_its_role(engine: Engine) -> None:
    add_rows(engine)
    operator = TokenClient(engine, Role.OPERATOR, {1: Role.OPERATOR})
    admin = TokenClient(engine, Role.ADMIN, {1: Role.ADMIN, 2: Role.VIEWER})

    verified = operator.post("/audit/verify", {"shop": "harbour"}).get_json()
    assert verified["faults"] == []
    assert "harbour is verified" in verified["result"]
    assert operator.post("/audit/verify", {"shop": "linden"}).status_code == 404
    assert operator.post("/audit/verify").status_code == 403, "all chains"
    assert operator.post("/audit/export", {"shop": "harbour"}).status_code == 403
    exported = admin.post("/audit/export", {"shop": "harbour"})
    assert b"audit.verify" in gzip.decompress(exported.data)
    assert admin.post("/audit/export", {"shop": "linden"}).status_code == 403
    assert admin.post("/audit/export").status_code == 403, "all chains"


@pytest.mark.parametrize(
    ("path", "shown"), [("/work/1/unmask", "Ada@Example.com"), ("/mails/1/unmask", "Dear Grace")]
)
def test_an_admin_of_the_shop_sees_a_row_unmasked_which_is_audited(
    engine: Engine, path: str, shown: str
) -> None:
    add_rows(engine)
    add_mail()
    add_mail(2, kind="account")
    operator, other, admin = (
        TokenClient(engine, role, shops)
        for role, shops in (
            (Role.OPERATOR, {1: Role.OPERATOR}),
            (Role.ADMIN, {2: Role.ADMIN}),
            (Role.OWNER, {None: Role.OWNER}),
        )
    )

    assert operator.post(path).status_code == 403
    assert other.post(path).status_code == 404
    assert select_all("select * from audit_events where action = 'payload.unmask'") == []
    assert shown in admin.post(path).text
    assert admin.post("/mails/2/unmask").status_code == 403, "it signs a person in"
    assert len(select_all("select * from audit_events where action = 'payload.unmask'")) == 1


@pytest.mark.parametrize("value", [True, 1.5, [], {}, None, "a\0b", "x" * 5000])
def test_no_value_of_a_body_is_an_error_of_ours(engine: Engine, value: Any) -> None:
    app: Flask = make_console(engine).application
    add_rows(engine)
    add_jobs(engine, utc_now(), make_job())
    api = TokenClient(engine, Role.OWNER)
    fields = ("act", "what", "shop", "mode", "lasts", "rate", "topic", "pause", "factor", "reason")
    for path, usual, names in (
        ("/queues/change", {"act": "pause", "reason": "x"}, fields),
        ("/queues/change", {"act": "backoff", "topic": "mail_send", "reason": "x"}, fields),
        ("/jobs/daily-reconciliation/change", {"act": "run", "shop": "harbour"}, ("shop", "period", "again")),
        ("/audit/verify", {}, ("shop",)), ("/audit/export", {}, ("shop",)),
    ):  # fmt: skip
        for name in names:
            answer = api.post(
                path, {**usual, name: value, "dry_run": True} if "act" in usual else {name: value}
            )
            assert answer.status_code in (200, 403, 404, 422), (path, name)
    assert app


def test_a_letter_is_held_and_mailed_by_the_api(engine: Engine) -> None:
    add_rows(engine)
    with transaction() as tx:
        tx.execute(
            text(
                "insert into owner_letters (shop_id, week, subject, body, status, drafted_at, send_at) "
                "values (1, '2026-W47', 'A week', 'No problems.', 'draft', now(), now() + interval '1 day')"
            )
        )
    api = TokenClient(engine, Role.OPERATOR, {1: Role.OPERATOR})
    other = TokenClient(engine, Role.OPERATOR, {2: Role.OPERATOR, 3: Role.VIEWER})

    assert other.post("/letters/1/approve").status_code == 404
    assert "is held" in api.post("/letters/1/hold", {"reason": "wrong"}).get_json()["result"]
    assert "is mailed" in api.post("/letters/1/approve").get_json()["result"]
    assert select_all("select status from owner_letters") == [("approved",)]
    assert select_all("select count(*)::int from work_queue where key = 'letter:1'") == [(1,)]
