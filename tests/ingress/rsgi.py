"""Double of granian in this process: an event loop, and requests without a network."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from services.core.settings import Settings
from services.ingress.app import Ingress

_loops: dict[int, asyncio.AbstractEventLoop] = {}


@contextmanager
def running(settings: Settings) -> Iterator[Ingress]:
    """Run an ingress on its own event loop, and close it as granian does."""
    app, loop = Ingress(settings), asyncio.new_event_loop()
    app.__rsgi_init__(loop)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    _loops[id(app)] = loop
    try:
        yield app
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        app.__rsgi_del__(loop)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@dataclass(frozen=True)
class Reply:
    """A response."""

    status_code: int
    headers: dict[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class Headers(list[tuple[str, str]]):
    """Headers as in granian: a pair for each one, in order."""

    def items(self) -> "Headers":
        return self


class Scope(SimpleNamespace):
    """Request scope as in granian, a new one for each request."""

    __hash__ = object.__hash__


class RsgiProtocol:
    """Reads the body and takes the response of one request."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks
        self.reply: Reply | None = None
        self.read_bytes = 0

    async def __call__(self) -> bytes:
        self.read_bytes = sum(map(len, self._chunks))
        return b"".join(self._chunks)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            self.read_bytes += len(chunk)
            yield chunk

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        assert self.reply is None, "answered twice"
        self.reply = Reply(status, {name.title(): value for name, value in headers}, body)


class Client:
    """Sends requests to an ingress, from any thread."""

    def __init__(self, app: Ingress) -> None:
        self._app, self._loop = app, _loops[id(app)]

    def post(
        self,
        path: str,
        *,
        data: bytes = b"",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> Reply:
        return self.open(path, method="POST", data=data, headers=headers)

    def open(
        self,
        path: str,
        *,
        method: str,
        data: bytes = b"",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> Reply:
        pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
        sent = [("content-length", str(len(data))), *((name.lower(), value) for name, value in pairs)]
        return self.send(path, RsgiProtocol([data]), sent, method=method)

    def send(
        self, path: str, protocol: RsgiProtocol, headers: Iterable[tuple[str, str]], *, method: str = "POST"
    ) -> Reply:
        scope = Scope(
            method=method,
            path=path,
            headers=Headers(headers),
            query_string="",
            server="127.0.0.1:8000",
            client="192.0.2.9:4000",
            scheme="http",
            http_version="1.1",
        )
        sent = asyncio.run_coroutine_threadsafe(self._app.__rsgi__(scope, protocol), self._loop)  # type: ignore[arg-type]
        sent.result(60)
        assert protocol.reply is not None
        return protocol.reply
