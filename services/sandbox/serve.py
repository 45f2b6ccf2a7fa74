"""The provider sandbox as a process: ``python -m services.sandbox.serve --port 9000``. Loopback only.

Point ``SHOPIFY_API_BASE`` at ``http://127.0.0.1:9000/shopify`` and ``STRIPE_API_BASE`` at
``http://127.0.0.1:9000/stripe``. State is in memory and ends with the process.

POST ``/_control`` takes a JSON object: ``{"reset": true}``, or a ``shop`` (its domain) with any of ``token``,
``bucket`` {maximum, restore_per_second, available} and ``levels`` [{inventory_item_id, location_id,
available}], or a ``stripe_key`` with ``charges`` and ``forget``; either with faults: ``fail_next`` {status,
count}, ``drop_next`` (answers lost after the change was applied) and ``slow_seconds``. GET
``/_control/log?shop=`` lists every applied change with its idempotency key, GET ``/_control`` the state.
"""

import contextlib
import signal
import socket
import sys
import time
from argparse import ArgumentParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson

from services.core.clock import utc_now
from services.sandbox.faults import ControlInvalid
from services.sandbox.world import World

LONGEST_BODY_BYTES = 5 * 1024 * 1024


class SandboxServer(ThreadingHTTPServer):
    """One thread a connection. Port 0 picks a free one, which ``server_port`` then names."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, world: World | None = None) -> None:
        self.world = world or World()
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def url(self) -> str:
        """The address that callers put before ``/shopify``, ``/stripe`` and ``/_control``."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about callers that hang up; speak of anything else."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "ShopfleetSandbox"
    wbufsize = -1  # one packet an answer: with two, Nagle and delayed acknowledgement add 40 ms
    disable_nagle_algorithm = True
    timeout = 75
    server: SandboxServer

    def do_GET(self) -> None:
        path, query = self._target()
        world = self.server.world
        if path == ["stripe", "v1", "charges"]:
            key = self.headers.get("Authorization", "").removeprefix("Bearer ")
            self._reply(*world.ask_stripe(key, query))
        elif path == ["_control", "log"]:
            self._reply(200, world.log(query.get("shop", "")))
        elif path in (["_control"], ["_control", "state"]):
            self._reply(200, world.state())
        elif path == []:
            self._reply(200, {"sandbox": "provider sandbox, not for production"})
        else:
            self._reply(404, {"errors": f"the sandbox has no {self.path}"})

    def do_POST(self) -> None:
        request = self._read_json()
        if request is None:
            return
        path, _ = self._target()
        is_graphql = len(path) == 6 and path[2:4] == ["admin", "api"] and path[5] == "graphql.json"
        try:
            if path == ["_control"]:
                self._reply(200, self.server.world.control(request))
            elif is_graphql and path[0] == "shopify":
                token = self.headers.get("X-Shopify-Access-Token", "")
                self._reply(*self.server.world.ask_shopify(path[1], token, request, utc_now()))
            else:
                self._reply(404, {"errors": f"the sandbox has no {self.path}"})
        except (ControlInvalid, TypeError, ValueError, KeyError, AttributeError) as wrong:
            self._reply(400, {"errors": f"{type(wrong).__name__}: {wrong}"})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        """Stay silent: a line per call would drown the fleet's own log."""

    def _target(self) -> tuple[list[str], dict[str, str]]:
        parts = urlsplit(self.path)
        return [part for part in parts.path.split("/") if part], dict(parse_qsl(parts.query))

    def _read_json(self) -> dict[str, Any] | None:
        """Return the JSON object that was posted, or answer 400 or 413 and return None."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LONGEST_BODY_BYTES:
            self.close_connection = True
            self._reply(413, {"errors": f"Content-Length={length!r} should be 0 to {LONGEST_BODY_BYTES}"})
            return None
        try:
            parsed = orjson.loads(self.rfile.read(int(length)))
        except orjson.JSONDecodeError:
            parsed = None
        if not isinstance(parsed, dict):
            self._reply(400, {"errors": "the body should be a JSON object"})
            return None
        return parsed

    def _reply(
        self, status: int, body: dict[str, Any], slow_seconds: float = 0.0, is_lost: bool = False
    ) -> None:
        if slow_seconds:
            time.sleep(slow_seconds)
        if is_lost:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        data = orjson.dumps(body)
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        if status == 429:
            self.send_header("Retry-After", "2.0")
        self.end_headers()
        self.wfile.write(data)


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted; return 0. A taken port ends it with a message that names the port."""
    parser = ArgumentParser(prog="python -m services.sandbox.serve", description=__doc__)
    parser.add_argument("--port", type=int, default=9000, help="0 picks a free one")
    port = parser.parse_args(arguments).port
    try:
        server = SandboxServer(port)
    except OSError as error:
        sys.stderr.write(f"sandbox: port {port} on 127.0.0.1 cannot be used: {error.strerror}\n")
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), server:
        sys.stderr.write(f"SANDBOX - not for production: providers stand-in on {server.url}\n")
        sys.stderr.flush()
        server.serve_forever(poll_interval=0.2)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
