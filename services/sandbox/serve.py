"""The provider sandbox as a process: ``python -m services.sandbox.serve --port 9000``. Loopback only.

Point ``SHOPIFY_API_BASE`` at ``http://127.0.0.1:9000/shopify``, ``STRIPE_API_BASE``, ``NOTION_API_BASE``,
``QUO_API_BASE`` and ``QUICKBOOKS_TIME_API_BASE`` at ``/stripe``, ``/notion``, ``/quo`` and
``/quickbooks-time`` there. State is in memory and ends with the process.

POST ``/_control`` takes a JSON object: ``{"reset": true}``, or one of these.

A ``shop`` (its domain) with any of: ``token`` (the only one accepted), ``oauth`` {client_id, client_secret,
refresh_token, access_token, expires_in, refresh_token_expires_in}, ``expire_tokens``, ``state`` (open,
frozen, locked, closed), ``bucket`` {maximum, restore_per_second, available}, ``levels``
[{inventory_item_id, location_id, available}], ``strict_stock`` (an unknown level is refused),
``deleted_items`` [ids], ``denied_fields`` and ``denied_topics`` [root fields and topics that the app lacks a
scope for], ``scopes`` [granted ones; without ``read_all_orders`` orders of more than 60 days are hidden],
``fail_bulk_next`` (bulk operations that fail), ``subscriptions`` [{topic, uri}], ``delete_subscriptions``
[topics or gids], and webhook bodies (the newest state of each object counts): ``orders``, ``refunds``,
``order_transactions``, ``fulfillments``,
``products``, ``inventory_items``, ``inventory_levels``, ``locations``, or ``webhooks`` [{topic, body}] of any
of these, deletions and ``shop/update``. ``fulfillment_orders`` and ``returns`` {id, order_id, status,
updated_at...} are whole objects, because their webhooks are partial. ``sales`` [{topic, body,
inventory_behaviour}] are orders and refunds that also change the shop's stock, except with ``bypass``.

A ``stripe_key`` with any of ``charges``, ``refunds``, ``disputes``, ``payouts``, ``payment_intents``,
``balance_transactions``, ``events`` (with their objects), ``objects`` {path: object}, ``fees`` {id:
minor units} and ``remove`` [ids].

A ``time_company`` (its OAuth client id) with any of ``client_secrets`` [valid ones], ``access_token``,
``refresh_token``, ``expires_in``, ``refuse_status`` (of a refused grant; 200 is a known quirk),
``expire_tokens``, ``revoke``, ``users``, ``jobcodes`` and ``timesheets`` (objects with an id; the other
fields have defaults), and ``delete_timesheets`` [ids].

A ``notion_key`` (it begins with ``ntn_``) with any of ``workspace`` (its name, at the first request),
``data_sources`` [{id, title, properties {name: type}}], ``shared`` [ids of data sources], ``limit`` and
``workspace_limit`` {requests, seconds}, ``index_delay_seconds`` (queries do not find newer pages), and
``every`` {overload, conflict, rate_limit, drop_write: n} (each so many-th request, or write, has the fault;
``drop_write`` loses the answer after the write). GET ``/_control/notion?key=`` lists pages with their texts.

A ``quo_key`` with any of ``phone_numbers``, ``conversations``, ``calls`` (also with ``recordings`` and
``transcripts``), ``messages`` and ``contacts``, each [objects with ids], and ``limit`` (requests a second).

All take faults: ``fail_next`` {status, count, headers}, ``drop_next`` (answers lost after the change was
applied), ``html_next``, ``stale_next`` and ``slow_seconds``. GET ``/_control/log?shop=`` lists every applied
change with its idempotency key, GET ``/_control`` the state.
"""

import socket
import sys
import time
from argparse import ArgumentParser, RawTextHelpFormatter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from services.core.clock import utc_now
from services.providers.delivery import parse_object
from services.sandbox.faults import ControlInvalid
from services.sandbox.process import run_server
from services.sandbox.state import SandboxReply, SandboxState

LONGEST_BODY_BYTES = 64 * 1024 * 1024


class SandboxServer(ThreadingHTTPServer):
    """One thread per connection. Port 0 picks a free one: ``server_port``."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, state: SandboxState | None = None) -> None:
        self.state = state or SandboxState()
        super().__init__(("127.0.0.1", port), _Handler)
        self.state.url = self.url

    @property
    def url(self) -> str:
        """The base address of ``/shopify``, ``/stripe`` and ``/_control``."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that close the connection; report other errors."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "ShopfleetSandbox"
    wbufsize = -1  # one packet per answer: with two, Nagle and delayed acknowledgement add 40 ms
    disable_nagle_algorithm = True
    timeout = 75
    server: SandboxServer

    def do_GET(self) -> None:
        path, query = self._target()
        state = self.server.state
        if path[:2] == ["notion", "v1"]:
            self._answer_notion()
        elif path[:1] == ["quo"]:
            version = self.headers.get("Quo-Api-Version", "")
            key = self.headers.get("Authorization", "")
            self._reply(state.answer_quo(key, path[1:], dict(query), version))
        elif path[:1] == ["stripe"]:
            key = self.headers.get("Authorization", "").removeprefix("Bearer ")
            self._reply(state.answer_stripe(key, "/" + "/".join(path[1:]), query))
        elif path == ["quickbooks-time", "api", "v1", "authorize"]:
            self._reply(state.authorise_time(dict(query)))
        elif path[:3] == ["quickbooks-time", "api", "v1"] and len(path) == 4:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            self._reply(state.answer_time(token, path[3], dict(query)))
        elif path[:1] == ["_control"] and (found := self._find_control(path[1:], dict(query))) is not None:
            self._answer(200, found)
        elif path[:1] == ["shopify"] and path[2:3] == ["bulk"] and len(path) == 4:
            data = state.find_bulk_file(path[1], path[3])
            if data is None:
                self._answer(404, {"errors": "the sandbox has no such file"})
            else:
                self._send(200, "application/jsonl", data, {})
        elif path == []:
            self._answer(200, {"sandbox": "provider sandbox, not for production"})
        else:
            self._answer(404, {"errors": f"the sandbox has no {self.path}"})

    def do_PATCH(self) -> None:
        self._answer_notion()

    def do_DELETE(self) -> None:
        self._answer_notion()

    def do_POST(self) -> None:
        path, _ = self._target()
        if path[:2] == ["notion", "v1"]:
            self._answer_notion()
            return
        request = self._read_body()
        if request is None:
            return
        state = self.server.state
        try:
            match path:
                case ["_control"]:
                    self._answer(200, state.control(request))
                case ["shopify", domain, "admin", "api", version, "graphql.json"]:
                    token = self.headers.get("X-Shopify-Access-Token", "")
                    self._reply(state.answer_shopify(domain, token, request, utc_now(), version))
                case ["shopify", domain, "admin", "oauth", "access_token"]:
                    self._reply(state.refresh_shopify_token(domain, request))
                case ["quickbooks-time", "api", "v1", "grant"]:
                    self._reply(state.grant_time(request))
                case _:
                    self._answer(404, {"errors": f"the sandbox has no {self.path}"})
        except (ControlInvalid, TypeError, ValueError, KeyError, AttributeError) as wrong:
            self._answer(400, {"errors": f"{type(wrong).__name__}: {wrong}"})

    def _answer_notion(self) -> None:
        data = self._read_bytes()
        if data is None:
            return
        path, query = self._target()
        if path[:2] != ["notion", "v1"]:
            self._answer(404, {"errors": f"the sandbox has no {self.path}"})
            return
        body = parse_object(data) if data else {}
        state, headers = self.server.state, {name.lower(): text for name, text in self.headers.items()}
        self._reply(state.answer_notion(self.command, path[2:], dict(query), body, headers))

    def _find_control(self, path: list[str], query: dict[str, str]) -> dict[str, Any] | None:
        state = self.server.state
        match path:
            case ["log"]:
                return state.log(query.get("shop", ""))
            case ["notion"]:
                return state.list_notion(query.get("key", ""))
            case [] | ["state"]:
                return state.state()
        return None

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        """Log nothing: a line per call would hide the fleet's own lines."""

    def _target(self) -> tuple[list[str], list[tuple[str, str]]]:
        parts = urlsplit(self.path)
        return [unquote(part) for part in parts.path.split("/") if part], parse_qsl(parts.query)

    def _read_bytes(self) -> bytes | None:
        """Return the body, or answer 413 and return None."""
        length = self.headers.get("Content-Length", "" if self.command == "POST" else "0")
        if not length.isdecimal() or int(length) > LONGEST_BODY_BYTES:
            self.close_connection = True
            self._answer(413, {"errors": f"Content-Length={length!r} should be 0 to {LONGEST_BODY_BYTES}"})
            return None
        return self.rfile.read(int(length))

    def _read_body(self) -> dict[str, Any] | None:
        """Return the JSON object or the form that was posted, or answer 400 or 413 and return None."""
        body = self._read_bytes()
        if body is None:
            return None
        if self.headers.get_content_type() == "application/x-www-form-urlencoded" and body[:1] != b"{":
            return dict(parse_qsl(body.decode("utf-8", "replace")))
        parsed = parse_object(body)
        if parsed is None:
            self._answer(400, {"errors": "the body should be a JSON object"})
        return parsed

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self._reply(SandboxReply(status, body))

    def _reply(self, reply: SandboxReply) -> None:
        time.sleep(reply.slow_seconds)
        if reply.is_lost:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if isinstance(reply.body, str):
            kind, data = "text/html", reply.body.encode()
        else:
            kind, data = "application/json", orjson.dumps(reply.body)
        self._send(reply.status, kind, data, reply.headers)

    def _send(self, status: int, kind: str, data: bytes, more: Mapping[str, str]) -> None:
        self.send_response(status)
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(data))}
        for name, value in (headers | dict(more)).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def main() -> int:
    parser = ArgumentParser(
        prog="python -m services.sandbox.serve", description=__doc__, formatter_class=RawTextHelpFormatter
    )
    parser.add_argument("--port", type=int, default=9000, help="0 picks a free one")
    parser.add_argument(
        "--catalogue", action="store_true", help="fill each shop with samples, in its currency and time zone"
    )
    options = parser.parse_args()
    state = None
    if options.catalogue:  # it needs the database, which costs memory
        from services.sandbox.sample_shop import find_sample_shop

        state = SandboxState(find_contents=find_sample_shop)
    return run_server("provider sandbox", options.port, lambda port: SandboxServer(port, state))


if __name__ == "__main__":
    raise SystemExit(main())
