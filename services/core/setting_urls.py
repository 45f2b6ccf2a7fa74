"""Checks of settings that are URLs or mail addresses. Errors never contain a secret setting. Pure."""

import re
from urllib.parse import SplitResult, unquote, urlsplit

from services.core.errors import SettingsInvalid
from services.core.sentinel import SENTINEL, parse_sentinel_url

BROKER_SCHEMES = ("redis", "rediss", SENTINEL, "amqp", "amqps")
SMTP_SCHEMES = ("smtp", "smtp+starttls", "smtps")
_ADDRESS = re.compile(r"[^\s@,;:<>()\[\]\\\"\x00-\x1f\x7f]{1,64}@[^\s@,;:<>()\[\]\\\"\x00-\x1f\x7f]{1,253}")

_DATABASE = re.compile(r"(?:/\d{0,5})?", re.ASCII)
_BUCKET = re.compile(r"[\w.-]{1,255}", re.ASCII)

_NOT_A_URL = (
    " is not a URL: its port is a number up to 65535; in a user or a password write %23 for #, %2F for /, "
    "%3F for ?, %5B for [ and other special characters likewise"
)
_HOST = r"(?:\[[^/?]+\]|[^/:?,]*)(?::\d{0,5})?"
_POSTGRES = re.compile(rf"[\w+]+://(?:[^:/]*(?::[^@]*)?@)?{_HOST}(?:,{_HOST})*(?:[/?].*)?", re.DOTALL)
"""A URL as SQLAlchemy reads it: a password may contain # and ?."""


def find_role(url: str) -> str:
    """Return the role of a PostgreSQL URL."""
    found = re.match(r"[\w+]+://([^:/@]*)(?::[^@]*)?@", url)
    return unquote(found[1]) if found else ""


def is_postgres(raw: str) -> bool:
    if not _split(raw).scheme.startswith("postgres"):
        return False
    if not _POSTGRES.fullmatch(raw):
        raise SettingsInvalid(_NOT_A_URL)
    return True


def is_archive_role(raw: str) -> bool:
    return not raw or (is_postgres(raw) and bool(find_role(raw)))


def is_broker(raw: str) -> bool:
    """Return whether ``raw`` is one URL of a broker, or several with ``;`` between them."""
    if raw.startswith(f"{SENTINEL}:"):
        return bool(parse_sentinel_url(raw))
    parts = [_split(each, with_port=True) for each in raw.split(";")]
    if any(part.scheme in ("redis", "rediss") and not _DATABASE.fullmatch(part.path) for part in parts):
        raise SettingsInvalid(" should be like redis://host:6379/0: the database of Redis is a number")
    return all(part.scheme in BROKER_SCHEMES for part in parts)


def is_mail_address(raw: str) -> bool:
    return _ADDRESS.fullmatch(raw) is not None


def is_full_address(raw: str) -> bool:
    """Return whether ``raw`` is an address whose domain has a period: ``a@b`` is a typing error."""
    return is_mail_address(raw) and "." in raw.rpartition("@")[2].strip(".")


def is_mail_address_or_empty(raw: str) -> bool:
    return not raw or is_mail_address(raw)


def is_smtp(raw: str) -> bool:
    parts = _split(raw)
    return parts.scheme in SMTP_SCHEMES and bool(parts.hostname)


def parse_archive_url(raw: str) -> str:
    """Return ``raw``. The error does not show a URL with a user, because it may contain a secret key."""
    parts = _split(raw)
    if "@" in parts.netloc:
        raise SettingsInvalid(
            " contains a user or a password: should be s3://bucket/prefix, with AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )
    is_folder = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")
    if not is_folder and not (parts.scheme == "s3" and _BUCKET.fullmatch(parts.netloc)):
        raise SettingsInvalid(f"={raw!r} should be file:///folder or s3://bucket/prefix")
    if parts.query or parts.fragment or raw.endswith(("?", "#")):
        raise SettingsInvalid(f"={raw!r} contains ? or #, which end its path: write %3F or %23 for them")
    return raw


def parse_public_url(raw: str) -> str:
    parts = _split(raw, with_port=True)
    if raw and (parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment):
        raise SettingsInvalid(f"={raw!r} should be like https://hooks.example.com")
    return raw.rstrip("/")


def parse_issuer(raw: str) -> str:
    """Return ``raw`` as it is, because an ID token must have the same text; http only on this machine."""
    parts = urlsplit(parse_public_url(raw))
    if raw and parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise SettingsInvalid(f"={raw!r} should begin with https://")
    return raw


def parse_web_address(raw: str) -> str:
    """Return ``raw``, which may contain a secret: its error does not show it."""
    parts = _split(raw, with_port=True)
    if raw and (parts.scheme not in ("https", "http") or not parts.hostname):
        raise SettingsInvalid(" should be like https://host/path")
    return raw


def parse_mailbox_address(raw: str) -> str:
    """Return ``raw``, whose password its error does not show. ``imap`` is for this machine only."""
    parts = _split(raw, with_port=True)
    is_local = parts.scheme == "imap" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if raw and not ((parts.scheme == "imaps" or is_local) and parts.hostname and parts.username):
        raise SettingsInvalid(" should be like imaps://user:password@host/INBOX")
    return raw


def parse_management_api(raw: str) -> str:
    parts = _split(raw, with_port=True)
    if raw and (parts.scheme not in ("https", "http") or not parts.hostname or not parts.path.strip("/")):
        raise SettingsInvalid(" should be like http://user:password@host:15672/api/")
    return raw


def _split(raw: str, *, with_port: bool = False) -> SplitResult:
    try:
        parts = urlsplit(raw)
        if with_port:
            _ = parts.port
    except ValueError:  # its text can contain the password
        raise SettingsInvalid(_NOT_A_URL) from None
    return parts
