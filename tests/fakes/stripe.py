"""Stripe's API as an HTTP server: lists in pages, newest first, and single objects."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

Failure = tuple[int, dict[str, str], dict[str, Any]]


class StripeApi:
    """A real HTTP server on a free port. ``lists`` holds objects by kind, ``objects`` by path."""

    def __init__(self, key: str = "rk_test_1") -> None:
        self.key = key
        self.lists: dict[str, list[dict[str, Any]]] = {}
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.headers: list[dict[str, str]] = []
        self.failures: list[Failure] = []
        self.before: Callable[[str], None] = lambda path: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, query: dict[str, str], key: str) -> Failure:
        """Return (status, headers, body) as Stripe would."""
        self.requests.append((path, query))
        self.before(path)
        if self.failures:
            return self.failures.pop(0)
        if key != f"Bearer {self.key}":
            return 401, {}, _error("invalid_request_error", None, f"Invalid API Key provided: {key}")
        if path in self.objects:
            return 200, {}, self.objects[path]
        kind = path.removeprefix("/v1/")
        if kind not in self.lists:
            return 404, {}, _error("invalid_request_error", "resource_missing", f"No such thing: {path}")
        return 200, {}, self._page(kind, query)

    def _page(self, kind: str, query: dict[str, str]) -> dict[str, Any]:
        found = [one for one in self.lists[kind] if _is_wanted(one, query)]
        found.sort(key=lambda one: (-one["created"], one["id"]))
        ids = [one["id"] for one in found]
        start = ids.index(query["starting_after"]) + 1 if "starting_after" in query else 0
        limit = int(query.get("limit", 10))
        return {
            "object": "list",
            "url": f"/v1/{kind}",
            "data": found[start : start + limit],
            "has_more": len(found) > start + limit,
        }


def _is_wanted(one: dict[str, Any], query: dict[str, str]) -> bool:
    if one["created"] < int(query.get("created[gte]", 0)):
        return False
    if one["created"] >= int(query.get("created[lt]", 2**40)):
        return False
    return "payout" not in query or one.get("in_payout") == query["payout"]


def _error(kind: str, code: str | None, message: str) -> dict[str, Any]:
    return {"error": {"type": kind, "code": code, "message": message}}


def _handler(api: StripeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            api.headers.append({name.lower(): value for name, value in self.headers.items()})
            status, headers, body = api.answer(
                parts.path, dict(parse_qsl(parts.query)), self.headers.get("Authorization", "")
            )
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {
                "Content-Length": str(len(content)),
                "Request-Id": "req_1",
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
