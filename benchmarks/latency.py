"""From the 2xx answer to the committed effect, at ten webhooks a second.

One thread posts on an even schedule and notes when each answer ended. Another asks the database every
millisecond, over a connection of its own, which of the awaited orders are there: seeing the row means that
its transaction is committed. So a figure is at most one poll (1 ms and a query of about 0.2 ms) too high,
and never too low by more than the clock's resolution. Both stamps come from one clock.
"""

import http.client
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psycopg

from benchmarks.payloads import make_body, make_headers, make_order
from benchmarks.processes import BenchmarkFailed
from benchmarks.results import Figures, Report
from benchmarks.rows import EMPTY
from benchmarks.servers import Servers, create_database, drop_database, empty_brokers
from benchmarks.ways import Bench

PER_SECOND = 10
WARM_UP = 20
POLL_SECONDS = 0.001
LATE_SECONDS = 15
FIRST_NUMBER = 5_000_000
COLUMNS = {"p50_ms": "p50 ms", "p99_ms": "p99 ms", "max_ms": "max ms", "effects": "effects"}

SEEN = "select order_gid from orders where shop_id = 1 and order_gid = any(%s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetWay:
    """Ingress and workers together. ``serve`` yields the URL to post to; effects follow by themselves."""

    name: str
    serve: Callable[[Bench], AbstractContextManager[str]]
    why_not: Callable[[], str | None]


@dataclass(slots=True)
class Watch:
    """Shared by the two threads: start times of the awaited orders, and the latencies of the others."""

    awaited: dict[str, float] = field(default_factory=dict)
    waits_ms: list[float] = field(default_factory=list)
    is_over: bool = False
    fault: str = ""


def measure(servers: Servers, ways: Sequence[FleetWay], *, seconds: float) -> Report:
    """Return the report of posting at ten a second for ``seconds`` to each way."""
    report = Report(
        name="latency",
        title=f"Latency: from 2xx to the committed effect at {PER_SECOND}/s",
        columns=COLUMNS,
        baseline=ways[0].name,
        is_less_better=True,
        settings={
            "per_second": PER_SECOND,
            "seconds": seconds,
            "poll_seconds": POLL_SECONDS,
            "warm_up": WARM_UP,
        },
    )
    for way in ways:
        reason = way.why_not()
        if reason:
            report.not_run[way.name] = reason
            continue
        url = create_database(servers, "bench_run", template=EMPTY)
        empty_brokers(servers)
        bench = Bench(servers=servers, database_url=url, logs=servers.home)
        try:
            with way.serve(bench) as address:
                report.add(way.name, _measure_once(address, url, count=int(seconds * PER_SECOND)))
        except BenchmarkFailed as failed:
            report.fail(way.name, failed)
        drop_database(servers, "bench_run")
    return report


def _measure_once(address: str, database_url: str, *, count: int) -> Figures:
    watch = Watch()
    watcher = threading.Thread(target=_watch_orders, args=(database_url, watch), daemon=True)
    watcher.start()
    try:
        _post_evenly(address, watch, count=WARM_UP, first=FIRST_NUMBER)
        _await_none(watch)
        watch.waits_ms.clear()
        _post_evenly(address, watch, count=count, first=FIRST_NUMBER + WARM_UP)
        _await_none(watch)
    finally:
        watch.is_over = True
        watcher.join(timeout=5)
    waits = sorted(watch.waits_ms)
    if len(waits) != count:
        raise BenchmarkFailed(f"{count} webhooks were answered 2xx, but {len(waits)} effects were seen")
    return {
        "p50_ms": round(waits[len(waits) // 2], 2),
        "p99_ms": round(waits[int(len(waits) * 0.99)], 2),
        "max_ms": round(waits[-1], 2),
        "effects": len(waits),
    }


def _post_evenly(address: str, watch: Watch, *, count: int, first: int) -> None:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=10)
    began = time.perf_counter()
    for number in range(first, first + count):
        body = make_body(number)
        due = began + (number - first) / PER_SECOND
        time.sleep(max(0.0, due - time.perf_counter()))
        connection.request("POST", parts.path, body, make_headers(body, f"latency-{number}"))
        answer = connection.getresponse()
        answer.read()
        answered = time.perf_counter()
        if answer.status >= 300:
            raise BenchmarkFailed(f"a signed webhook was answered {answer.status}")
        watch.awaited[str(make_order(number)["admin_graphql_api_id"])] = answered
    connection.close()


def _await_none(watch: Watch) -> None:
    deadline = time.monotonic() + LATE_SECONDS
    while watch.awaited:
        if watch.fault or time.monotonic() > deadline:
            raise BenchmarkFailed(
                watch.fault or f"{len(watch.awaited)} effects missing after {LATE_SECONDS} s"
            )
        time.sleep(0.01)


def _watch_orders(database_url: str, watch: Watch) -> None:
    try:
        with psycopg.connect(database_url, autocommit=True, prepare_threshold=0) as conn:
            while not watch.is_over:
                awaited = list(watch.awaited)
                if awaited:
                    for (gid,) in conn.execute(SEEN, [awaited]).fetchall():
                        seen = time.perf_counter()
                        watch.waits_ms.append((seen - watch.awaited.pop(gid)) * 1000)
                time.sleep(POLL_SECONDS)
    except psycopg.Error as error:
        watch.fault = f"the watching connection failed: {type(error).__name__}"
