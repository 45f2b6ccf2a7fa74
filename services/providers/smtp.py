"""Sends mail through an SMTP server, over a pool of kept connections that grows as needed.

With PIPELINING (RFC 2920) a mail takes two round trips: the envelope with DATA, then the text. If the
connection breaks before the text's last dot, nothing has happened. Without a reply after it, the mail may be
delivered. ``smtplib.sendmail`` does not distinguish these and does not pipeline.
"""

import contextlib
import select
import smtplib
import socket
import ssl
import threading
import time
from typing import NamedTuple

from services.core.errors import Misconfigured, OutcomeUnknown, Refused, RetryLater, WorkError
from services.providers.mime import render_mime
from services.providers.outgoing_mail import MailTransport, OutgoingMail, ascii_address, parse_sender
from services.providers.smtp_client import SmtpClient, SmtpSslClient, describe_unreachable, find_host_name
from services.providers.smtp_url import SmtpServer

IDLE_SECONDS = 60.0
"""A connection idle for this long is not used again: many servers close it after five minutes."""
TIMEOUT_SECONDS = 20.0
TEXT_TIMEOUT_SECONDS = 60.0
"""For the reply to the text, which a server may scan first (RFC 5321, 4.5.3.2.6, recommends 10 minutes)."""

_BUSY_CODES = frozenset({421, 432, 454})


class SmtpTransport(MailTransport):
    """Sends through one server. Safe for many threads: each uses its own connection while it sends."""

    def __init__(
        self, server: SmtpServer, *, connections: int = 32, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._server, self._limit, self._timeout_seconds = server, max(1, connections), timeout_seconds
        self._idle: list[tuple[float, SmtpSession]] = []
        self._open = 0
        self._closed = False
        self._changed = threading.Condition()

    def send(self, mail: OutgoingMail) -> str:
        """Send ``mail``; return the server's reply to the text.

        If a kept connection broke before the text was sent, the mail is tried once more on a new one; any
        other failure is raised. Source: RFC 5321, 4.2.1 (4yz: try again; 5yz: do not) and 4.5.4.
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
                    detail = f"the mail server closed the connection: {broken}"
                    raise RetryLater("smtp.unavailable", detail) from broken
                self._drop_idle()  # the other idle ones are probably dead too
            finally:
                if session.is_usable and not self._closed:
                    with self._changed:
                        self._idle.append((time.monotonic(), session))
                        self._changed.notify()
                else:
                    self._drop(session)

    def check(self) -> str:
        """Connect and sign in; return the server."""
        self._drop(self._take(), with_quit=True)
        how = f"signs in {self._server.user}" if self._server.user else "answers without a sign-in"
        return f"{self._server.host}:{self._server.port} {how}"

    def close(self) -> None:
        """Close the idle connections now, and each used one after its mail."""
        self._closed = True
        self._drop_idle()

    def _take(self) -> "SmtpSession":
        """Return an idle connection, else a new one (a refusal lowers the limit), else wait for one."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._idle or self._open < self._limit)
                since, session = self._idle.pop() if self._idle else (0.0, None)
                self._open += session is None
            if session is None:
                try:
                    return SmtpSession(self._server, self._timeout_seconds)
                except BaseException as fault:
                    self._drop(None)
                    with self._changed:
                        if not isinstance(fault, TooManyConnections) or not self._open:
                            raise
                        self._limit = min(self._limit, self._open)
            elif time.monotonic() - since < IDLE_SECONDS and session.is_quiet():
                return session
            else:
                self._drop(session)

    def _drop_idle(self) -> None:
        with self._changed:
            idle, self._idle = self._idle, []
        for _, session in idle:
            self._drop(session, with_quit=True)

    def _drop(self, session: "SmtpSession | None", *, with_quit: bool = False) -> None:
        if session is not None:
            session.close(with_quit=with_quit)
        with self._changed:
            self._open -= 1
            self._changed.notify()


class ConnectionLost(Exception):
    """The connection broke before the text was sent: the mail was not accepted."""


class TooManyConnections(RetryLater):
    """The server accepts no further connection now."""


class SmtpReply(NamedTuple):
    """A server's reply."""

    code: int
    message: bytes

    @property
    def text(self) -> str:
        return self.message.decode("utf-8", "replace").replace("\n", " ")

    def __str__(self) -> str:
        return f"{self.code} {self.text}"[:300]


class SmtpSession:
    """An open, signed-in connection for one thread at a time. Raises a ``WorkError`` if it cannot open."""

    def __init__(self, server: SmtpServer, timeout_seconds: float) -> None:
        self._client = _connect(server, timeout_seconds)
        assert self._client.sock is not None  # noqa: S101 - it is connected
        self._socket: socket.socket = self._client.sock
        self._timeout_seconds = timeout_seconds
        self.is_fresh = True
        self.is_usable = True
        """Whether another mail may follow: a closed connection or an unknown outcome ends a session."""

    def is_quiet(self) -> bool:
        """Return whether no data is unread: a server may have sent 421 since the last mail."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def send(self, sender: str, recipient: str, content: bytes) -> str:
        """Send ``content``; return the reply's text, which often contains the server's id of the mail.

        Raises ``ConnectionLost`` if the connection broke before the text was sent, ``OutcomeUnknown`` if it
        broke after, and otherwise the error for the server's reply.
        """
        self.is_usable = False
        self._send_envelope(sender, recipient)
        self._write(_escape_dots(content))
        try:
            longer = min(TEXT_TIMEOUT_SECONDS, 3 * self._timeout_seconds)
            self._socket.settimeout(max(self._timeout_seconds, longer))
            reply = self._read()
            self._socket.settimeout(self._timeout_seconds)
        except (OSError, ConnectionLost) as fault:
            detail = f"the text was sent, then the connection broke ({fault}): it may be delivered"
            raise OutcomeUnknown("smtp.no_answer", detail) from fault
        self.is_fresh, self.is_usable = False, reply.code != 421
        if reply.code != 250:
            raise _make_reply_error("text", reply)
        return reply.text

    def close(self, *, with_quit: bool) -> None:
        """Close the connection. A failure here does not matter: accepted mails stay accepted."""
        with contextlib.suppress(OSError, ConnectionLost):
            if with_quit:
                self._write(b"QUIT\r\n")
        with contextlib.suppress(OSError):
            self._client.close()

    def _send_envelope(self, sender: str, recipient: str) -> None:
        """Send all commands before the text. For a bad reply raise its error, after a reset if possible."""
        commands = {"sender": f"MAIL FROM:<{sender}>", "recipient": f"RCPT TO:<{recipient}>", "data": "DATA"}
        lines = [f"{command}\r\n".encode("ascii") for command in commands.values()]
        is_pipelining = self._client.has_extn("pipelining")
        if is_pipelining:
            self._write(b"".join(lines))
        bad: tuple[str, SmtpReply] | None = None
        for step, line in zip(commands, lines, strict=True):
            if not is_pipelining:
                self._write(line)
            reply = self._read()
            if reply.code not in ((354,) if step == "data" else (250, 251)):
                bad = bad or (step, reply)
                if not is_pipelining:
                    break
        if bad is None:
            return
        if bad[1].code == 421:
            raise ConnectionLost(str(bad[1]))
        with contextlib.suppress(ConnectionLost):
            if reply.code == 354:
                # RFC 2920, 3.1: DATA was accepted without a recipient; an empty text ends it.
                self._write(b".\r\n")
                self._read()
            self._write(b"RSET\r\n")
            self.is_usable = self._read().code == 250
            self.is_fresh = False
        raise _make_reply_error(*bad)

    def _write(self, content: bytes) -> None:
        try:
            self._socket.sendall(content)
        except OSError as fault:
            # A text that is cut off lacks its last dot, so it is not a mail.
            raise ConnectionLost(type(fault).__name__) from fault

    def _read(self) -> SmtpReply:
        try:
            reply = SmtpReply(*self._client.getreply())
        except smtplib.SMTPException as fault:
            raise ConnectionLost(type(fault.__context__ or fault).__name__) from fault
        if reply.code > 0:
            return reply
        raise ConnectionLost("the reply is not SMTP")


def _escape_dots(content: bytes) -> bytes:
    """Return ``content`` with dots at line starts doubled, and the final dot (RFC 5321, 4.5.2)."""
    body = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
    return body + (b".\r\n" if body.endswith(b"\r\n") else b"\r\n.\r\n")


def _connect(server: SmtpServer, timeout_seconds: float) -> SmtpClient:
    client: SmtpClient | None = None
    address = (server.host, server.port, find_host_name())
    try:
        if server.scheme == "smtps":
            client = SmtpSslClient(*address, timeout=timeout_seconds, context=ssl.create_default_context())
        else:
            client = SmtpClient(*address, timeout=timeout_seconds)
        client.ehlo_or_helo_if_needed()
        if server.scheme == "smtp+starttls":
            client.starttls(context=ssl.create_default_context())
            client.ehlo_or_helo_if_needed()
        if server.user:
            client.login(server.user, server.password)
    except (OSError, UnicodeError) as fault:
        if client is not None:
            client.close()
        where = f"{server.host}:{server.port}"
        raise _make_connect_error(fault, where, timeout_seconds) from fault
    return client


def _make_connect_error(fault: Exception, where: str, seconds: float) -> WorkError:  # noqa: PLR0911 - a table
    match fault:
        case smtplib.SMTPAuthenticationError(smtp_code=code) if code not in _BUSY_CODES:
            return Misconfigured("smtp.credentials_refused", f"the server refuses user or password: {code}")
        case smtplib.SMTPResponseException(smtp_code=code, smtp_error=message):
            reply = str(SmtpReply(code, message if isinstance(message, bytes) else message.encode()))
            if code in _BUSY_CODES:
                return TooManyConnections("smtp.busy", reply)
            if code >= 500:
                return Misconfigured("smtp.refuses_us", reply)
            return RetryLater("smtp.unavailable", reply)
        case smtplib.SMTPNotSupportedError():
            return Misconfigured(
                "smtp.not_offered",
                f"{str(fault)[:200]}: change SMTP_URL to what the server offers (smtp, smtp+starttls, smtps)",
            )
        case ssl.SSLCertVerificationError(verify_message=why):
            return Misconfigured("smtp.certificate_wrong", f"the mail server's certificate: {why}")
        case ssl.SSLError(
            reason="WRONG_VERSION_NUMBER" | "UNKNOWN_PROTOCOL" | "RECORD_LAYER_FAILURE" as reason
        ):
            return Misconfigured(
                "smtp.no_tls", f"no TLS on this port ({reason}): smtps is port 465, smtp+starttls is 587"
            )
        case socket.gaierror(errno=socket.EAI_NONAME):
            return RetryLater("smtp.host_unknown", describe_unreachable(fault, where, seconds))
    return RetryLater("smtp.unavailable", describe_unreachable(fault, where, seconds))


def _make_reply_error(step: str, bad: SmtpReply) -> WorkError:
    if bad.code < 500:
        return RetryLater("smtp.unavailable", str(bad))
    if step == "text":
        return Refused("smtp.refused", str(bad))
    if step == "recipient":
        return Refused("smtp.recipient_refused", str(bad))
    if bad.code == 552:
        return Refused("smtp.too_large", str(bad))
    return Misconfigured("smtp.sender_refused", f"{bad}: check MAIL_FROM, and user and password in SMTP_URL")
