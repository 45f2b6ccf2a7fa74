"""Effects per second on waiting rows, for each way.

Every round copies the same prepared database, queues the rows as the way requires, then starts its
workers. The clock is the database's: the first tenth of the finished rows is warm-up for everyone, and the
rate is what finished after it, over the time until the last one finished.
"""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import psycopg

from benchmarks.processes import ROOT, BenchmarkFailed, running, tail
from benchmarks.results import Figures, Report
from benchmarks.rows import READY, make_ready_template
from benchmarks.servers import Servers, create_database, drop_database, empty_brokers
from benchmarks.ways import Bench, Effect, WorkerWay, in_turn
from benchmarks.worker_ways import PLAIN

COLUMNS = {"per_second": "effects/s", "effects": "effects", "measured_seconds": "seconds"}
FIRST_EFFECT_SECONDS = 60

COUNT_DONE = "select count(*) from work_queue where status = 'done' and id <= %s"
RATE = """
with done as (
  select finished_at, row_number() over (order by finished_at) as n, count(*) over () as total
  from work_queue where status = 'done' and topic = 'order_ingest'
), warm as (select max(finished_at) as at, max(total) as total from done where n <= greatest(total / 10, 1))
select warm.total, count(*), extract(epoch from max(done.finished_at) - warm.at)::float8
from warm join done on done.finished_at > warm.at group by warm.total, warm.at
"""
# Expected result of the done rows: every order, and every line of the first thousand.
PROOF = """
with done as (
  select w.id, w.shop_id, e.body from work_queue w join inbound_events e on e.id = w.event_id
  where w.status = 'done' and w.topic = 'order_ingest' order by w.id limit 1000
), wanted as (
  select done.shop_id, line
  from done, jsonb_array_elements(convert_from(body, 'UTF8')::jsonb -> 'line_items') line
)
select (select count(*) from work_queue where status = 'done' and topic = 'order_ingest'),
       (select count(*) from orders),
       (select count(*) from wanted),
       (select count(*) from wanted join order_lines l
          on l.shop_id = wanted.shop_id and l.line_id = (line ->> 'id')::bigint
         and l.quantity = (line ->> 'quantity')::int
         and l.price_cents = round((line ->> 'price')::numeric * 100)),
       (select coalesce(sum(available - observed_available), 0) from inventory_levels),
       (select coalesce(sum(delta), 0) from stock_movements),
       exists (select from inventory_levels)
"""


def measure(
    servers: Servers,
    ways: Sequence[WorkerWay],
    *,
    rounds: int,
    seconds: float,
    fast_rows: int,
    slow_rows: int,
    effect: Effect,
) -> Report:
    """Return the report of ``rounds`` interleaved rounds; a round ends after ``seconds`` or with its rows."""
    report = Report(
        name="workers" if effect == "orders" else f"workers-{effect}",
        title=f"Workers: order_ingest on ready rows ({effect}), two processes",
        columns=COLUMNS,
        baseline=PLAIN,
        settings={
            "rounds": rounds,
            "seconds_at_most": seconds,
            "rows": fast_rows,
            "rows_for_slow_ways": slow_rows,
            "warm_up": "the first tenth of the finished rows",
            "effect": effect,
        },
    )
    ways = [way for way in ways if way.can_push or effect != "pushes"]
    report.not_run.update({way.name: reason for way in ways if (reason := way.why_not())})
    print(f"preparing {fast_rows} rows", file=sys.stderr)
    make_ready_template(servers, fast_rows, has_levels=effect == "pushes")
    for number in range(rounds):
        for way in in_turn(ways, number, rounds):
            if way.name in report.not_run:
                continue
            rows = fast_rows if way.is_fast else min(slow_rows, fast_rows)
            try:
                figures = _measure_once(servers, way, rows=rows, seconds=seconds, effect=effect)
            except BenchmarkFailed as failed:
                report.fail(way.name, failed)
                continue
            report.add(way.name, figures)
            print(f"round {number + 1}/{rounds} {way.name}: {figures}", file=sys.stderr)
    drop_database(servers, READY)
    return report


def _measure_once(servers: Servers, way: WorkerWay, *, rows: int, seconds: float, effect: Effect) -> Figures:
    url = create_database(servers, "bench_run", template=READY)
    empty_brokers(servers)
    bench = Bench(servers=servers, database_url=url, logs=servers.home, effect=effect)
    way.fill(bench, rows)
    log = bench.logs / f"worker-{way.name.split()[0].strip(':,')}.log"
    with psycopg.connect(url, autocommit=True) as conn, ExitStack() as stack:
        processes = [
            stack.enter_context(running(argv, log=log, env=way.env(bench), cwd=way.cwd or ROOT))
            for argv in way.workers(bench, rows)
        ]
        wall_seconds = _await_end(
            conn, rows, seconds, lambda: [p.poll() for p in processes], lambda: tail(log)
        )
        stack.close()
        figures = {**_read_rate(conn), "wall_seconds": round(wall_seconds, 2)}
    drop_database(servers, "bench_run")
    return figures


def _await_end(
    conn: psycopg.Connection[Any],
    rows: int,
    seconds: float,
    codes: Callable[[], list[int | None]],
    words: Callable[[], str],
) -> float:
    """Return how long it took from the first effect seen (within a quarter of a second) to the end."""
    started = time.monotonic()
    first: float | None = None
    while True:
        row = conn.execute(COUNT_DONE, [rows]).fetchone()
        done = row[0] if row else 0
        now = time.monotonic()
        if done >= rows or (first is not None and now - first >= seconds):
            return now - (first or started)
        if done and first is None:
            first = now
        if any(code for code in codes()):
            raise BenchmarkFailed(f"a worker ended with {codes()}", words())
        if first is None and now - started > FIRST_EFFECT_SECONDS:
            raise BenchmarkFailed(f"no effect within {FIRST_EFFECT_SECONDS} s", words())
        time.sleep(0.25 if first is None else 1)  # counting costs time too


def _read_rate(conn: psycopg.Connection[Any]) -> Figures:
    proof = conn.execute(PROOF).fetchone()
    rate = conn.execute(RATE).fetchone()
    if proof is None or rate is None or not rate[2]:
        raise BenchmarkFailed("too few effects to measure: prepare more rows")
    done, orders, wanted, lines, taken, moved, has_levels = proof
    if orders != done or lines != wanted:
        raise BenchmarkFailed(
            f"{done} rows done, but {orders} orders and {lines} of {wanted} lines are right"
        )
    if has_levels and taken != moved:
        raise BenchmarkFailed(f"{moved} pieces moved, but {taken} were taken from the levels")
    return {"per_second": round(rate[1] / rate[2], 1), "effects": done, "measured_seconds": round(rate[2], 3)}
