"""A mail for the transports, and its addresses. Pure.

Header values have no line breaks and no control characters; addresses are ASCII.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parseaddr, quote
from functools import lru_cache

from services.core.errors import OutcomeUnknown, RetryLater, ShopfleetError
from services.core.log_redaction import quote_value
from services.core.setting_urls import is_mail_address

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
WAIT_UNSTATED = timedelta(seconds=10)
"""The wait of a 429 without a readable ``Retry-After``."""
WAIT_LONGEST = timedelta(hours=6)
"""The longest wait; a longer ``Retry-After`` of a mail service is cut."""


class AddressInvalid(ShopfleetError):
    """A text is not a mail address that servers accept. The message says what is right."""


class MailThrottled(RetryLater):
    """The service accepts no mail from this account until ``wait`` is over."""


class AlreadySubmitted(OutcomeUnknown):
    """The service has another mail under the same key: a person must check whether that one was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file, or with a ``content_id`` an image that the HTML shows as ``cid:<content_id>``."""

    name: str
    content_type: str
    content: bytes = field(repr=False)
    content_id: str = ""

    @property
    def base64(self) -> str:
        """The content for the JSON APIs of mail services."""
        return b64encode(self.content).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMail:
    """One mail to one recipient. ``sender`` is ``Name <address>`` or an address.

    ``message_id`` is without angle brackets. ``idempotency_key`` is the same at every attempt, for
    transports that have one. ``reference`` is our id, for the events of a mail service.
    """

    sender: str
    recipient: str
    subject: str
    text: str = field(repr=False)
    html: str = field(repr=False)
    message_id: str
    date: datetime
    idempotency_key: str = ""
    reference: str = ""
    attachments: tuple[Attachment, ...] = ()
    inline: tuple[Attachment, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


class MailTransport:
    """Sends mails. Safe for many threads."""

    def send(self, mail: OutgoingMail) -> str:
        """Return the provider's id of the accepted ``mail``; raise a ``WorkError`` otherwise."""
        raise NotImplementedError

    def check(self) -> str:
        """Connect and sign in without sending anything; return what answered, or raise a ``WorkError``."""
        raise NotImplementedError

    def close(self) -> None:
        """Close idle connections."""


def one_line(text: str) -> str:
    """Return ``text`` for a header: line breaks and control characters become one space."""
    return _CONTROL.sub(" ", text).strip()


@lru_cache(maxsize=1024)
def parse_sender(sender: str) -> tuple[str, str]:
    """Return the (name, address) of ``Name <address>``; raise ``AddressInvalid``."""
    name, address = parseaddr(one_line(sender))
    return name, ascii_address(address or sender)


def format_sender(name: str, address: str) -> str:
    """Return ``"Name" <address>``, or the address alone."""
    return f'"{quote(name)}" <{address}>' if name else address


@lru_cache(maxsize=4096)
def ascii_address(address: str) -> str:
    """Return ``address`` with its domain as IDNA; raise ``AddressInvalid`` if no server accepts it.

    A local part beyond ASCII needs SMTPUTF8 on every server of the route (RFC 6531), so it is refused.
    """
    address = address.strip()
    shown = f"address {quote_value(address)}"
    if not is_mail_address(address):
        raise AddressInvalid(f"{shown} should be one mail address such as owner@example.com")
    local, _, domain = address.rpartition("@")
    if not local.isascii():
        raise AddressInvalid(f"{shown} has letters beyond ASCII before the @")
    try:
        return address if domain.isascii() else f"{local}@{domain.encode('idna').decode()}"
    except UnicodeError as fault:
        raise AddressInvalid(f"{shown} has a domain that is no host name") from fault


def mask_address(address: str) -> str:
    """Return ``o***@example.com`` for ``owner@example.com``."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}***{at}{domain}" if at else "***"
