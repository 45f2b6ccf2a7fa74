"""Unsigned and genuine senders on raw sockets, with a server in its own processes."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from services.fleet.ports import find_free_port
from services.providers.shopify import sign_shopify

HOST = "127.0.0.1"
ANNOUNCED_BYTES = 5 * 1024 * 1024


@contextmanager
def serving(log: Path, env: Mapping[str, str]) -> Iterator[int]:
    """Yield the port of a real ingress under ``env``."""
    port = find_free_port()
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.ingress.serve"],
            env={**os.environ, **env, "INGRESS_PORT": str(port)}, stdout=out, stderr=out,
        )  # fmt: skip
        try:
            _wait_for_answer(process, port, log)
            yield port
        finally:
            process.terminate()
            process.wait(90)


def _wait_for_answer(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            if asyncio.run(post_raw(port, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")) == 200:
                return
        except OSError:
            time.sleep(0.05)


async def post_raw(port: int, request: bytes) -> int:
    """Return the status of the response to ``request``, sent over a new connection."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(request)
        await writer.drain()
        return int((await reader.readline()).split()[1])
    finally:
        writer.close()


def raw(path: str, body: bytes, headers: Mapping[str, str], size: int | None = None) -> bytes:
    """Return a request whose stated length is ``size``, or the body's."""
    stated = {"Host": "x", "Content-Length": str(len(body) if size is None else size), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in stated.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def genuine(slug: str, webhook_id: str, body: bytes, secret: bytes, headers: Mapping[str, str]) -> bytes:
    """Return a signed delivery."""
    signed = sign_shopify(
        body, secret, topic="orders/create", webhook_id=webhook_id, domain=f"{slug}.myshopify.com"
    )
    return raw(f"/webhooks/shopify/{slug}", body, {**signed, **headers})


@asynccontextmanager
async def unsigned_senders(
    count: int, port: int, slug: str, headers: Mapping[str, str]
) -> AsyncIterator[None]:
    """Run ``count`` unsigned senders that announce a large body and send one byte; reconnect when cut."""
    begin = raw(f"/webhooks/shopify/{slug}", b"x", headers, size=ANNOUNCED_BYTES)
    sent = asyncio.Semaphore(0)

    async def hold() -> None:
        while True:
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(begin)
            await writer.drain()
            sent.release()
            await reader.read()
            writer.close()

    tasks = [asyncio.create_task(hold()) for _ in range(count)]
    try:
        for _ in range(count):
            await sent.acquire()
        yield
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
