"""The door: granian's RSGI calls in, to the hot route, or to Flask in a thread for everything else.

RSGI: https://github.com/emmett-framework/granian/blob/master/docs/spec/RSGI.md
"""

import asyncio
import io
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from flask import Flask

from services.ingress.group_commit import Unavailable
from services.ingress.routes import PREFIX
from services.ingress.webhooks import MAX_BODY_BYTES, Answer, BodyTooLarge, Request, Webhooks

if TYPE_CHECKING:
    from granian.rsgi import Scope

BODY_WITHIN_SECONDS = 10
"""A sender that dribbles its body holds a place in line no longer than this."""
MAX_READING_BYTES = 128 * 1024 * 1024
"""Bodies under way, by their own word, in one process. Past it the answer is 503."""
PAGES_AT_ONCE = 4


class Wire(Protocol):
    """Granian's side of one request."""

    def __call__(self) -> Awaitable[bytes]:
        """Return the whole body."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        ...

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Send the answer."""
        ...


class Gateway:
    """Reads requests off the wire within limits, and writes answers to it."""

    def __init__(self, webhooks: Webhooks, flask: Flask) -> None:
        self._webhooks, self._flask = webhooks, flask
        self._threads = ThreadPoolExecutor(PAGES_AT_ONCE, thread_name_prefix="pages")
        self._reading_bytes = 0
        self._reading: dict[asyncio.Task[Any], float] = {}

    async def serve(self, scope: "Scope", protocol: Wire) -> None:
        """Answer one request."""
        if scope.path.startswith(PREFIX):
            headers = dict(scope.headers.items())
            request = Request(scope.method, scope.path, headers, lambda: self._read(headers, protocol))
            answer = await self._webhooks.answer(request)
        else:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._threads, call_flask, self._flask, scope)
        protocol.response_bytes(answer.status, answer.headers, answer.body)

    async def _read(self, headers: dict[str, str], protocol: Wire) -> bytes:
        """Return the body, or raise ``BodyTooLarge`` as soon as it is known to be, or ``Unavailable``."""
        stated = headers.get("content-length", "")
        size = int(stated) if stated.isdecimal() else MAX_BODY_BYTES
        if size > MAX_BODY_BYTES:
            raise BodyTooLarge
        if self._reading_bytes + size > MAX_READING_BYTES:
            raise Unavailable("too many bodies are on their way")
        self._reading_bytes += size
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - granian runs each request as one
        self._reading[task] = asyncio.get_running_loop().time() + BODY_WITHIN_SECONDS
        try:
            return await (protocol() if stated else _read_chunks(protocol))
        except asyncio.CancelledError as fault:
            if task in self._reading:
                raise  # the server stops
            task.uncancel()
            raise Unavailable("the body did not come in time") from fault
        finally:
            self._reading.pop(task, None)
            self._reading_bytes -= size

    async def watch(self) -> None:
        """End the readings that take too long, for as long as this runs.

        One watcher looks at all of them: a timer for each would cost more than reading most bodies.
        """
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1)
            for task in [task for task, deadline in self._reading.items() if deadline < loop.time()]:
                del self._reading[task]
                task.cancel()


async def _read_chunks(protocol: Wire) -> bytes:
    body = bytearray()
    async for chunk in protocol:
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge
    return bytes(body)


def call_flask(flask: Flask, scope: "Scope") -> Answer:
    """Return what ``flask`` answers to a request without a body. https://peps.python.org/pep-3333/"""
    host, _, port = scope.server.rpartition(":")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": scope.path,
        "QUERY_STRING": scope.query_string,
        "SERVER_NAME": host,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope.headers.items():
        environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
    started: list[tuple[int, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], _error: Any = None, /
    ) -> Callable[[bytes], object]:
        started.append((int(status.split(" ", 1)[0]), [(name.lower(), value) for name, value in headers]))
        return written.append

    parts = flask.wsgi_app(environ, start_response)
    try:
        body = b"".join((*written, *parts))
    finally:
        getattr(parts, "close", lambda: None)()
    status, headers = started[-1]
    return Answer(status, headers, body)
