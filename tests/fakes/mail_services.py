"""Graph, SendGrid and Resend as small real HTTP servers: they check requests and send planned answers.

``answers`` are used up from the front: (status, body, headers) instead of success. ``SILENT`` takes the
mail and hangs up.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

Answer = tuple[int, Any, dict[str, str]]
SILENT: Answer = (0, None, {})


class Service:
    """Base of the three. ``mails`` are the accepted mails; ``calls`` are all requests."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.mails: list[Any] = []
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.url = ""

    def take(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Return the answer to a call without a planned answer."""
        raise NotImplementedError

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        with self.lock:
            self.calls.append((path, headers))
            planned = self.answers.pop(0) if self.answers else None
        if planned is None or planned == SILENT:
            found = self.take(path, headers, body)
            return planned or found
        return planned

    @contextmanager
    def serving(self) -> Iterator["Service"]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with service.lock:
                    service.at_once += 1
                    service.most_at_once = max(service.most_at_once, service.at_once)
                status, answer, more = service.answer(self.path, headers, body)
                with service.lock:
                    service.at_once -= 1
                if not status:
                    self.close_connection = True
                    return
                content = b"" if answer is None else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"content-type": "application/json", **more}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

        with Server(("127.0.0.1", 0), Handler) as server:
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


class Graph(Service):
    """The token endpoint and ``sendMail`` of one mailbox. ``mails`` are parsed MIME."""

    SECRET = "graph~secret-value"

    def __init__(self, mailbox: str = "fleet@contoso.com") -> None:
        super().__init__()
        self.mailbox = mailbox
        self.tokens = 0
        self.sign_in_answer: Answer | None = None
        self.withdrawn: set[str] = set()

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if path.endswith("/oauth2/v2.0/token"):
            return self.sign_in(body)
        return super().answer(path, headers, body)

    def sign_in(self, body: bytes) -> Answer:
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        if self.sign_in_answer is not None:
            return self.sign_in_answer
        wrong = form.get("client_secret") != self.SECRET or form.get("grant_type") != "client_credentials"
        if wrong or not form.get("scope", "").endswith("/.default"):
            return aadsts("7000215")
        with self.lock:
            self.tokens += 1
            token = f"token-{self.tokens}"
        return 200, {"token_type": "Bearer", "expires_in": 3599, "access_token": token}, {}

    def take(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        import base64

        token = headers.get("authorization", "").removeprefix("Bearer ")
        if not token.startswith("token-") or token in self.withdrawn:
            return 401, {"error": {"code": "InvalidAuthenticationToken", "message": "expired"}}, {}
        if path != f"/v1.0/users/{self.mailbox.replace('@', '%40')}/sendMail":
            return 404, {"error": {"code": "ErrorInvalidUser", "message": "no such user"}}, {}
        if headers.get("content-type") != "text/plain":
            return 415, {"error": {"code": "UnsupportedMediaType", "message": "send MIME"}}, {}
        message = message_from_bytes(base64.b64decode(body, validate=True), policy=default)
        assert isinstance(message, EmailMessage)
        with self.lock:
            self.mails.append(message)
        return 202, None, {"request-id": f"request-{len(self.mails)}"}


def aadsts(number: str) -> Answer:
    """The sign-in service's refusal, in the documented form."""
    detail = f"AADSTS{number}: the description. Trace ID: 1 Timestamp: 2026-11-22 09:00:00Z"
    return 401, {"error": "invalid_client", "error_description": detail, "error_codes": [int(number)]}, {}


class SendGrid(Service):
    """``/v3/mail/send``: required fields as in SendGrid's OpenAPI. ``mails`` are the JSON bodies."""

    KEY = "SG.abcdefghijk.lmnopqrstuvwxyz0123456789"

    def take(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if headers.get("authorization") != f"Bearer {self.KEY}":
            return (
                401,
                {"errors": [{"message": "The provided authorization grant is invalid", "field": None}]},
                {},
            )
        if path == "/v3/scopes":
            return 200, {"scopes": ["mail.send", "alerts.read"]}, {}
        fields = json.loads(body)
        for name in ("personalizations", "from", "subject", "content"):
            if not fields.get(name):
                return 400, {"errors": [{"message": f"{name} must be provided", "field": name}]}, {}
        with self.lock:
            self.mails.append(fields)
        return 202, None, {"x-message-id": f"sg-{len(self.mails)}"}


class Resend(Service):
    """``/emails`` with its idempotency keys. ``mails`` are the JSON bodies, once for each key."""

    KEY = "re_abcdefgh_ijklmnopqrstuvwxyz"

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, tuple[bytes, str]] = {}

    def take(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if "user-agent" not in headers:
            return 403, {"statusCode": 403, "name": "1010", "message": "no User-Agent"}, {}
        if headers.get("authorization") != f"Bearer {self.KEY}":
            return 403, {"statusCode": 403, "name": "invalid_api_key", "message": "API key is invalid"}, {}
        if path == "/domains":
            return 200, {"object": "list", "data": []}, {}
        key = headers["idempotency-key"]
        with self.lock:
            if key in self.keys:
                known, found = self.keys[key]
                if known != body:
                    return (
                        409,
                        {"statusCode": 409, "name": "invalid_idempotent_request", "message": "used"},
                        {},
                    )
                return 200, {"id": found}, {}
            self.mails.append(json.loads(body))
            self.keys[key] = (body, f"resend-{len(self.mails)}")
        return 200, {"id": self.keys[key][1]}, {}
