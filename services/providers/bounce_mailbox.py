"""An IMAP mailbox that gets delivery reports: reads unseen messages and marks them as seen."""

import imaplib
import re
import ssl
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from services.core.errors import Misconfigured, RetryLater
from services.core.log_redaction import quote_value

TIMEOUT_SECONDS = 30
LARGEST_READ = 262_144
"""Bytes that are read of a message: a report is at its beginning, the returned mail after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxAddress:
    """A mailbox: ``imaps`` starts with TLS, ``imap`` is plain text."""

    scheme: str
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    folder: str


def parse_mailbox_url(url: str) -> MailboxAddress:
    """Return the parts of ``imaps://user:password@host[:port]/FOLDER``, which the settings have checked."""
    parts = urlsplit(url)
    return MailboxAddress(
        scheme=parts.scheme,
        host=parts.hostname or "",
        port=parts.port or (993 if parts.scheme == "imaps" else 143),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        folder=unquote(parts.path.strip("/")) or "INBOX",
    )


def encode_folder(name: str) -> str:
    r"""Return the name of a folder as the inside of a quoted string: UTF-7 as RFC 3501 (5.1.3) changes it."""

    def encode(part: re.Match[str]) -> str:
        encoded = b64encode(part[0].encode("utf-16-be")).decode().rstrip("=").replace("/", ",")
        return f"&{encoded}-"

    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return re.sub(r"[^\x20-\x7e]+", encode, quoted.replace("&", "&-"))


class BounceMailbox:
    """An open mailbox."""

    def __init__(self, connection: imaplib.IMAP4) -> None:
        self._connection = connection

    def list_unseen(self, limit: int) -> list[bytes]:
        """Return the ids (UIDs) of at most ``limit`` unseen messages, oldest first."""
        found = self._call("SEARCH", "UNSEEN")
        ids: list[bytes] = found[0].split() if found and isinstance(found[0], bytes) else []
        return sorted(ids, key=int)[:limit]

    def read(self, uid: bytes) -> bytes:
        """Return the first ``LARGEST_READ`` bytes of a message, and leave it unseen; empty if it is gone."""
        for part in self._call("FETCH", uid.decode(), f"(BODY.PEEK[]<0.{LARGEST_READ}>)"):
            if isinstance(part, tuple):
                return bytes(part[1])
        return b""

    def mark_seen(self, uids: Sequence[bytes]) -> None:
        """Mark messages as seen: they are not listed again."""
        if uids:
            self._call("STORE", b",".join(uids).decode(), "+FLAGS.SILENT", r"(\Seen)")

    def _call(self, command: str, *arguments: str) -> list[bytes | tuple[bytes, bytes]]:
        status, data = self._connection.uid(command, *arguments)
        if status != "OK":
            raise RetryLater("imap.refused", f"{command} was answered with {status}")
        return data


@contextmanager
def open_mailbox(url: str) -> Iterator[BounceMailbox]:
    """Sign in and select the folder of ``url``.

    Raises ``Misconfigured`` for a refused sign-in or folder, ``RetryLater`` if the server does not answer.
    """
    address = parse_mailbox_url(url)
    try:
        connection = _connect(address)
    except ssl.SSLCertVerificationError as fault:
        raise Misconfigured("imap.certificate_wrong", f"{address.host}: {fault.verify_message}") from fault
    except (OSError, imaplib.IMAP4.error) as fault:
        raise RetryLater("imap.unavailable", f"{address.host}: {type(fault).__name__}") from fault
    try:
        _sign_in(connection, address)
        yield BounceMailbox(connection)
    except (OSError, imaplib.IMAP4.abort) as fault:
        raise RetryLater("imap.unavailable", f"{address.host}: {type(fault).__name__}") from fault
    except imaplib.IMAP4.error as fault:
        raise RetryLater("imap.refused", f"{address.host} refused a command") from fault
    finally:
        connection.shutdown()


def _connect(address: MailboxAddress) -> imaplib.IMAP4:
    if address.scheme == "imap":
        return imaplib.IMAP4(address.host, address.port, timeout=TIMEOUT_SECONDS)
    context = ssl.create_default_context()
    return imaplib.IMAP4_SSL(address.host, address.port, ssl_context=context, timeout=TIMEOUT_SECONDS)


def _sign_in(connection: imaplib.IMAP4, address: MailboxAddress) -> None:
    try:
        if (address.user + address.password).isascii():
            connection.login(address.user, address.password)
        else:  # LOGIN takes ASCII alone
            words = f"\0{address.user}\0{address.password}"
            connection.authenticate("PLAIN", lambda _challenge: words.encode())
    except imaplib.IMAP4.abort:
        raise
    except imaplib.IMAP4.error as fault:  # its text may contain the command
        fault_text = f"{address.host} refuses the user or the password of BOUNCE_MAILBOX_URL"
        raise Misconfigured("imap.credentials_refused", fault_text) from fault
    status, _ = connection.select(f'"{encode_folder(address.folder)}"')
    if status != "OK":
        raise Misconfigured(
            "imap.folder_unknown", f"{address.host} has no folder {quote_value(address.folder)}"
        )
