"""Cost of the figures that an ingress keeps: webhooks per second with them and without.

All ingresses run all the time, each on a database of its own, and get their load in turns of a few seconds:
the machine's speed is nearly the same for the turns of a round. The result is the median of the ratios of the
rounds. The third ingress has no figures either: its ratio shows by how much two equal ingresses differ.
The processor time of the figures alone is among the settings, as ``own_cpu_us_a_request``: it is measured in
one thread, which shows parts of a microsecond.
As a program, this module is the ingress without figures.
"""

import sys
import time
from collections.abc import Collection
from contextlib import ExitStack, suppress
from functools import partial
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

WITH, WITHOUT, CONTROL = "with figures", "without figures", "without figures, second"
_NONE = "benchmarks.ingress_figures"
MODULES = {WITH: "services.ingress.serve", WITHOUT: _NONE, CONTROL: _NONE}
DATABASES = {WITH: "bench_figures", WITHOUT: "bench_no_figures", CONTROL: "bench_no_figures_2"}
COLUMNS = {
    "turn_ratio": "median of turns",
    "cpu_ratio": "of CPU",
    "per_second": "requests/s",
    "cpu_us": "its CPU us a request",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "errors": "errors",
}
TURNS_A_ROUND = 5
FLUSHES, REQUESTS_A_FLUSH = 10, 3000
"""About the load of one process at 1,500 requests/s."""


def measure(servers: Servers, *, rounds: int, seconds: float, clients: int) -> Report:
    """Return the report of ``rounds`` times ``TURNS_A_ROUND`` turns, with ``seconds`` of load a round."""
    seconds_a_turn = seconds / TURNS_A_ROUND
    turns = rounds * TURNS_A_ROUND
    report = Report(
        name="ingress-figures",
        title=f"Ingress: signed Shopify orders accepted with figures and without, {clients} clients",
        columns=COLUMNS,
        baseline=WITHOUT,
        settings={
            "clients": clients,
            "turns": turns,
            "seconds_a_turn": seconds_a_turn,
            "client": "wrk" if has_wrk() else "python",
        },
    )
    bodies = write_bodies(servers.home / "bodies.tsv")
    empty_brokers(servers)
    with ExitStack() as stack:
        loads = {}
        for way, module in MODULES.items():
            url = create_database(servers, DATABASES[way], template=EMPTY)
            stack.callback(drop_database, servers, DATABASES[way])
            bench, others = Bench(servers=servers, database_url=url, logs=servers.home), _list_pids(module)
            address = stack.enter_context(ours.serve(bench, module=module))
            loads[way] = partial(
                _measure_turn,
                address,
                _list_pids(module) - others,
                bodies,
                seconds=seconds_a_turn,
                clients=clients,
            )
        report.settings["own_cpu_us_a_request"] = _measure_own_cost(servers)
        for number in range(-1, turns):  # the first turn of each is the warm-up
            found = {way: loads[way]() for way in in_turn([*MODULES], number % 3, 3)}
            for way, figures in found.items() if number >= 0 else ():
                ratios = {
                    name: round(figures[of] / found[WITHOUT][of], 4)
                    for name, of in (("turn_ratio", "per_second"), ("cpu_ratio", "cpu_us"))
                }
                report.add(way, {**ratios, **figures})
            print(f"turn {number + 1}/{turns}: {found}", file=sys.stderr)
        _check(servers)
    return report


def _measure_turn(
    address: str, pids: Collection[int], bodies: Path, *, seconds: float, clients: int
) -> Figures:
    before = _read_cpu_seconds(pids)
    load = post_for(address, bodies, clients=clients, seconds=seconds, ids=f"{time.time_ns():x}")
    if not load.answered:
        raise BenchmarkFailed("no request was accepted")
    spent = _read_cpu_seconds(pids) - before
    return {"cpu_us": round(spent / load.answered * 1e6, 1), **load.figures()}


def _measure_own_cost(servers: Servers) -> float:
    """Return the processor time of counting and flushing alone, in microseconds a request.

    Two turns differ by more than a tenth on a small machine, which hides a few microseconds.
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


def _list_pids(module: str) -> set[int]:
    """Return the processes of this one's children that run ``module``."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # one of PostgreSQL's that has ended
            if module in process.cmdline():
                found.add(process.pid)
    return found


def _read_cpu_seconds(pids: Collection[int]) -> float:
    """Return the processor time of an ingress until now, without the database's."""
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


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
