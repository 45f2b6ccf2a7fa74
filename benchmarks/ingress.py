"""Accepted and durable webhooks per second, for each way."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg

from benchmarks.ingress_ways import NAIVE
from benchmarks.load import has_wrk, post_for, write_bodies
from benchmarks.processes import BenchmarkFailed
from benchmarks.results import Figures, Report
from benchmarks.rows import EMPTY
from benchmarks.servers import Servers, create_database, drop_database, empty_brokers
from benchmarks.ways import Bench, IngressWay, in_turn

COLUMNS = {"per_second": "requests/s", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "errors": "errors"}
WARM_UP_SECONDS = 3


def measure(
    servers: Servers, ways: Sequence[IngressWay], *, rounds: int, seconds: float, clients: int
) -> Report:
    """Return the report of ``rounds`` interleaved rounds at ``clients`` connections."""
    report = Report(
        name=f"ingress-{clients}",
        title=f"Ingress: signed Shopify orders accepted, {clients} clients",
        columns=COLUMNS,
        baseline=NAIVE,
        settings={
            "clients": clients,
            "rounds": rounds,
            "seconds": seconds,
            "warm_up_seconds": WARM_UP_SECONDS,
            "client": "wrk" if has_wrk() else "python",
            "durability": "fsync on, synchronous_commit on; AOF always where Redis holds the only copy",
        },
    )
    report.not_run.update({way.name: reason for way in ways if (reason := way.why_not())})
    bodies = write_bodies(servers.home / "bodies.tsv")
    for number in range(rounds):
        for way in in_turn(ways, number, rounds):
            if way.name in report.not_run:
                continue
            try:
                figures = _measure_once(servers, way, bodies, seconds=seconds, clients=clients)
            except BenchmarkFailed as failed:
                report.fail(way.name, failed)
                continue
            report.add(way.name, figures)
            print(f"round {number + 1}/{rounds} {way.name}: {figures}", file=sys.stderr)
    return report


def _measure_once(
    servers: Servers, way: IngressWay, bodies: Path, *, seconds: float, clients: int
) -> Figures:
    url = create_database(servers, "bench_run", template=EMPTY)
    empty_brokers(servers)
    bench = Bench(servers=servers, database_url=url, logs=servers.home)
    with way.serve(bench) as address:
        run = f"{time.time_ns():x}"
        warm = post_for(address, bodies, clients=clients, seconds=WARM_UP_SECONDS, ids=f"{run}-warm")
        if not warm.answered:
            raise BenchmarkFailed(f"no answer within the {WARM_UP_SECONDS} s of warm-up")
        load = post_for(address, bodies, clients=clients, seconds=seconds, ids=run)
        if way.has_rows:
            _check_rows(url, run, answered=load.answered, warm=warm.answered)
    drop_database(servers, "bench_run")
    return load.figures()


def _check_rows(url: str, run: str, *, answered: int, warm: int) -> None:
    """Raise ``BenchmarkFailed`` if an accepted request has no row."""
    with psycopg.connect(url) as conn:
        found = conn.execute(
            "select count(*) filter (where delivery_key like %s), count(*) from inbound_events",
            [f"{run}-warm%"],
        ).fetchone()
    assert found is not None
    if found[0] < warm or found[1] - found[0] < answered:
        raise BenchmarkFailed(f"{answered + warm} requests were answered 2xx, but there are {found[1]} rows")
