"""One SMTP session, kept open over many mails.

With PIPELINING (RFC 2920) a mail takes two round trips: the envelope with DATA, then the text. What a failure
means depends on how far the mail came: before the text's last dot nothing has happened; after it, without an
answer, the mail may be delivered. ``smtplib.sendmail`` does not tell these apart and does not pipeline, so
only connecting, TLS and sign-in are smtplib's.
"""

import contextlib
import select
import smtplib
import socket
import ssl
from functools import cache
from typing import BinaryIO, NamedTuple

from services.core.errors import Misconfigured, OutcomeUnknown, Refused, RetryLater, WorkError
from services.providers.smtp_url import SmtpServer

TIMEOUT_SECONDS = 20.0
TEXT_TIMEOUT_SECONDS = 60.0
"""For the answer to the text: a server may scan it first (RFC 5321, 4.5.3.2.6, recommends 10 minutes)."""

_BUSY = frozenset({421, 432, 454})
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"})


class ConnectionLost(Exception):
    """The connection broke before the text was sent: the mail was not accepted."""


class Reply(NamedTuple):
    """A server's reply: its code and its text, in one line."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}"[:300]


class SmtpSession:
    """An open, signed-in connection. Not for two threads at once."""

    def __init__(self, server: SmtpServer, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Connect and sign in; raise a ``WorkError`` with the reason if that fails."""
        self._timeout_seconds = timeout_seconds
        self._text_timeout_seconds = max(timeout_seconds, min(TEXT_TIMEOUT_SECONDS, 3 * timeout_seconds))
        client = _connect(server, timeout_seconds)
        self._client, self._pipelining = client, client.has_extn("pipelining")
        assert client.sock is not None  # noqa: S101 - it is connected
        self._socket: socket.socket = client.sock
        self._replies: BinaryIO = self._socket.makefile("rb")
        self.is_fresh = True
        self.is_usable = True
        """Whether another mail may follow: a closed connection or an unknown outcome ends a session."""

    def is_quiet(self) -> bool:
        """Return whether nothing waits to be read: a server may have sent 421 since the last mail."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def send(self, sender: str, recipient: str, content: bytes) -> str:
        """Send ``content``; return the reply's text, which often has the server's id of the mail.

        Raises ``ConnectionLost`` if the connection broke before the text was sent, ``OutcomeUnknown`` if it
        broke after, and otherwise what the server's reply means.
        """
        self.is_usable = False
        answers = self._send_envelope(sender, recipient)
        if any(answer.code not in (250, 251) for answer in answers[:-1]) or answers[-1].code != 354:
            self._raise_envelope(answers)
        self._write(_dotted(content))
        reply = self._read_verdict()
        self.is_fresh, self.is_usable = False, reply.code != 421
        if reply.code == 250:
            return reply.text
        raise _text_error(reply)

    def close(self, *, politely: bool = True) -> None:
        """Close the connection. A failure here does not matter: accepted mails stay accepted."""
        with contextlib.suppress(OSError, ConnectionLost):
            if politely:
                self._write(b"QUIT\r\n")
        with contextlib.suppress(OSError):
            self._replies.close()
        self._client.close()

    def _send_envelope(self, sender: str, recipient: str) -> list[Reply]:
        commands = [f"MAIL FROM:<{sender}>\r\n", f"RCPT TO:<{recipient}>\r\n", "DATA\r\n"]
        if self._pipelining:
            self._write("".join(commands).encode("ascii"))
            return [self._read() for _ in commands]
        answers = []
        for command in commands:
            self._write(command.encode("ascii"))
            answers.append(self._read())
            if answers[-1].code >= 400:
                break
        return answers

    def _raise_envelope(self, answers: list[Reply]) -> None:
        """Raise what the first bad reply means, and reset the session for the next mail if possible."""
        place, bad = next((i, a) for i, a in enumerate(answers) if a.code not in (250, 251, 354))
        if bad.code == 421:
            raise ConnectionLost(str(bad))
        with contextlib.suppress(ConnectionLost):
            if answers[-1].code == 354:
                # RFC 2920, 3.1: DATA was accepted without a recipient; an empty text ends it.
                self._write(b".\r\n")
                self._read()
            self._write(b"RSET\r\n")
            self.is_usable = self._read().code == 250
            self.is_fresh = False
        raise _envelope_error(place, bad)

    def _write(self, content: bytes) -> None:
        try:
            self._socket.sendall(content)
        except OSError as fault:
            # A text that is cut off lacks its last dot, so it is not a mail.
            raise ConnectionLost(type(fault).__name__) from fault

    def _read(self) -> Reply:
        try:
            return self._read_reply()
        except OSError as fault:
            raise ConnectionLost(type(fault).__name__) from fault

    def _read_verdict(self) -> Reply:
        """Read the reply to a complete text. Without a reply the outcome is unknown."""
        try:
            self._socket.settimeout(self._text_timeout_seconds)
            reply = self._read_reply()
            self._socket.settimeout(self._timeout_seconds)
        except (OSError, ConnectionLost) as fault:
            reason = type(fault.__cause__ or fault).__name__
            raise OutcomeUnknown(
                "smtp.no_answer",
                f"the text was sent, then the connection broke ({reason}): it may be delivered",
            ) from fault
        return reply

    def _read_reply(self) -> Reply:
        lines: list[str] = []
        while True:
            line = self._replies.readline(8192)
            if not line.endswith(b"\n") or not line[:3].isdigit():
                raise ConnectionLost("closed" if not line else "the reply is not SMTP")
            lines.append(line[4:].strip().decode("utf-8", "replace"))
            if line[3:4] != b"-":
                return Reply(int(line[:3]), " ".join(lines))
            if len(lines) > 100:
                raise ConnectionLost("an endless reply")


def _dotted(content: bytes) -> bytes:
    """Return ``content`` with dots at line starts doubled, and the final dot (RFC 5321, 4.5.2)."""
    body = content.replace(b"\r\n.", b"\r\n..")
    if body.startswith(b"."):
        body = b"." + body
    return body + (b".\r\n" if body.endswith(b"\r\n") else b"\r\n.\r\n")


def _connect(server: SmtpServer, timeout_seconds: float) -> smtplib.SMTP:
    client: smtplib.SMTP | None = None
    try:
        if server.scheme == "smtps":
            client = smtplib.SMTP_SSL(
                local_hostname=_own_name(), timeout=timeout_seconds, context=ssl.create_default_context()
            )
        else:
            client = smtplib.SMTP(local_hostname=_own_name(), timeout=timeout_seconds)
        client._host = server.host  # type: ignore[attr-defined] # what TLS checks the certificate against
        greeting = client.connect(server.host, server.port)
        if greeting[0] != 220:
            raise smtplib.SMTPConnectError(*greeting)
        client.ehlo_or_helo_if_needed()
        if server.scheme == "smtp+starttls":
            client.starttls(context=ssl.create_default_context())
            client.ehlo_or_helo_if_needed()
        if server.user:
            client.login(server.user, server.password)
    except (OSError, smtplib.SMTPException, UnicodeError) as fault:
        if client is not None:
            client.close()
        raise _connect_error(fault) from fault
    return client


@cache
def _own_name() -> str:
    """Return this machine's name for EHLO; looked up once, as that may take seconds."""
    name = socket.getfqdn()
    return name if "." in name else "[127.0.0.1]"


class TooManyConnections(RetryLater):
    """The server accepts no further connection now."""


def _connect_error(fault: Exception) -> WorkError:  # noqa: PLR0911 - a table of failures
    match fault:
        case smtplib.SMTPAuthenticationError(smtp_code=code) if code not in _BUSY:
            return Misconfigured("smtp.credentials_refused", f"the mail server refuses to sign us in: {code}")
        case smtplib.SMTPResponseException(smtp_code=code, smtp_error=message):
            text = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
            reply = str(Reply(code, text))
            if code in _BUSY:
                return TooManyConnections("smtp.busy", reply)
            return (
                RetryLater("smtp.unavailable", reply)
                if code < 500
                else Misconfigured("smtp.refuses_us", reply)
            )
        case smtplib.SMTPNotSupportedError():
            return Misconfigured(
                "smtp.not_offered",
                f"{str(fault)[:200]}: change SMTP_URL to what the server offers (smtp, smtp+starttls, smtps)",
            )
        case ssl.SSLCertVerificationError(verify_message=why):
            return Misconfigured("smtp.certificate_wrong", f"the mail server's certificate: {why}")
        case ssl.SSLError(reason=reason) if reason in _NOT_TLS:
            return Misconfigured(
                "smtp.no_tls", f"no TLS is spoken there ({reason}): smtps is port 465, smtp+starttls is 587"
            )
    return RetryLater("smtp.unavailable", f"the mail server is away: {type(fault).__name__}")


def _envelope_error(place: int, bad: Reply) -> WorkError:
    if bad.code < 500:
        return RetryLater("smtp.unavailable", str(bad))
    if place == 1:
        return Refused("smtp.recipient_refused", str(bad))
    if bad.code == 552:
        return Refused("smtp.too_large", str(bad))
    return Misconfigured(
        "smtp.sender_refused", f"{bad} (is MAIL_FROM ours to send from, and are we signed in?)"
    )


def _text_error(reply: Reply) -> WorkError:
    if reply.code == 421:
        return RetryLater("smtp.unavailable", str(reply))
    return (
        Refused("smtp.refused", str(reply))
        if reply.code >= 500
        else RetryLater("smtp.unavailable", str(reply))
    )
