"""Mail servers for tests, on free ports: one that keeps what arrives, one that follows a script."""

import email
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller


class Sink:
    """Keeps what arrives; ``answer`` is what it says to the text."""

    def __init__(self, answer: str = "250 OK") -> None:
        self.mails: list[EmailMessage] = []
        self.answer = answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.mails.append(email.message_from_bytes(envelope.content, policy=default))
        return self.answer


class AnyPort(Controller):
    """A controller on a free port: the socket it got says which one that is."""

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.server.sockets[0].getsockname()  # type: ignore[union-attr]
        return host, port

    def _trigger_server(self) -> None:
        with socket.create_connection(self.address, timeout=5) as first:
            first.recv(4)


@contextmanager
def smtp_server(sink: Sink) -> Iterator[str]:
    controller = AnyPort(sink, hostname="127.0.0.1", port=0)
    controller.start()
    try:
        yield f"smtp://127.0.0.1:{controller.address[1]}"
    finally:
        controller.stop()


@contextmanager
def scripted_server(*answers: str) -> Iterator[str]:
    """Says one of ``answers`` to the greeting and to each command, then hangs up."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as heard:
            for answer in answers:
                connection.sendall(answer.encode() + b"\r\n")
                heard.readline()
            if answers[-1].startswith("354"):
                while heard.readline().strip() != b".":
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"smtp://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)
