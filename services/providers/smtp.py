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
"""A connection idle for this long is not used again: many servers close it after five minutes."""


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

    def send(self, mail: OutgoingMail) -> str:
        """Send ``mail``; return the server's reply to the text.

        SMTP has no idempotency. If a kept connection broke before the text was sent, the mail is tried once
        more on a new one; any other failure is raised.
        Source: RFC 5321, 4.2.1 (4yz: try again; 5yz: do not) and 4.5.4.
        """
        sender, recipient = parse_sender(mail.sender)[1], ascii_address(mail.recipient)
        content = render_mime(mail)
        while True:
            session = self._take()
            was_idle = not session.is_fresh
            try:
                return session.send(sender, recipient, content)
            except ConnectionLost as broken:
                if not was_idle:
                    raise RetryLater(
                        "smtp.unavailable", f"the mail server closed the connection: {broken}"
                    ) from broken
                self._drop_idle()  # the other idle ones are probably dead too
            finally:
                self._give_back(session) if session.is_usable and not self._closed else self._drop(session)

    def close(self) -> None:
        """Close the connections; one in use after its mail."""
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
        """Return a connection for this thread alone: an idle one, else a new one, else the next free one."""
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
        """Return a new connection, or None if the server refuses more; then the limit is lowered."""
        try:
            return SmtpSession(self._server, timeout_seconds=self._timeout_seconds)
        except TooManyConnections:
            self._count_closed()
            with self._changed:
                if not self._open:
                    raise
                self._limit = max(1, min(self._limit, self._open))
            return None
        except BaseException:
            self._count_closed()
            raise

    def _give_back(self, session: SmtpSession) -> None:
        with self._changed:
            self._idle.append((time.monotonic(), session))
            self._changed.notify()

    def _drop(self, session: SmtpSession) -> None:
        self._count_closed()
        with contextlib.suppress(OSError):
            session.close(politely=False)

    def _count_closed(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify()
