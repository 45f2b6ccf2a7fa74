"""An endpoint with OpenAI's interface: summaries are the first words, vectors count the words of a text."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from zlib import crc32

DIMENSIONS = 64


class AiServer:
    """``requests`` are the bodies by path; ``failures`` are statuses and bodies that come first."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any], str]] = []
        self.failures: list[tuple[int, dict[str, Any], dict[str, str]]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def count(self, path: str) -> int:
        return sum(found == path for found, _, _ in self.requests)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serve_ai() -> Iterator[AiServer]:
    """Yield a running endpoint."""
    server = AiServer()
    try:
        yield server
    finally:
        server.close()


def _answer(path: str, body: dict[str, Any]) -> dict[str, Any]:
    if path == "/v1/chat/completions":
        content = "In short: " + " ".join(body["messages"][-1]["content"].split()[:5])
        usage = {"prompt_tokens": 1000, "completion_tokens": 100}
        return {"choices": [{"message": {"role": "assistant", "content": content}}], "usage": usage}
    vectors = []
    for text in body["input"]:
        vector = [0.0] * DIMENSIONS
        for word in text.lower().replace(".", " ").split():
            vector[crc32(word.encode()) % DIMENSIONS] += 1.0
        vectors.append(vector)
    data = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    return {"data": data[::-1], "usage": {"prompt_tokens": 500, "total_tokens": 500}}


def _make_handler(server: AiServer) -> type[BaseHTTPRequestHandler]:
    class AiHandler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            server.requests.append((self.path, body, self.headers.get("authorization", "")))
            status, answer, headers = (
                server.failures.pop(0) if server.failures else (200, _answer(self.path, body), {})
            )
            data = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    return AiHandler
