"""Latency of genuine deliveries while unsigned senders keep connections: paced, a connection each.

Unsigned senders announce 5 MiB and send one byte, or leave a kept connection idle, and come
again when they are cut. Deliveries are sent on an even schedule, independent of the response times.
"""

import asyncio
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from benchmarks import ours
from benchmarks.load import raw_request
from benchmarks.payloads import make_body
from benchmarks.processes import BenchmarkFailed
from benchmarks.results import Figures, Report
from benchmarks.rows import EMPTY
from benchmarks.servers import Servers, create_database, drop_database, empty_brokers
from benchmarks.ways import Bench, in_turn

PER_SECOND = 200
WARM_UP_SECONDS = 3
QUIET = "quiet"
COLUMNS = {"p99_ms": "p99 ms", "p50_ms": "p50 ms", "max_ms": "max ms", "answered": "2xx", "errors": "others"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Strangers:
    """``count`` connections that each send ``begin`` and then nothing."""

    name: str
    count: int = 0
    begin: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


_HELD_BACK = "POST /webhooks/shopify/bench HTTP/1.1\r\nHost: x\r\nContent-Length: 5242880\r\n{}\r\nx"
_FORWARDED = {"X-Forwarded-For": "203.0.113.5"}
WAYS = (
    Strangers(name=QUIET),
    Strangers(name="100 bodies held back", count=100, begin=_HELD_BACK.format("")),
    Strangers(
        name="100 bodies held back, one proxy",
        count=100,
        begin=_HELD_BACK.format("X-Forwarded-For: 203.0.113.5\r\n"),
        headers=_FORWARDED,
    ),
    Strangers(name="494 idle connections", count=494, begin="GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"),
)


def measure(servers: Servers, *, rounds: int, seconds: float) -> Report:
    """Return the report of ``rounds`` interleaved rounds of each way, ``seconds`` long."""
    report = Report(
        name="strangers",
        title=f"Ingress: {PER_SECOND} signed orders a second while strangers hold connections",
        columns=COLUMNS,
        baseline=QUIET,
        is_less_better=True,
        settings={
            "per_second": PER_SECOND,
            "rounds": rounds,
            "seconds": seconds,
            "warm_up_seconds": WARM_UP_SECONDS,
        },
    )
    for number in range(rounds):
        for way in in_turn(WAYS, number, rounds):
            try:
                figures = _measure_once(servers, way, seconds)
            except BenchmarkFailed as failed:
                report.fail(way.name, failed)
                continue
            report.add(way.name, figures)
            print(f"round {number + 1}/{rounds} {way.name}: {figures}", file=sys.stderr)
    return report


def _measure_once(servers: Servers, way: Strangers, seconds: float) -> Figures:
    url = create_database(servers, "bench_run", template=EMPTY)
    empty_brokers(servers)
    bench = Bench(servers=servers, database_url=url, logs=servers.home)
    with ours.serve(bench, {"TRUSTED_PROXIES": "127.0.0.1"}) as address:
        waits, errors = asyncio.run(_post_among(way, address, seconds))
    drop_database(servers, "bench_run")
    if not waits:
        raise BenchmarkFailed("no delivery was answered 2xx")
    waits.sort()
    return {
        "p50_ms": round(waits[len(waits) // 2] * 1e3, 2),
        "p99_ms": round(waits[int(len(waits) * 0.99)] * 1e3, 2),
        "max_ms": round(waits[-1] * 1e3, 2),
        "answered": len(waits),
        "errors": errors,
    }


async def _post_among(way: Strangers, url: str, seconds: float) -> tuple[list[float], int]:
    parts = urlsplit(url)
    host, port = str(parts.hostname), int(parts.port or 80)
    held = [asyncio.create_task(_hold(way.begin.encode(), host, port)) for _ in range(way.count)]
    bodies = [make_body(number) for number in range(500)]
    run = f"{time.time_ns():x}"

    async def post_paced(length: float, name: str) -> list[float | None]:
        posts = []
        began = time.perf_counter()
        for number in range(int(length * PER_SECOND)):
            await asyncio.sleep(max(0.0, began + number / PER_SECOND - time.perf_counter()))
            request = raw_request(
                parts.path, bodies[number % len(bodies)], f"{run}-{name}-{number}", way.headers
            )
            posts.append(asyncio.create_task(_post(request, host, port)))
        return await asyncio.gather(*posts)

    await post_paced(WARM_UP_SECONDS, "warm")
    answers = await post_paced(seconds, "run")
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)
    waits = [wait for wait in answers if wait is not None]
    return waits, len(answers) - len(waits)


async def _post(request: bytes, host: str, port: int) -> float | None:
    """Return how long a 2xx answer took, connecting included; None for any other, or none within 30 s."""
    began = time.perf_counter()
    try:
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(request)
            status = (await reader.readline()).split()[1:2]
    except (OSError, TimeoutError):
        return None
    writer.close()
    return time.perf_counter() - began if status == [b"200"] else None


async def _hold(begin: bytes, host: str, port: int) -> None:
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(begin)
            await reader.read()
            writer.close()
        except OSError:
            await asyncio.sleep(0.1)
