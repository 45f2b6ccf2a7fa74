"""Shops with the figures of the last night, for tests of pages."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Connection

from beat_schedule import JOBS
from services.jobs.store import record_jobs
from tests.health.fleet_rows import add_heartbeats

_ADD = """
with added as (
  insert into shops (slug, name, timezone, currency, created_at)
  select slug, initcap(slug), 'America/Toronto', 'CAD', %(now)s::timestamptz - interval '90 days'
    from unnest(%(slugs)s::text[]) slug
  returning id
), configs as (
  insert into shop_config (shop_id, last_daily_run, settings)
  select id, %(run)s::jsonb, '{"backfill": {"catalogue_read_at": "2026-11-20T00:00:00Z"}}' from added
), tokens as (
  insert into shop_secrets (shop_id, name, sealed, created_at)
  select id, 'shopify-token', 'x', %(now)s from added
), accepted as (
  insert into connections (shop_id, provider, status, since, updated_at)
  select id, 'shopify', 'ok', %(now)s, %(now)s from added
)
select id from added order by id
"""
_EVALUATED = """
insert into rule_evaluations (rule, computed_at) values ('heartbeat_old', %(now)s)
on conflict (rule) do update set computed_at = excluded.computed_at
"""
_VERIFIED = """
insert into job_runs (job, period, due_at, ended_at, status, origin)
values ('audit-verify', '2026-01-01', %(now)s, %(now)s, 'done', 'beat')
"""


def add_fine_shops(tx: Connection, *slugs: str, now: datetime) -> list[int]:
    """Add shops whose last night is clean; return their ids."""
    yesterday = now.astimezone(ZoneInfo("America/Toronto")).date() - timedelta(days=1)
    run = {
        "day": yesterday.isoformat(),
        "at": now.isoformat(),
        "payments": "clean",
        "requests": {"count": 1204, "failed": 0},
        "audit": {"verified": True},
    }
    values = {"slugs": list(slugs), "now": now, "run": orjson.dumps(run).decode()}
    return [row.id for row in tx.exec_driver_sql(_ADD, values)]


def add_signals(tx: Connection, now: datetime) -> None:
    """Add the jobs and signals of a fleet that runs and is checked."""
    record_jobs(tx, JOBS, now - timedelta(days=90))
    add_heartbeats(tx, now)
    for statement in (_EVALUATED, _VERIFIED):
        tx.exec_driver_sql(statement, {"now": now})
