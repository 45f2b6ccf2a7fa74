"""Cost of the figures that an ingress keeps: webhooks per second with them and without.

Both ingresses run all the time, each on a database of its own, and get their load in turns of a few seconds:
the machine's speed is the same for both turns of a pair. The result is the median of the ratios of the pairs.
The processor time of the figures alone is among the settings, as ``own_cpu_us_a_request``.
As a program, this module is the ingress without figures.
"""

import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import psycopg

from benchmarks import ours
from benchmarks.load import has_wrk, post_for, write_bodies
from benchmarks.processes import BenchmarkFailed
from benchmarks.results import Figures, Report
from benchmarks.rows import EMPTY
from benchmarks.servers import Servers, create_database, drop_database, empty_brokers
from benchmarks.ways import Bench, in_turn
from services.core import db
from services.core.clock import utc_now
from services.core.errors import run_process
from services.ingress import app, serve
from services.ingress.request_stats import RequestStats

WITH, WITHOUT = "with figures", "without figures"
MODULES = {WITH: "services.ingress.serve", WITHOUT: "benchmarks.ingress_figures"}
DATABASES = {WITH: "bench_figures", WITHOUT: "bench_no_figures"}
COLUMNS = {
    "pair_ratio": "median of pairs",
    "per_second": "requests/s",
    "cpu_us": "its CPU us a request",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "errors": "errors",
}
PAIRS_A_ROUND = 5
FLUSHES, REQUESTS_A_FLUSH = 10, 3000
"""About the load of one process at 1,500 requests/s."""


def measure(servers: Servers, *, rounds: int, seconds: float, clients: int) -> Report:
    """Return the report of ``rounds`` times ``PAIRS_A_ROUND`` pairs, with ``seconds`` of load a round."""
    turn = seconds / PAIRS_A_ROUND
    pairs = rounds * PAIRS_A_ROUND
    report = Report(
        name="ingress-figures",
        title=f"Ingress: signed Shopify orders accepted with figures and without, {clients} clients",
        columns=COLUMNS,
        baseline=WITHOUT,
        settings={
            "clients": clients,
            "pairs": pairs,
            "seconds_a_turn": turn,
            "client": "wrk" if has_wrk() else "python",
        },
    )
    bodies = write_bodies(servers.home / "bodies.tsv")
    empty_brokers(servers)
    with ExitStack() as stack:
        addresses = {}
        for way, module in MODULES.items():
            url = create_database(servers, DATABASES[way], template=EMPTY)
            stack.callback(drop_database, servers, DATABASES[way])
            bench = Bench(servers=servers, database_url=url, logs=servers.home)
            addresses[way] = stack.enter_context(ours.serve(bench, module=module))
        report.settings["own_cpu_us_a_request"] = _measure_own_cost(servers)
        for number in range(-1, pairs):  # the first pair is the warm-up
            turns = {
                way: _measure_turn(way, addresses[way], bodies, seconds=turn, clients=clients)
                for way in in_turn([*MODULES], number % 2, 2)
            }
            for way, figures in turns.items() if number >= 0 else ():
                ratio = round(figures["per_second"] / turns[WITHOUT]["per_second"], 4)
                report.add(way, {"pair_ratio": ratio, **figures})
            print(f"pair {number + 1}/{pairs}: {turns}", file=sys.stderr)
        _check(servers)
    return report


def _measure_turn(way: str, address: str, bodies: Path, *, seconds: float, clients: int) -> Figures:
    before = _read_cpu_seconds(way)
    load = post_for(address, bodies, clients=clients, seconds=seconds, ids=f"{time.time_ns():x}")
    if not load.answered:
        raise BenchmarkFailed("no request was accepted")
    spent = _read_cpu_seconds(way) - before
    return {"cpu_us": round(spent / load.answered * 1e6, 1), **load.figures()}


def _measure_own_cost(servers: Servers) -> float:
    """Return the processor time of counting and flushing alone, in microseconds a request.

    A pair of turns differs by more than a tenth on a small machine, which hides a few microseconds.
    """
    engine = db.make_engine(servers.database_url(DATABASES[WITH]), application="bench-figures", pool_size=1)
    stats, now = RequestStats(engine), utc_now()
    stats.flush()
    began = time.thread_time()
    for _ in range(FLUSHES):
        for number in range(REQUESTS_A_FLUSH):
            stats.count(now, "shop", "shopify", "accepted", "/webhooks/shopify", 200, number % 120, "", 1)
        if not stats.flush():
            raise BenchmarkFailed("the counts could not be stored")
    spent = time.thread_time() - began
    engine.dispose()
    return round(spent / (FLUSHES * REQUESTS_A_FLUSH) * 1e6, 2)


def _read_cpu_seconds(way: str) -> float:
    """Return the processor time of the ingress of ``way`` until now, without the database's."""
    spent = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # one of PostgreSQL's that has ended
            if MODULES[way] in process.cmdline():
                spent += sum(process.cpu_times()[:2])
    return spent


def _check(servers: Servers) -> None:
    """Raise ``BenchmarkFailed`` unless exactly the ingress with figures has stored some."""
    for way, name in DATABASES.items():
        with psycopg.connect(servers.database_url(name)) as conn:
            stored = conn.execute(
                "select (select count(*) from request_counts), (select count(*) from statement_stats), "
                "(select count(*) from shop_secrets where last_used_at is not null)"
            ).fetchone()
        assert stored is not None
        if any((count > 0) != (way == WITH) for count in stored):
            raise BenchmarkFailed(f"{way}: rows of requests, statements and used secrets are {stored}")


class NoStats(RequestStats):
    """Stores nothing, and has no thread."""

    def start(self) -> None:
        """Start nothing."""

    def count(self, *_: object) -> None:
        """Count nothing."""

    def close(self) -> None:
        """Write nothing."""


def main() -> None:
    """Serve as ``services.ingress.serve`` does; its processes are forks of this one."""
    app.RequestStats = NoStats
    db.TimedCursor, db.TimedConnection = psycopg.Cursor, psycopg.Connection
    serve.main()


if __name__ == "__main__":
    run_process(main)
