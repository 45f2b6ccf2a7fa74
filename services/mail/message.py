"""Mail types, and a composed mail with the key that keeps it from being sent twice.

Each room defines its own mail types and passes them to ``services.mail.compose``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from services.core.errors import ShopfleetError
from services.providers.outgoing_mail import Attachment

__all__ = ["Attachment", "Mail", "MailInvalid", "MailShop", "MailType", "all_headers"]


class MailInvalid(ShopfleetError):
    """A mail cannot be composed from its context. The message names the mail type and the fault."""


class MailShop(Protocol):
    """What a mail needs of its shop; ``services.shops.shops.Shop`` has it."""

    @property
    def id(self) -> int: ...
    @property
    def slug(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def currency(self) -> str: ...
    @property
    def zone(self) -> ZoneInfo: ...


MakeSample = Callable[[MailShop | None, datetime], Mapping[str, Any]]
"""Returns a sample context for a shop, or for the fleet: the same for the same arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailType:
    """A type of mail. ``package`` has ``templates/<name>.html`` and ``templates/<name>.txt``.

    ``why`` is the last line of each mail: it tells the reader why the mail came. The names in ``sample``'s
    context are those that a mail needs: more or fewer are refused. ``images`` are the inline images that
    the HTML shows, by name, with a sample of each. ``can_unsubscribe`` is for digests and letters, not for
    alerts.
    """

    name: str
    package: str
    about: str
    reader: str
    why: str
    sample: MakeSample
    can_unsubscribe: bool = False
    images: Callable[[], Mapping[str, Attachment]] = dict


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A mail to one recipient. ``shop_id`` None is the fleet's own mail.

    A mailbox shows ``preview`` after the subject; the HTML has it hidden at its top. ``list_unsubscribe`` is
    the https URL or ``mailto:`` that ends a series, or empty.
    """

    shop_id: int | None
    kind: str
    period: str
    recipient: str
    subject: str
    text: str = field(repr=False)
    html: str = field(repr=False)
    preview: str = ""
    attachments: tuple[Attachment, ...] = ()
    inline: tuple[Attachment, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    list_unsubscribe: str = ""

    @property
    def dedupe_key(self) -> str:
        """Identifies the mail among the shop's mails, for ever."""
        return f"{self.kind}:{self.period}:{self.recipient.lower()}"


def all_headers(mail: Mail) -> dict[str, str]:
    """Return the headers of ``mail`` beyond the usual ones.

    A URL unsubscribes with one click (RFC 8058). ``Auto-Submitted`` stops out-of-office replies (RFC 3834).
    """
    headers = {"Auto-Submitted": "auto-generated", **mail.headers}
    if mail.list_unsubscribe:
        headers["List-Unsubscribe"] = f"<{mail.list_unsubscribe}>"
        if mail.list_unsubscribe.startswith("https://"):
            headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    return headers
