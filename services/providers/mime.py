"""Renders a mail as bytes for any mail server: ASCII, lines of at most 998 characters, CRLF. Pure.

``email.message`` takes 1.8 ms of CPU per mail, this code 0.03 ms: see decision 11.
Sources: RFC 5322, RFC 2045-2047, RFC 2231, RFC 2387.
"""

import base64
import binascii
import hashlib
from datetime import UTC, datetime
from email.header import Header
from email.utils import encode_rfc2231, format_datetime, quote
from functools import lru_cache

from services.providers.outgoing_mail import Attachment, OutgoingMail, ascii_address, one_line, parse_sender

LONGEST_LINE = 990
"""RFC 5322, 2.1.1: a line has at most 998 characters."""


def render_mime(mail: OutgoingMail) -> bytes:
    """Return the bytes of ``mail``: text and HTML as alternatives, with its images and attachments.

    Raises ``AddressInvalid`` for an address that no server accepts. The same mail gives the same bytes.
    """
    token = hashlib.sha256(mail.message_id.encode()).hexdigest()[:24]
    body = _render_multipart(
        "alternative",
        f"=_a{token}",
        [_render_text("plain", mail.text, token), _render_text("html", mail.html, token)],
    )
    if mail.inline:
        parts = [body, *(_render_file(part, "inline") for part in mail.inline)]
        body = _render_multipart("related", f"=_r{token}", parts, '; type="multipart/alternative"')
    if mail.attachments:
        parts = [body, *(_render_file(part, "attachment") for part in mail.attachments)]
        body = _render_multipart("mixed", f"=_m{token}", parts)
    headers = [
        f"From: {_format_sender(mail.sender)}",
        f"To: {ascii_address(mail.recipient)}",
        f"Subject: {_encode_text(one_line(mail.subject), 'Subject')}",
        f"Date: {_format_date(mail.date.replace(microsecond=0))}",
        f"Message-ID: <{mail.message_id}>",
        *(f"{name}: {_encode_text(one_line(value), name)}" for name, value in mail.headers.items()),
        "MIME-Version: 1.0",
    ]
    return "\r\n".join(headers).encode("ascii") + b"\r\n" + body


def _render_multipart(subtype: str, boundary: str, parts: list[bytes], more: str = "") -> bytes:
    line = f"--{boundary}".encode()
    head = f'Content-Type: multipart/{subtype}; boundary="{boundary}"{more}\r\n\r\n'.encode()
    return head + b"".join([b"%b\r\n%b\r\n" % (line, part) for part in parts]) + line + b"--\r\n"


def _render_text(subtype: str, text: str, token: str) -> bytes:
    """Return one text: 7bit if possible, quoted-printable if mostly ASCII, else base64."""
    content = "\r\n".join(text.splitlines()).encode(errors="replace") + b"\r\n"
    if (
        content.isascii()
        and token.encode() not in content
        and b"\0" not in content
        and _has_short_lines(content)
    ):
        encoding, charset = "7bit", "us-ascii"
    elif len(text.encode(errors="replace")) < 1.25 * len(text):  # mostly ASCII
        encoding, charset = "quoted-printable", "utf-8"
        content = binascii.b2a_qp(content, istext=True)
    else:
        encoding, charset = "base64", "utf-8"
        content = _encode_base64(content)
    head = f"Content-Type: text/{subtype}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + content


def _has_short_lines(content: bytes) -> bool:
    return len(content) <= LONGEST_LINE or max(map(len, content.split(b"\r\n"))) <= LONGEST_LINE


def _render_file(part: Attachment, disposition: str) -> bytes:
    name = one_line(part.name) or "file"
    encoded = f'="{quote(name)}"' if name.isascii() else f"*={encode_rfc2231(name, 'utf-8')}"
    head = (
        f"Content-Type: {one_line(part.content_type)}\r\nContent-Transfer-Encoding: base64\r\n"
        f"Content-Disposition: {disposition}; filename{encoded}\r\n"
    )
    if part.content_id:
        head += f"Content-ID: <{one_line(part.content_id)}>\r\n"
    return head.encode("ascii", "replace") + b"\r\n" + _encode_base64(part.content)


def _encode_base64(content: bytes) -> bytes:
    return base64.encodebytes(content).replace(b"\n", b"\r\n")


def _encode_text(text: str, name: str) -> str:
    """Return ``text`` as a header value: encoded if it is not ASCII, folded if it is long."""
    if text.isascii() and (len(text) + len(name) < 76 or (" " not in text and len(text) < LONGEST_LINE - 76)):
        return text  # a long address has no place to fold
    charset = "us-ascii" if text.isascii() else "utf-8"
    return Header(text, charset, maxlinelen=76, header_name=name).encode(linesep="\r\n")


@lru_cache(maxsize=256)
def _format_sender(sender: str) -> str:
    name, address = parse_sender(sender)
    if not name:
        return address
    shown = f'"{quote(name)}"' if name.isascii() else Header(name, "utf-8", header_name="From").encode()
    return f"{shown} <{address}>"


@lru_cache(maxsize=64)
def _format_date(at: datetime) -> str:
    return format_datetime(at.astimezone(UTC))
