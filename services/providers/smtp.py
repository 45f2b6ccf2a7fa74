"""Mail through an SMTP server, over connections that are kept open and grow in number as they are needed."""

import contextlib
import threading
import time

from services.core.errors import RetryLater
from services.providers.mime import render_mime
from services.providers.outgoing_mail import OutgoingMail, ascii_address, parse_sender
from services.providers.smtp_session import TIMEOUT_SECONDS, ConnectionLost, SmtpSession, TooManyConnections
from services.providers.smtp_url import SmtpServer

IDLE_SECONDS = 60.0
"""A connection unused for this long is closed when it is met: many servers hang up after five minutes."""


class SmtpTransport:
    """Sends through one server. Safe for many threads; each has a connection to itself while it sends."""

    def __init__(
        self, server: SmtpServer, *, connections: int = 32, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._server, self._limit, self._timeout_seconds = server, max(1, connections), timeout_seconds
        self._idle: list[tuple[float, SmtpSession]] = []
        self._open = 0
        self._closed = False
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        return f"SmtpTransport({self._server!r}, open={self._open})"

    def send(self, letter: OutgoingMail) -> str:
        """The server has taken charge of ``letter``; return what it said to the text.

        SMTP knows no idempotency. A connection that broke before the text was handed over is replaced
        and the mail tried once more on a new one; any other failure is the caller's.
        Source: RFC 5321, 4.2.1 (4yz: try again; 5yz: do not) and 4.5.4.
        """
        sender, recipient = parse_sender(letter.sender)[1], ascii_address(letter.recipient)
        content = render_mime(letter)
        while True:
            session = self._take()
            was_kept = not session.is_fresh
            try:
                return session.send(sender, recipient, content)
            except ConnectionLost as broken:
                if not was_kept:
                    raise RetryLater("smtp.unavailable", f"the mail server hung up: {broken}") from broken
                self._drop_idle()  # those that were kept as long are likely as dead
            finally:
                self._give_back(session) if session.is_usable and not self._closed else self._drop(session)

    def close(self) -> None:
        """Hang up, on a connection that is in use as soon as its mail is through."""
        self._closed = True
        self._drop_idle()

    def _drop_idle(self) -> None:
        with self._changed:
            idle, self._idle = self._idle, []
            self._open -= len(idle)
            self._changed.notify_all()
        for _, session in idle:
            session.close()

    def _take(self) -> SmtpSession:
        """Return a connection for this thread alone: a kept one, else a new one, else the next free one."""
        while True:
            with self._changed:
                while not self._idle and self._open >= self._limit:
                    self._changed.wait()
                if self._idle:
                    since, session = self._idle.pop()
                else:
                    since, session = 0.0, None
                    self._open += 1
            if session is None:
                session = self._connect()
                if session is not None:
                    return session
            elif time.monotonic() - since < IDLE_SECONDS and session.is_quiet():
                return session
            else:
                self._drop(session)

    def _connect(self) -> SmtpSession | None:
        """Return a new connection, or None where the server has enough of ours: fewer it is from now on."""
        try:
            return SmtpSession(self._server, timeout_seconds=self._timeout_seconds)
        except TooManyConnections:
            self._forget_one()
            with self._changed:
                if not self._open:
                    raise
                self._limit = max(1, min(self._limit, self._open))
            return None
        except BaseException:
            self._forget_one()
            raise

    def _give_back(self, session: SmtpSession) -> None:
        with self._changed:
            self._idle.append((time.monotonic(), session))
            self._changed.notify()

    def _drop(self, session: SmtpSession) -> None:
        self._forget_one()
        with contextlib.suppress(OSError):
            session.close(politely=False)

    def _forget_one(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify()
