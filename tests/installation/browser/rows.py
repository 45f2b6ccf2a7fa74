"""Rows that pages show, and paths of pages that show them."""

from datetime import timedelta

from sqlalchemy import Engine, text
from werkzeug.routing import Rule

from services.accounts.api_tokens import create_token
from services.accounts.people import find_access, get_person
from services.accounts.roles import Role
from services.accounts.saved_filters import save_filter
from services.accounts.sign_in_locks import Subject, count_failure
from services.alerts.incidents import Incident, record_incidents
from services.bulk.kinds import KINDS, RowFacts
from services.bulk.store import plan_bulk_action, start_bulk_action
from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.backlog import list_topic_figures
from services.ledger.backoff import set_backoff
from services.ledger.pause import PauseScope, record_pause
from services.ledger.queue_samples import record_samples
from tests.health.fleet_rows import add_heartbeats, add_work
from tests.jobs.job_rows import add_jobs, add_shops, make_job, run_tick
from tests.ledger_rows import accept, new_event

LONG = "x" * 120
_ADD_ERROR = """
insert into request_errors (request_id, at, shop_id, route, status, error_class, reason, staff_label, request)
values ('1', now(), 1, '/webhooks/shopify', 503, 'OperationalError', '', '', '{"topic": "x"}')
"""
_ADD_MAILS = (
    """
insert into mail_outbox (shop_id, dedupe_key, kind, period, recipient, subject, text, html, headers, status,
                         error_code, last_error, is_commercial)
values (1, 'a', 'outreach_mail', 'founder/day1/1', 'ada@example.com', :long, :long, '<p>a</p>',
        '{"Auto-Submitted": "auto-generated"}', 'unknown', 'mail.no_answer', :long, true)
""",
    """
insert into mail_events (shop_id, provider, event_id, kind, at, mail_id, detail)
values (1, 'sendgrid', 'e', 'bounced', now(), 1, :long)
""",
    """
insert into mail_parts (mail_id, place, name, content_type, is_inline, content)
values (1, 0, :long, 'text/csv', false, 'a')
""",
    """
insert into outreach_people (shop_id, external_id, email, timezone, created_at, changed_at)
values (1, :long, 'ada@example.com', 'UTC', now(), now())
""",
    """
insert into outreach_sends (person_id, shop_id, series, step, run_id, local_day, status, mail_id, created_at)
values (1, 1, 'founder', 'day1', 1, current_date, 'mailed', 1, now())
""",
)
VALUES = {
    "shop": "harbour",
    "slug": "harbour",
    "job": "daily-reconciliation",
    "queue": "inventory",
    "name": "harbour",
}
"""Value of a parameter of a path; any other one is 1, the id of the first row."""


def add_rows(engine: Engine, email: str) -> None:
    """Add a shop, work, an event, an incident, a job with runs, and a token of ``email``."""
    now = utc_now()
    add_shops(engine, now - timedelta(days=3), harbour="America/Los_Angeles", west="Europe/Berlin")
    with transaction(engine) as tx:
        add_work(tx, "order_ingest", status="dead", key=LONG, last_error=LONG, payload={"name": LONG})
    add_jobs(engine, now - timedelta(days=3), make_job())
    run_tick(engine, now)
    accept(engine, new_event(1, body=b'{"id": 1, "email": "ada@example.com"}'), new_event(2, shop_id=2))
    incidents = [
        Incident(1, "work_dead:reconcile", "2026-11-20", "P2", f"1 reconcile dead {LONG}", {"count": 1}),
        Incident(None, "audit_chain_failed", "2026-11-20", "P1", "row 2 altered", {"seq": 2}),
    ]
    with transaction(engine) as tx:
        add_heartbeats(tx, now, but="sweep")
        add_work(tx, "order_ingest", count=3)
        for minutes in (9, 8, 7, 5, 3, 2, 1):
            add_work(tx, "inventory_push", count=1 + minutes % 4, created_at=now - timedelta(minutes=9))
            record_samples(tx, list_topic_figures(tx, now), now - timedelta(minutes=minutes))
        record_incidents(tx, incidents, now)
        record_pause(tx, PauseScope(queue="email", shop_id=1), "hold", by=LONG, now=now, reason=LONG)
        set_backoff(tx, "mail_send", 4, by=LONG, now=now, reason=LONG)
        owner = find_access(tx, get_person(tx, email).id)
        assert owner is not None
        create_token(tx, owner, "ci", Role.VIEWER, timedelta(days=1), by="tests", now=now)
        save_filter(tx, owner, "work", "dead work", "status=dead", by="tests", now=now)
        tx.execute(text(_ADD_ERROR))
        for statement in _ADD_MAILS:
            tx.execute(text(statement), {"long": LONG} if ":long" in statement else {})
        count_failure(tx, [Subject("account", email)], now)
        rows = [RowFacts(1, 1, "order_ingest", "dead"), RowFacts(2, 1, LONG, "done")]
        plan = plan_bulk_action(KINDS["requeue"], rows, ("dead",), None, now)
        values = {"user_id": owner.user_id, "request_key": "a", "by": LONG, "now": now, "reason": LONG}
        start_bulk_action(tx, plan, {"key": LONG}, **values)


def fill_rule(rule: Rule) -> str:
    """Return a path of ``rule`` that shows rows of ``add_rows``."""
    path = rule.rule
    for name in rule.arguments:
        value = VALUES.get(name, "1")
        for form in (f"<int:{name}>", f"<path:{name}>", f"<{name}>"):
            path = path.replace(form, value)
    return path
