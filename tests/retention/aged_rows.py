"""Inserts a row of any age into each table with a rule."""

from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction

NOW = utc_now()

INSERTS = {
    "work_queue": """
insert into work_queue (shop_id, queue, topic, status, created_at, finished_at, payload, event_id)
values (1, 'email', 'mail_send', :status, :at, :at, cast(:payload as jsonb), :event_id) returning id""",
    "job_runs": """
insert into job_runs (job, shop_id, period, due_at, ended_at, status, origin)
values (:job, 1, cast(:at as text), :at, case when :is_open then null else cast(:at as timestamptz) end,
        'done', 'beat') returning id""",
    "bulk_actions": """
insert into bulk_actions (list, action, query, row_ids, shop_ids, total_count, status, reason, started_by,
                          user_id, request_key, started_at, ended_at)
values ('work', 'requeue', '{}', '{1}', '{1}', 1, 'done', '', 'a', 1, cast(:at as text), :at,
        case when :is_open then null else cast(:at as timestamptz) end) returning id""",
    "monitor_checkins": """
insert into monitor_checkins (job, monitor, period, opened_at, closed_at)
values ('a', 'a', cast(:at as text), :at, case when :is_open then null else cast(:at as timestamptz) end)
returning id""",
    "mail_outbox": """
insert into mail_outbox (dedupe_key, kind, period, recipient, subject, text, html, status, created_at,
                         work_id)
values (cast(:at as text), 'digest', 'p', 'a@b.example', 'subject', 'text', 'html', :status, :at, :work_id)
returning id""",
    "work_stats": """
insert into work_stats (minute, topic, worker, done, last_at) values (:at, 'order_ingest', 'w', 1, :at)
returning minute""",
    "request_counts": """
insert into request_counts (minute, shop, provider, outcome, route, status, count)
values (:at, 'a', 'stripe', 'accepted', '', 200, 1) returning minute""",
    "webhook_senders": """
insert into webhook_senders values (:at, 'a', 'stripe', '192.0.2.1', 1) returning hour""",
    "statement_stats": """
insert into statement_stats values (:at, 'ingress', 'select orders 1a2b3c', 1, 2, '{1}') returning minute""",
    "user_sessions": """
with u as (insert into users (email, name, fs_uniquifier) values (cast(:at as text), '', cast(:at as text))
           returning id)
insert into user_sessions (token_hash, user_id, created_at, seen_at, ends_at, address, user_agent)
select convert_to(cast(:at as text), 'UTF8'), id, :at, :at, :at, '', '' from u returning seen_at""",
    "sign_in_locks": """
insert into sign_in_locks (kind, subject, failures, first_at, last_at)
values ('account', convert_to(cast(:at as text), 'UTF8'), 1, :at, :at) returning last_at""",
    "report_runs": """
with s as (insert into shops (slug, name, timezone, currency)
           values ('runs ' || cast(:at as text), '', 'UTC', 'CAD') returning id),
     r as (insert into reports (shop_id, name, kind, covers, schedule, recipients, formats, overtime,
                                week_begins, created_at, changed_at)
           select id, 'a', 'payroll', 'week', '0 6 * * 1', '{}', '{}', 'none', 'monday', :at, :at from s
           returning id, shop_id)
insert into report_runs (report_id, shop_id, period, due_at, origin, started_by)
select id, shop_id, '2026-W01', :at, 'beat', 'beat' from r returning id""",
    "owner_letters": """
with s as (insert into shops (slug, name, timezone, currency)
           values ('letters ' || cast(:at as text), '', 'UTC', 'CAD') returning id)
insert into owner_letters (shop_id, week, subject, body, drafted_at, send_at)
select id, '2026-W01', 'a', 'a', :at, :at from s returning id""",
    "notifications": """
with s as (insert into shops (slug, name, timezone, currency)
           values ('notes ' || cast(:at as text), '', 'UTC', 'CAD') returning id)
insert into notifications (shop_id, kind, cause, text, at)
select id, 'report_send_failed', 'a', 'a', :at from s returning id""",
    "outreach_runs": """
insert into outreach_runs (run_id, series, started_at)
values ((select coalesce(max(run_id), 0) + 1 from outreach_runs), 'reminders', :at) returning started_at""",
    "table_sizes": "insert into table_sizes values (:at, 'orders', 1, 1) returning day",
    "cost_references": """
insert into cost_references values (1, 'ai', :at, 'openai', cast(:at as text), 1, 'CAD', :at)
returning recorded_at""",
    "request_errors": """
insert into request_errors (request_id, at, route, status, error_class, reason, staff_label, request)
values (cast(:at as text), :at, '/', 503, '', '', '', '{}') returning at""",
}
DEFAULTS: dict[str, Any] = {
    "status": "done", "payload": "{}", "event_id": None, "job": "daily", "is_open": False, "work_id": None,
}  # fmt: skip


def insert(engine: Engine, table: str, days: float, **values: Any) -> Any:
    """Insert a row of ``table`` that is ``days`` old; return its key."""
    with transaction(engine) as tx:
        given = DEFAULTS | values | {"at": NOW - timedelta(days=days)}
        return tx.execute(text(INSERTS[table]), given).scalar_one()
