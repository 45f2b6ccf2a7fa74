"""Time of the console's pages with many shops and much work, in the process that answers them."""

import gc
import os
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psutil
import psycopg
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, event

from beat_schedule import JOBS
from benchmarks.ours import env
from benchmarks.processes import BenchmarkFailed
from benchmarks.results import Figures, Report
from benchmarks.rows import EMPTY
from benchmarks.servers import Servers, create_database, drop_database
from benchmarks.ways import Bench
from services.accounts.api_tokens import create_token
from services.accounts.people import add_person, find_access
from services.accounts.roles import Role
from services.console.app import make_app
from services.console.scan_reading import ScanReader
from services.console.serve import GC_THRESHOLD
from services.core.clock import utc_now
from services.core.db import get_engine, transaction
from services.core.settings import get_settings
from services.jobs.store import record_jobs

DATABASE = "bench_console"
SCAN = "/ (new reading)"
PAGES = {
    "/ (kept reading)": "/",
    "/?state=red": "/?state=red",
    "/?q=shop99": "/?q=shop99",
    "/platform/health": "/platform/health",
    "/shops/shop7": "/shops/shop7",
    "/queues": "/queues",
    "/queues?span=7d": "/queues?span=7d",
    "/jobs": "/jobs",
    "/jobs/JOB?shop=shop7": "/jobs/daily-reconciliation?shop=shop7",
    "/work": "/work",
    "/work?shop=shop7": "/work?shop=shop7&status=dead",
    "/events": "/events",
    "/runs": "/runs",
    "/incidents": "/incidents",
    "/errors": "/errors",
}
"""Name -> path. The first reading of ``/`` is measured too: all viewers share it for some seconds."""
LIVE_PARTS = {"no viewer": ("", 0), "/": ("/", 30), "/queues": ("/queues", 5)}
"""Way -> page, and seconds after which each viewer's page reads itself again."""
VIEWERS = 20
VIEWER_COLUMNS = {
    "database_percent": "database, % of a core",
    "console_percent": "console, % of a core",
    "requests": "requests",
}
COLUMNS = {
    "ms": "ms",
    "database_ms": "of which statements, ms",
    "statements": "statements",
    "kilobytes": "kB of HTML",
}

# Most work is done; one row in a thousand is dead, one in fifty waits.
_FILL = """
insert into shops (slug, name, timezone, currency, created_at)
select 'shop' || n, 'Shop ' || n, 'America/Toronto', 'CAD', now() - interval '90 days'
  from generate_series(1, %(shops)s) n;
insert into shop_config (shop_id, ai_cap, sms_budget, settings, last_daily_run)
select id, '50.00 CAD', '100.00 CAD', '{"backfill": {"catalogue_read_at": "2026-11-20T00:00:00Z"}}',
       jsonb_build_object(
         'day', (now() at time zone 'America/Toronto')::date - 1, 'at', now(), 'payments', 'clean',
         'requests', jsonb_build_object('count', 1204, 'failed', id %% 20 / 19),
         'audit', jsonb_build_object('verified', true, 'rows', 100))
  from shops on conflict (shop_id) do update
   set settings = excluded.settings, last_daily_run = excluded.last_daily_run;
insert into connections (shop_id, provider, status, code, since, updated_at, token_expires_at)
select s.id, p, case when s.id %% 97 = 0 and p = 'stripe' then 'broken' else 'ok' end, '', now(), now(),
       now() + interval '60 days'
  from shops s cross join unnest(array['shopify', 'stripe', 'openphone']) p;
insert into shop_secrets (shop_id, name, sealed)
select s.id, p, 'x'
  from shops s cross join unnest(array['shopify-token', 'shopify-webhook', 'stripe-webhook']) p;
insert into metered_costs (shop_id, kind, day, source, currency, amount_micros)
select s.id, k, current_date - d, 'bench', 'CAD', 1000000
  from shops s cross join unnest(array['ai', 'sms']) k cross join generate_series(0, 27) d;
insert into incidents (shop_id, rule, period, severity, summary, opened_at, updated_at)
select id, 'secret_old', 'x', 'P3', 'the secret is 100 days old', now(), now() from shops where id %% 10 = 0;
insert into job_runs (job, shop_id, period, due_at, started_at, ended_at, status, origin)
select j, s.id, (current_date - d)::text, now() - d * interval '1 day', now() - d * interval '1 day',
       now() - d * interval '1 day', case when s.id %% 50 = 0 and d = 3 then 'failed' else 'done' end, 'beat'
  from shops s cross join unnest(array['daily-reconciliation', 'sms-costs', 'gap-healing']) j
 cross join generate_series(1, 30) d;
insert into job_runs (job, period, due_at, ended_at, status, origin)
values ('audit-verify', 'x', now(), now(), 'done', 'beat');
insert into heartbeats (name, at) values ('beat', now()), ('sweep', now());
insert into rule_evaluations (rule, computed_at) values ('heartbeat_old', now());
insert into queue_samples
select q, date_trunc('minute', now()) - n * interval '1 minute', 10, 20, 1, 2, 3, 60, 100000 - n, 0,
       array_fill(100000 - n, array[16])
  from unnest(array['', 'webhooks', 'inventory', 'email']) q cross join generate_series(1, 11520) n;
insert into inbound_events (shop_id, provider, topic, delivery_key, body, received_at)
select 1 + n %% %(shops)s, 'shopify', 'orders/updated', n::text, '{}', now() - n * interval '1 second'
  from generate_series(1, %(rows)s / 5) n;
insert into work_queue (shop_id, queue, topic, key, status, created_at, finished_at)
select 1 + n %% %(shops)s, 'webhooks', 'order_ingest', 'order:' || n,
       case when n %% 1000 = 0 then 'dead' when n %% 50 = 0 then 'pending' else 'done' end,
       now() - n * interval '1 second', now()
  from generate_series(1, %(rows)s) n;
"""


def measure(
    servers: Servers, *, rounds: int, shops: int, work_rows: int, viewer_seconds: float
) -> list[Report]:
    """Return the reports of each page and of the live parts; ``work_rows`` are those of ``work_queue``.

    The live parts are watched for ``viewer_seconds`` each.
    """
    report = Report(
        name="console",
        title=f"Console: pages with {shops:,} shops and {work_rows:,} rows of work",
        columns=COLUMNS,
        baseline=SCAN,
        settings={"shops": shops, "work_rows": work_rows, "rounds": rounds},
        is_less_better=True,
    )
    live = Report(
        name="console-viewers",
        title=f"Console: live parts of {VIEWERS} viewers, {shops:,} shops and {work_rows:,} rows of work",
        columns=VIEWER_COLUMNS,
        baseline="no viewer",
        settings={"shops": shops, "work_rows": work_rows, "viewers": VIEWERS, "seconds": viewer_seconds},
        is_less_better=True,
    )
    url = create_database(servers, DATABASE, template=EMPTY)
    os.environ.update(env(Bench(servers=servers, database_url=url, logs=servers.home)))
    get_settings.cache_clear()
    try:
        _fill(url, shops=shops, rows=work_rows)
        token = _prepare()
        new, client = (make_app(scan=ScanReader(keep, 0, 60)).test_client() for keep in (0, 600))
        for path in PAGES.values():  # the first request of a page compiles its template
            _get(new, token, path)
            _get(client, token, path)
        gc.collect()
        gc.freeze()  # as ``services.console.serve`` does
        gc.set_threshold(*GC_THRESHOLD)
        for _ in range(rounds):
            report.add(SCAN, _measure(get_engine(), new, token, "/"))
            for name, path in PAGES.items():
                report.add(name, _measure(get_engine(), client, token, path))
        for name, (path, every) in LIVE_PARTS.items():
            live.add(name, _watch(servers, make_app(), token, path, every, viewer_seconds))
    finally:
        get_engine().dispose()
        drop_database(servers, DATABASE)
    return [report, live]


def _watch(servers: Servers, app: Flask, token: str, path: str, every: float, seconds: float) -> Figures:
    """Return what viewers cost whose pages read ``path`` again; they opened it evenly over ``every`` s."""
    (server,) = [int(one.read_text().split()[0]) for one in servers.home.rglob("postmaster.pid")]
    client, requests = app.test_client(), 0
    if path:
        _get(client, token, path)
    began, spent, own = time.monotonic(), _read_cpu(server), time.process_time()
    while (now := time.monotonic() - began) < seconds:
        if path and requests * every / VIEWERS <= now:
            _get(client, token, path, **{"HX-Request": "true"})
            requests += 1
        else:
            time.sleep(0.02)
    elapsed = time.monotonic() - began
    return {
        "database_percent": round(100 * (_read_cpu(server) - spent) / elapsed, 2),
        "console_percent": round(100 * (time.process_time() - own) / elapsed, 2),
        "requests": requests,
    }


def _read_cpu(server: int) -> float:
    """Return the processor seconds of a PostgreSQL server: its processes, and those that ended."""
    root = psutil.Process(server)
    ended = root.cpu_times()
    total = ended.user + ended.system + ended.children_user + ended.children_system
    for process in root.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _prepare() -> str:
    """Record the jobs and an owner; return an API token."""
    now = utc_now()
    with transaction() as tx:
        record_jobs(tx, JOBS, now - timedelta(days=90))
        user_id = add_person(tx, "bench@example.com", "", {None: Role.OWNER}, by="bench", now=now)
        access = find_access(tx, user_id)
        assert access is not None
        return create_token(tx, access, "bench", Role.VIEWER, timedelta(days=1), by="bench", now=now)


def _measure(engine: Engine, client: FlaskClient, token: str, path: str) -> Figures:
    took: list[float] = []

    def begin(context: Any, *_: Any) -> None:
        context.info["began"] = time.perf_counter()

    def end(context: Any, *_: Any) -> None:
        took.append(time.perf_counter() - context.info["began"])

    event.listen(engine, "before_cursor_execute", begin)
    event.listen(engine, "after_cursor_execute", end)
    try:
        began = time.perf_counter()
        size = _get(client, token, path)
        total = time.perf_counter() - began
    finally:
        event.remove(engine, "before_cursor_execute", begin)
        event.remove(engine, "after_cursor_execute", end)
    return {
        "ms": round(total * 1000, 1),
        "database_ms": round(sum(took) * 1000, 1),
        "statements": len(took),
        "kilobytes": round(size / 1000, 1),
    }


def _get(client: FlaskClient, token: str, path: str, **more: str) -> int:
    answer = client.get(path, headers={"Authorization": f"Bearer {token}", **more})
    if answer.status_code >= 400:
        raise BenchmarkFailed(f"{path} was answered {answer.status_code}", answer.text[-2000:])
    return len(answer.data)


def _fill(url: str, **values: int) -> None:
    with psycopg.connect(url, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(_FILL, values)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum (analyze)")
        connection.execute("checkpoint")
