"""Parses the URL of a mail server, with user and password: ``SMTP_URL`` and ``smtp-url``. Pure."""

from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from services.core.errors import ShopfleetError

PORTS = MappingProxyType({"smtp": 25, "smtp+starttls": 587, "smtps": 465})


class SmtpUrlInvalid(ShopfleetError):
    """The URL names no mail server. The message describes a correct one and never contains the password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpServer:
    """A mail server: ``smtp`` is plain text, ``smtp+starttls`` requires TLS, ``smtps`` starts with it."""

    scheme: str
    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)


def parse_smtp_url(url: str) -> SmtpServer:
    """Return the server that ``[smtp|smtp+starttls|smtps]://[user:password@]host[:port]`` names."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:  # its text can contain the password
        parts, port = urlsplit(""), 0
    if parts.scheme not in PORTS or not parts.hostname or not port:
        raise SmtpUrlInvalid(
            f"it should begin with one of {', '.join(PORTS)}, then ://host or ://user:password@host:port; in "
            "the user and the password special characters are written like %5B for ["
        )
    return SmtpServer(
        scheme=parts.scheme,
        host=parts.hostname,
        port=port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )
