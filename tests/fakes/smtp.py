"""Mail servers for tests, on free ports: one stores the mails, one has scripted replies."""

import email
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller

CLOSE = "CLOSE"
"""An answer: close the connection without a reply."""
HANG = "HANG"
"""An answer: no reply, and the connection stays open."""
ENDLESS = "ENDLESS"
"""An answer: a reply with endless lines."""


class Sink:
    """Stores the mails; ``answer`` is the reply to the text."""

    def __init__(self, answer: str = "250 OK") -> None:
        self.mails: list[EmailMessage] = []
        self.answer = answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.mails.append(email.message_from_bytes(envelope.content, policy=default))  # type: ignore[arg-type]
        return self.answer


class AnyPort(Controller):
    """A controller on a free port, which its socket has."""

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.server.sockets[0].getsockname()  # type: ignore[union-attr]
        return host, port

    def _trigger_server(self) -> None:
        with socket.create_connection(self.address, timeout=5) as first:
            first.recv(4)


@contextmanager
def smtp_server(sink: Sink, **options: Any) -> Iterator[str]:
    """Serve ``sink`` with aiosmtpd; ``options`` are its own (authenticator, tls_context...)."""
    controller = AnyPort(sink, hostname="127.0.0.1", port=0, **options)
    controller.start()
    try:
        yield f"smtp://127.0.0.1:{controller.address[1]}"
    finally:
        controller.stop()


class Scripted:
    """A server that replies ``OK`` unless ``answers`` has another reply for a verb.

    ``answers[verb]`` is a list, used from the front; ``GREETING`` and ``TEXT`` count as verbs.
    """

    def __init__(self, answers: dict[str, list[str]] | None = None, *, pipelining: bool = True) -> None:
        self.answers = answers or {}
        self.pipelining = pipelining
        self.mails: list[bytes] = []
        self.connections = 0
        self.verbs: list[str] = []
        self.bursts: list[list[str]] = []
        """The verbs in each packet, as one read returns it."""
        self.url = ""
        self.over = threading.Event()
        self.lock = threading.Lock()

    def next_answer(self, verb: str, usual: str) -> str:
        with self.lock:
            waiting = self.answers.get(verb)
            return waiting.pop(0) if waiting else usual

    @contextmanager
    def serving(self) -> Iterator["Scripted"]:
        script = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with script.lock:
                    script.connections += 1
                with suppress(OSError):
                    _Talk(script, self.request).run()

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 128

        with Server(("127.0.0.1", 0), Handler) as server:
            self.url = f"smtp://127.0.0.1:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield self
            finally:
                self.over.set()
                server.shutdown()
                thread.join()


class _Talk:
    def __init__(self, script: Scripted, line: socket.socket) -> None:
        self.script, self.line = script, line
        self.waiting = b""
        self.has_recipient = False

    def run(self) -> None:
        if not self.say("GREETING", "220 scripted"):
            return
        while (command := self.read_line()) is not None:
            verb = command[:4].upper()
            with self.script.lock:
                self.script.verbs.append(verb)
            usual = {"DATA": "354 go on", "QUIT": "221 bye", "EHLO": self.ehlo()}.get(verb, "250 OK")
            answer = self.say(verb, usual)
            if not answer or verb == "QUIT":
                return
            if verb in ("MAIL", "RCPT", "RSET"):
                self.has_recipient = verb == "RCPT" and answer.startswith("250")
            if verb == "DATA" and answer.startswith("354") and not self.take_text():
                return

    def ehlo(self) -> str:
        return "250-scripted\r\n250-PIPELINING\r\n250 8BITMIME" if self.script.pipelining else "250 scripted"

    def take_text(self) -> bool:
        while b"\r\n.\r\n" not in self.waiting and self.waiting != b".\r\n":
            if not self.read():
                return False
        text, _, self.waiting = (b"\r\n" + self.waiting).partition(b"\r\n.\r\n")
        if not self.has_recipient:
            return self.answer("554 no valid recipients")
        answer = self.script.next_answer("TEXT", "250 kept")
        if answer.startswith("250") or answer in (CLOSE, HANG):
            self.script.mails.append(text.replace(b"\r\n..", b"\r\n."))
        return self.answer(answer)

    def say(self, verb: str, usual: str) -> str:
        answer = self.script.next_answer(verb, usual)
        return answer if self.answer(answer) else ""

    def answer(self, answer: str) -> bool:
        if answer == HANG:
            self.script.over.wait(60)
            return False
        if answer == CLOSE:
            return False
        while answer == ENDLESS:
            self.line.sendall(b"250-more\r\n")
        self.line.sendall(answer.encode() + b"\r\n")
        return not answer.startswith("421")

    def read_line(self) -> str | None:
        while b"\r\n" not in self.waiting:
            if not self.read():
                return None
        line, _, self.waiting = self.waiting.partition(b"\r\n")
        return line.decode()

    def read(self) -> bool:
        received = self.line.recv(65536)
        self.waiting += received
        if received:
            verbs = [line[:4].decode("latin-1") for line in received.split(b"\r\n") if line]
            with self.script.lock:
                self.script.bursts.append(verbs)
        return bool(received)
