"""Double of Sentry: receives envelopes over HTTP and returns their events.

The envelope format: https://develop.sentry.dev/sdk/data-model/envelopes/
"""

import gzip
import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class SentrySink:
    """A real HTTP server on a free port; ``dsn`` points at it."""

    def __init__(self) -> None:
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.raw: list[bytes] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = f"http://public@127.0.0.1:{self._server.server_port}/1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def take(self, envelope: bytes) -> None:
        """Unpack one envelope: a header line, then for each item a header line and its payload."""
        self.raw.append(envelope)
        _, rest = envelope.split(b"\n", 1)
        while rest:
            header_line, rest = rest.split(b"\n", 1)
            header = json.loads(header_line)
            payload, rest = rest[: header["length"]], rest[header["length"] + 1 :]
            if header["type"] == "event":
                self.events.put(json.loads(payload))

    def next_event(self) -> dict[str, Any]:
        """Return the next event, or fail after ten seconds."""
        return self.events.get(timeout=60)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
