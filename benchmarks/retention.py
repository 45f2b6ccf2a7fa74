"""Speed of claims and lists before old rows came, with them, and after the job ``retention`` removed them.

One database goes through the steps in turn. The last step fills the same number of old rows again and removes
them again: the tables are no larger than at the first time, because the free space is used.
"""

import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from random import Random
from statistics import median

import psycopg
from sqlalchemy import Connection, Engine

from benchmarks.ours import env
from benchmarks.processes import run_once, tail
from benchmarks.results import Figures, Report
from benchmarks.rows import EMPTY
from benchmarks.servers import Servers, create_database, drop_database
from benchmarks.ways import Bench
from services.core.clock import utc_now
from services.core.db import make_engine, transaction
from services.ingress.metrics import read_totals
from services.jobs.history import find_history
from services.ledger.backlog import list_topic_figures
from services.ledger.filters import EventFilter, WorkFilter
from services.ledger.queries import list_events, list_work
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.topics import TOPICS
from services.ledger.work import Done, HandlerResult, WorkItem

DATABASE = "bench_retention"
COLUMNS = {
    "claims_per_second": "claimed and settled/s",
    "claim_pages": "8 KB pages per claimed item",
    "list_pages": "8 KB pages of the four lists",
    "events_ms": "fleet events list, ms",
    "work_ms": "fleet work list, ms",
    "runs_ms": "fleet jobs history, ms",
    "metrics_ms": "/metrics, ms",
    "old_rows": "old rows",
    "size_mb": "tables and indexes, MB",
    "dead_rows": "dead rows",
    "job_seconds": "the job, s",
}
READY, CLAIM_ROUNDS = 10_000, 5
LIST_ROUNDS = 15
SHOPS = 10
TABLES = "'inbound_events', 'work_queue', 'work_stats', 'request_counts', 'job_runs'"

# Two fifths are events, as many their work; the rest is work without events, figures and runs. Bodies have
# about 1 KB; each third event names another customer.
_FILL = (
    """
insert into inbound_events (shop_id, provider, topic, delivery_key, body, received_at)
select 1 + n %% 10, 'shopify', 'orders/updated', %(cycle)s || '-' || n,
       convert_to('{"id": ' || n || ', "customer": {"id": ' || n / 3 || ', "email": "c' || n / 3
                  || '@example.com"}, "note": "' || repeat(md5(n::text), 28) || '"}', 'UTF8'),
       now() - interval '200 days' + n * interval '100 days' / %(events)s
  from generate_series(1, %(events)s) n
""",
    """
insert into work_queue (shop_id, queue, topic, key, event_id, status, result, created_at, finished_at)
select shop_id, 'webhooks', 'order_ingest', 'order:' || id, id, 'done', 'done', received_at, received_at
  from inbound_events where delivery_key like %(cycle)s || '-%%'
""",
    """
insert into work_queue (shop_id, queue, topic, status, result, created_at, finished_at)
select 1 + n %% 10, 'email', 'mail_send', 'done', 'sent', at, at
  from generate_series(1, %(others)s) n,
       lateral (select now() - interval '200 days' + n * interval '100 days' / %(others)s as at) t
""",
    """
insert into request_counts (minute, shop, provider, outcome, route, status, count, latency)
select date_trunc('minute', now()) - interval '50 days' - n / 10 * interval '1 minute', 'bench' || n %% 10,
       'shopify', 'accepted', '/webhooks/shopify', 200, 7, '{0,0,1,4,2,0,0,0,0,0,0,0,0,0}'
  from generate_series(1, %(others)s / 2) n
on conflict do nothing
""",
    """
insert into job_runs (job, shop_id, period, due_at, started_at, ended_at, status, origin)
select 'gap-healing', 1 + n %% 10, %(cycle)s || n, at, at, at, 'done', 'beat'
  from generate_series(1, %(others)s / 2) n,
       lateral (select now() - interval '50 days' - n * interval '1 second' as at) t
""",
)

_JOB = """
insert into jobs (name, topic, title, schedule, zone, per_shop, covers, grace_seconds, catch_up,
                  min_run_seconds, volume, evidence, first_seen_at)
values ('gap-healing', 'gap_heal', 'x', '17 * * * *', 'fleet', true, 'moment', 60, 'once', 0, '', '', now())
"""

_ADD_READY = """
with e as (
  insert into inbound_events (shop_id, provider, topic, delivery_key, body, received_at)
  select 1 + n %% 10, 'shopify', 'orders/create', %(key)s || n, convert_to(repeat('x', 1000), 'UTF8'), now()
    from generate_series(1, %(count)s) n returning id, shop_id, received_at
)
insert into work_queue (shop_id, queue, topic, key, event_id, created_at)
select shop_id, 'webhooks', 'order_ingest', 'order:' || id, id, received_at from e
"""

_DELETE_READY = """
with e as (
  delete from inbound_events where delivery_key like %(key)s and received_at > now() - interval '1 day'
  returning id
)
delete from work_queue w using e where w.event_id = e.id
"""

_PAGES = "select blks_hit + blks_read from pg_stat_database where datname = current_database()"

_SIZE = f"""
select sum(pg_total_relation_size(c.oid)) / 1e6 as size_mb,
       sum(pg_stat_get_dead_tuples(c.oid) + coalesce(pg_stat_get_dead_tuples(nullif(c.reltoastrelid, 0)), 0))
  from pg_class c where c.relkind = 'r' and c.relname in ({TABLES})
"""

_OLD = """
select (select count(*) from inbound_events where received_at < now() - interval '90 days')
     + (select count(*) from work_queue where finished_at < now() - interval '90 days')
     + (select count(*) from request_counts where minute between '1971-01-01' and now() - interval '40 days')
     + (select count(*) from job_runs where ended_at < now() - interval '40 days')
"""


def measure(servers: Servers, *, old_rows: int) -> list[Report]:
    """Return the report of one database through all steps, with ``old_rows`` old rows of five tables."""
    before = "before"
    report = Report(
        name="retention",
        title=f"Retention: claims and lists before and after {old_rows:,} old rows came and went",
        columns=COLUMNS,
        baseline=before,
        settings={"old_rows": old_rows, "ready_items": READY, "shops": SHOPS, "vacuum": "after each step"},
    )
    url = create_database(servers, DATABASE, template=EMPTY)
    engine = make_engine(url, application="bench")
    bench = Bench(servers=servers, database_url=url, logs=servers.home)
    try:
        with psycopg.connect(url) as connection:
            connection.execute(_JOB)
        report.add(before, _measure_step(engine, url))
        for cycle, (filled, emptied) in enumerate(
            ((f"with {old_rows:,} old rows", "after retention"), ("with as many again", "after it again"))
        ):
            _fill(url, old_rows, f"cycle{cycle}")
            report.add(filled, _measure_step(engine, url))
            began = time.monotonic()
            _run_job(bench)
            seconds = time.monotonic() - began
            report.add(emptied, {**_measure_step(engine, url), "job_seconds": round(seconds, 1)})
    finally:
        engine.dispose()
        drop_database(servers, DATABASE)
    return [report]


def _fill(url: str, old_rows: int, cycle: str) -> None:
    events, others = old_rows * 2 // 5, old_rows // 10
    values = {"cycle": cycle, "events": events, "others": others}
    for statement in _FILL:
        print(f"inserting old rows: {statement.split('(')[0].strip()}", file=sys.stderr)
        with psycopg.connect(url) as connection:
            connection.execute(statement.replace("%(cycle)s", "%(cycle)s::text"), values)


def _run_job(bench: Bench) -> None:
    log = bench.logs / "retention.log"
    settings = env(bench) | {"ARCHIVE_URL": (bench.logs / "archive").as_uri()}
    run_once([sys.executable, "-m", "benchmarks.retention_ours"], log=log, env=settings)
    print(tail(log, lines=1), file=sys.stderr)


def _measure_step(engine: Engine, url: str) -> Figures:
    # What autovacuum does within minutes.
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum (analyze)")
        connection.execute("checkpoint")
        size_mb, dead = connection.execute(_SIZE).fetchone() or (0, 0)
        (old,) = connection.execute(_OLD).fetchone() or (0,)
    now = utc_now()
    lists: dict[str, Callable[[Connection], object]] = {
        "events_ms": lambda tx: list_events(tx, EventFilter(shop_id=3), limit=50),
        "work_ms": lambda tx: list_work(tx, WorkFilter(), limit=50),
        "runs_ms": lambda tx: find_history(tx, job="gap-healing", shop_id=3, limit=50),
        "metrics_ms": lambda tx: (read_totals(tx), list_topic_figures(tx, now)),
    }
    first = _count_pages(engine)
    for read in lists.values():
        with transaction(engine) as tx:
            read(tx)
    list_pages = _count_pages(engine) - first
    times = {name: _measure_list(engine, read) for name, read in lists.items()}
    rate, claim_pages = _measure_claims(engine)
    return {
        "claims_per_second": round(rate),
        "claim_pages": round(claim_pages, 1),
        "list_pages": list_pages,
        **times,
        "old_rows": int(old),
        "size_mb": round(float(size_mb), 1),
        "dead_rows": int(dead),
        "job_seconds": 0,
    }


def _measure_list(engine: Engine, read: Callable[[Connection], object]) -> float:
    times = []
    for _ in range(LIST_ROUNDS):
        with transaction(engine) as tx:
            began = time.perf_counter()
            read(tx)
            times.append(time.perf_counter() - began)
    return round(median(times) * 1000, 2)


def _measure_claims(engine: Engine) -> tuple[float, float]:
    """Return how many ready items a second are claimed, with their bodies, and settled; and pages per item.

    The items are deleted again. Pages are the same on a busy machine.
    """
    runner, rates, pages = TransactionalRunner(engine, "bench", Random(1)), [], []
    for number in range(CLAIM_ROUNDS):
        key = f"ready-{datetime.now(UTC).isoformat()}-"
        with transaction(engine) as tx:
            tx.exec_driver_sql(_ADD_READY, {"key": key, "count": READY})
        settled, first, began = 0, _count_pages(engine), time.perf_counter()
        while claimed := runner.run_batch(TOPICS["order_ingest"], _settle).claimed:
            settled += claimed
        rates.append(settled / (time.perf_counter() - began))
        pages.append((_count_pages(engine) - first) / settled)
        with transaction(engine) as tx:
            tx.exec_driver_sql(_DELETE_READY, {"key": f"{key}%"})
        print(f"round {number + 1}: {rates[-1]:,.0f} items/s, {pages[-1]:.1f} pages an item", file=sys.stderr)
    return median(rates), median(pages)


def _count_pages(engine: Engine) -> int:
    """Return how many pages of tables and indexes were read in this database, from memory or disk."""
    with transaction(engine) as tx:
        tx.exec_driver_sql("select pg_stat_force_next_flush()")
    with transaction(engine) as tx:
        return int(tx.exec_driver_sql(_PAGES).scalar_one())


def _settle(_tx: Connection, items: Sequence[WorkItem], _now: datetime) -> HandlerResult:
    return HandlerResult([Done() for _ in items])
