"""Post signed webhooks as fast as the server answers, and measure the rate.

``wrk`` is used where it is installed (Debian: ``apt-get install wrk``). Without it a Python client
on asyncio does the same and takes far more of the machine: enough for functional runs, but a fast way is
then limited by its client. The result names the client.
"""

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from benchmarks.payloads import make_body, make_headers, sign
from benchmarks.processes import BenchmarkFailed

BODIES = 4000
LUA = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Result of one round of posting. ``errors`` are answers beyond 2xx/3xx and broken connections."""

    client: str
    per_second: float
    answered: int
    errors: int
    p50_ms: float
    p99_ms: float

    def figures(self) -> dict[str, object]:
        """Return the fields for a report."""
        return asdict(self)


def write_bodies(path: Path) -> Path:
    """Write ``BODIES`` signed orders for ``wrk.lua``, one a line; return the path."""
    lines = (f"{sign(body)}\t{body.decode()}\n" for body in map(make_body, range(BODIES)))
    path.write_text("".join(lines))
    return path


def has_wrk() -> bool:
    """Return whether the fast client is installed."""
    return shutil.which("wrk") is not None


def post_for(url: str, bodies: Path, *, clients: int, seconds: float, ids: str) -> Load:
    """Post for ``seconds`` over ``clients`` kept connections. ``ids`` begins each webhook id: use it once."""
    if has_wrk():
        return _post_with_wrk(url, bodies, clients=clients, seconds=seconds, ids=ids)
    return _post_with_python(url, clients=clients, seconds=seconds, ids=ids)


def _post_with_wrk(url: str, bodies: Path, *, clients: int, seconds: float, ids: str) -> Load:
    parts = urlsplit(url)
    base = f"{parts.scheme}://{parts.netloc}"
    threads = min(2, clients)
    argv = ["wrk", f"-t{threads}", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
    ran = subprocess.run(
        [*argv, "-s", LUA, base, "--", str(bodies), parts.path, ids],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise BenchmarkFailed(f"wrk ended with {ran.returncode}", ran.stderr.strip())
    figures = json.loads(ran.stdout.strip().splitlines()[-1])
    good = figures["requests"] - figures["refused"]
    return Load(
        client="wrk",
        per_second=round(good / figures["seconds"], 1),
        answered=good,
        errors=figures["refused"] + figures["broken"],
        p50_ms=figures["p50_ms"],
        p99_ms=figures["p99_ms"],
    )


def _post_with_python(url: str, *, clients: int, seconds: float, ids: str) -> Load:
    halves = [half for half in (clients // 2, clients - clients // 2) if half]
    with ProcessPoolExecutor(len(halves), mp_context=get_context("spawn")) as pool:
        began = [
            pool.submit(_client_process, url, half, seconds, f"{ids}-{index}")
            for index, half in enumerate(halves)
        ]
        parts = [part.result() for part in began]
    waits = sorted(wait for part in parts for wait in part[0])
    if not waits:
        raise BenchmarkFailed(f"no response from {urlsplit(url).path}")
    return Load(
        client="python",
        per_second=round(len(waits) / max(part[2] for part in parts), 1),
        answered=len(waits),
        errors=sum(part[1] for part in parts),
        p50_ms=round(waits[len(waits) // 2] * 1e3, 3),
        p99_ms=round(waits[int(len(waits) * 0.99)] * 1e3, 3),
    )


def _client_process(url: str, clients: int, seconds: float, ids: str) -> tuple[list[float], int, float]:
    return asyncio.run(_post_many(url, clients, seconds, ids))


async def _post_many(url: str, clients: int, seconds: float, ids: str) -> tuple[list[float], int, float]:
    bodies = [make_body(number) for number in range(500)]
    waits: list[float] = []
    errors = 0
    began = time.perf_counter()

    async def client(number: int) -> None:
        nonlocal errors
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        sent = 0
        try:
            while time.perf_counter() - began < seconds:
                body = bodies[(sent * clients + number) % len(bodies)]
                sent += 1
                requested_at = time.perf_counter()
                writer.write(raw_request(parts.path, body, f"{ids}-{number}-{sent}"))
                status = await _read_answer(reader)
                if status < 300:
                    waits.append(time.perf_counter() - requested_at)
                else:
                    errors += 1
        except (OSError, EOFError):
            errors += 1
        finally:
            writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return waits, errors, time.perf_counter() - began


def raw_request(
    path: str, body: bytes, delivery_id: str, more: Mapping[str, str] = MappingProxyType({})
) -> bytes:
    """Return the bytes of one signed request over a kept connection, with ``more`` headers."""
    headers = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **make_headers(body, delivery_id)}
    headers |= more
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def _read_answer(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, _, rest = head.partition(b"content-length:")
    if rest:
        await reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
    elif b"transfer-encoding: chunked" in head:
        while int((await reader.readuntil(b"\r\n")).strip() or b"0", 16):
            await reader.readuntil(b"\r\n")
        await reader.readuntil(b"\r\n")
    return int(head.split(b" ", 2)[1])
