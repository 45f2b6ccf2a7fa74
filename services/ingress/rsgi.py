"""RSGI adapter: passes webhooks to the fast route, and all other requests to Flask in a thread.

RSGI: https://github.com/emmett-framework/granian/blob/master/docs/spec/RSGI.md
"""

import asyncio
import io
import sys
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from flask import Flask
from werkzeug.test import run_wsgi_app

from services.core.settings import Settings
from services.ingress.body_reader import BodyReader, RsgiProtocol
from services.ingress.connections import (
    count_descriptors,
    find_client,
    list_connections,
    list_idle,
    shut_idle,
)
from services.ingress.webhook_request import PREFIX, HttpRequest, HttpResponse
from services.ingress.webhooks import WebhookEndpoint

if TYPE_CHECKING:
    from granian.rsgi import Scope

PAGES_AT_ONCE = 4
PAGES_WAITING = 64
"""Most page requests in a process, running and waiting. Beyond it the response is 503."""
WATCH_SECONDS = 0.25
FREE_SHARE = 4
"""A quarter of the connections of a process is kept free for new requests."""
LEAST_IDLE_SECONDS = 0.5
"""A connection idle for less is not closed, because its next request may be on the way."""


class Gateway:
    """Answers requests within the limits of one process."""

    def __init__(self, webhooks: WebhookEndpoint, flask: Flask, settings: Settings) -> None:
        self._webhooks, self._flask = webhooks, flask
        self._threads = ThreadPoolExecutor(PAGES_AT_ONCE, thread_name_prefix="pages")
        self._port, self._trusted = settings.ingress_port, settings.trusted_proxies
        self._most = settings.ingress_requests - settings.ingress_requests // FREE_SHARE
        self._bodies = BodyReader(settings.ingress_requests)
        self._running: set[Scope] = set()
        self._pages = 0

    async def serve(self, scope: "Scope", protocol: RsgiProtocol) -> None:
        self._running.add(scope)
        try:
            if scope.path.startswith(PREFIX):
                answer = await self._webhooks.answer(self._request(scope, protocol))
            else:
                answer = await self._show_page(scope)
            protocol.response_bytes(answer.status, answer.headers, answer.body)
        finally:
            self._running.discard(scope)

    async def _show_page(self, scope: "Scope") -> HttpResponse:
        """Return a page, or 503 if too many requests wait, because webhooks would wait too."""
        if self._pages >= PAGES_WAITING:
            headers = [
                ("content-type", "application/json"), ("retry-after", "1"), ("x-request-id", uuid4().hex),
            ]  # fmt: skip
            return HttpResponse(503, headers, b'{"error":"unavailable"}')
        self._pages += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, call_flask, self._flask, scope)
        finally:
            self._pages -= 1

    def _request(self, scope: "Scope", protocol: RsgiProtocol) -> HttpRequest:
        items = scope.headers.items()
        headers = dict(items)
        repeated = find_repeated_headers(items, headers) if len(headers) < len(items) else frozenset()
        stated = headers.get("content-length", "")

        def read() -> Awaitable[bytes]:
            return self._bodies.read(protocol, stated, find_sender)

        def find_sender() -> str:
            forwarded = [value for name, value in items if name == "x-forwarded-for"]
            return find_client(scope.client, forwarded, self._trusted)

        return HttpRequest(scope.method, scope.path, headers, read, repeated, find_sender)

    async def watch(self) -> None:
        """Cancel late bodies and keep connections free, until cancelled.

        One task checks all bodies, because a timer for each would cost more than reading most bodies.
        """
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self._bodies.cancel_late(loop.time())
            self._free_connections(loop.time())

    def _free_connections(self, now: float) -> None:
        """If too few connections are free, close the longest idle ones, then cancel the slowest bodies."""
        if count_descriptors() <= self._most:
            return  # the usual case, which costs one directory listing
        connections = list_connections(self._port)
        excess = len(connections) - self._most
        if excess <= 0:
            return
        busy = {scope.client for scope in self._running}
        idle = list_idle(connections, busy, LEAST_IDLE_SECONDS)
        closed = sum(shut_idle(connection) for connection in idle[:excess])
        self._bodies.cancel_slowest(excess - closed, now)


def find_repeated_headers(items: Sequence[tuple[str, str]], last: Mapping[str, str]) -> frozenset[str]:
    """Return the names in ``items`` with several different values. ``last`` is ``dict(items)``. Pure."""
    return frozenset(name for name, value in items if last[name] != value)


def call_flask(flask: Flask, scope: "Scope") -> HttpResponse:
    """Return the response of ``flask`` to a request without a body. https://peps.python.org/pep-3333/"""
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
    parts, status, headers = run_wsgi_app(flask.wsgi_app, environ, buffered=True)
    lower_case = [(name.lower(), value) for name, value in headers]
    return HttpResponse(int(status.partition(" ")[0]), lower_case, b"".join(parts))
