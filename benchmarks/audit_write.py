"""Cost of the audit for the ledger: the same set-based work with and without its chain, in turns.

Two processes run the worker's own ``TransactionalRunner`` over ready rows of ``order_ingest``, with no
broker between. ``without`` drops the audit of an effect before it is appended. Every round is a fresh
copy of one database. Processor time, of the processes and of their PostgreSQL backends, is what a busy
machine does not blur.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from random import Random
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import Connection

from benchmarks.ours import env
from benchmarks.processes import ROOT, BenchmarkFailed, stop
from benchmarks.results import Figures, Report
from benchmarks.rows import READY, make_ready_template
from benchmarks.servers import Servers, create_database, drop_database
from benchmarks.ways import Bench

WITHOUT, WITH = "without audit", "with audit"
COLUMNS = {
    "per_second": "rows/s",
    "cpu_us_a_row": "CPU us a row",
    "seconds": "seconds",
    "bytes_an_event": "bytes an event",
    "wal_bytes_a_row": "WAL bytes a row",
}
PROCESSES = 2

FACTS = """
with chain as (
  select seq - lag(seq, 1, 0::bigint) over shop as step, prev_hash = lag(hash) over shop as joins
    from audit_events window shop as (partition by shop_id order by seq)
)
select (select count(*) from work_queue where status = 'done' and topic = 'order_ingest'),
       (select count(*) from audit_events where work_id is not null),
       (select count(*) from chain where step <> 1 or not joins),
       pg_total_relation_size('audit_events') / greatest((select count(*) from audit_events), 1)
"""


class Scene(NamedTuple):
    """A scenario: the number of shops, and whether the rows also move stock."""

    name: str
    title: str
    shops: int
    has_levels: bool = False


SCENES = (
    Scene("audit-write", "orders of 8 shops", 8),
    Scene("audit-write-one-shop", "orders of one shop: one chain for both processes", 1),
    Scene("audit-write-stock", "orders of 8 shops that move stock", 8, has_levels=True),
)


def measure(servers: Servers, *, rounds: int, rows: int) -> list[Report]:
    """Return a report a scene, each of ``rounds`` rounds with the audit and without, in turns."""
    return [_measure_scene(servers, scene, rounds=rounds, rows=rows) for scene in SCENES]


def _measure_scene(servers: Servers, scene: Scene, *, rounds: int, rows: int) -> Report:
    report = Report(
        name=scene.name,
        title=f"Audit: {scene.title}, order_ingest, two processes",
        columns=COLUMNS,
        baseline=WITHOUT,
        settings={"rounds": rounds, "rows": rows, "shops": scene.shops, "moves_stock": scene.has_levels},
    )
    print(f"preparing {rows} rows: {scene.title}", file=sys.stderr)
    make_ready_template(servers, rows, has_levels=scene.has_levels, shops=scene.shops)
    for number in range(rounds):
        # The order alternates too: the previous round affects the disk.
        for way in (WITHOUT, WITH) if number % 2 else (WITH, WITHOUT):
            figures = _measure_once(servers, way, rows)
            report.add(way, figures)
            print(f"round {number + 1}/{rounds} {way}: {figures}", file=sys.stderr)
    drop_database(servers, READY)
    return report


def _measure_once(servers: Servers, way: str, rows: int) -> Figures:
    url = create_database(servers, "bench_run", template=READY)
    bench = Bench(servers=servers, database_url=url, logs=servers.home)
    with psycopg.connect(url, autocommit=True) as conn:
        wal = _wal_bytes(conn)
        seconds, cpu_seconds = _run(bench, way)
        wal = _wal_bytes(conn) - wal
        facts = conn.execute(FACTS).fetchone()
    assert facts is not None
    done, events, faults, event_bytes = facts
    if done != rows or events != (rows if way == WITH else 0) or faults:
        raise BenchmarkFailed(
            f"{way}: {done} of {rows} rows done, {events} events, {faults} of them out of line"
        )
    drop_database(servers, "bench_run")
    return {
        "per_second": round(rows / seconds, 1),
        "cpu_us_a_row": round(cpu_seconds / rows * 1e6, 1),
        "seconds": round(seconds, 3),
        "bytes_an_event": int(event_bytes) if events else 0,
        "wal_bytes_a_row": round(wal / rows),
    }


def _wal_bytes(conn: psycopg.Connection[Any]) -> int:
    row = conn.execute("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')").fetchone()
    assert row is not None
    return int(row[0])


def _run(bench: Bench, way: str) -> tuple[float, float]:
    """Return the seconds from the start signal to the last row, and the processor seconds."""
    log = bench.logs / "audit-write.log"
    argv = [sys.executable, "-m", "benchmarks.audit_write", way]
    with log.open("ab") as out:
        workers = [
            subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, cwd=ROOT,
                env={"PYTHONPATH": str(ROOT), **env(bench)}, start_new_session=True,
            )
            for _ in range(PROCESSES)
        ]  # fmt: skip
    try:
        for worker in workers:
            assert worker.stdout
            worker.stdout.readline()
        began = time.perf_counter()
        for worker in workers:
            assert worker.stdin
            worker.stdin.write(b"\n")
            worker.stdin.close()
        outputs = [worker.stdout.read() for worker in workers if worker.stdout]
        if codes := [code for worker in workers if (code := worker.wait(timeout=600))]:
            raise BenchmarkFailed(f"a process ended with {codes}", log.read_text(errors="replace")[-2000:])
        return time.perf_counter() - began, sum(float(line) for line in outputs)
    finally:
        for worker in workers:
            stop(worker)


def work(way: str) -> None:
    """One process: load, connect, wait for the start signal, then process batches until none is left."""
    import gc

    import psutil

    from services.core.db import get_engine, transaction
    from services.ledger.runner_transactional import TransactionalRunner
    from services.ledger.topics import TOPICS
    from services.ledger.work import HandlerResult, WorkItem
    from services.shopify.orders.handler import ingest_orders

    def without(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
        return replace(ingest_orders(tx, items, now), audit=())

    effect = ingest_orders if way == WITH else without
    with transaction() as tx:
        backend = psutil.Process(tx.exec_driver_sql("select pg_backend_pid()").scalar_one())
    runner = TransactionalRunner(get_engine(), "bench", Random())
    gc.collect()
    gc.freeze()  # as the workers do
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.process_time() + sum(backend.cpu_times()[:2])
    while runner.run_batch(TOPICS["order_ingest"], effect).claimed:
        pass
    print(time.process_time() + sum(backend.cpu_times()[:2]) - began)


if __name__ == "__main__":
    work(sys.argv[1])
