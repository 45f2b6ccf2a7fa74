"""An HTTP service that stores requests and answers by a script."""

import contextlib
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, Self


class Request(NamedTuple):
    """A received request. Header names are lower case."""

    path: str
    headers: dict[str, str]
    body: bytes
    method: str = ""

    @property
    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)


class Answer(NamedTuple):
    """A scripted answer; ``status`` 0 stores the request and closes the connection."""

    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b"{}"


HANGS_UP = Answer(0)


class Web:
    """A real HTTP server on a free port. It answers with the next of ``answers``, or else with 200."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.received, self.may_answer = threading.Event(), threading.Event()
        self.may_answer.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.port = int(self._server.server_port)
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Refuse connections until ``start_again``."""
        self._server.shutdown()
        self._server.server_close()

    def start_again(self) -> None:
        """Listen on the same port as before."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.may_answer.set()
        self.stop()

    def take(self, request: Request) -> Answer:
        """Store ``request``; return its answer once ``may_answer`` is set."""
        self.requests.append(request)
        self.received.set()
        self.may_answer.wait(60)
        return self.answers.pop(0) if self.answers else Answer()


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_PATCH(self) -> None:
            self.do_POST()

        def do_DELETE(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = web.take(Request(self.path, headers, body, self.command))
            if not answer.status:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client may be gone
                self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
