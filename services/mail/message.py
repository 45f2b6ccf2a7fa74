"""Mail types, and a composed mail with the key that prevents a second send.

Each package defines its mail types and passes them to ``services.mail.compose``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.core.errors import ShopfleetError
from services.providers.outgoing_mail import Attachment
from services.shops.shops import Shop

__all__ = ["Attachment", "Mail", "MailInvalid", "MailType", "make_headers"]


class MailInvalid(ShopfleetError):
    """A mail cannot be composed from its context. The message names the mail type and the fault."""


MakeSample = Callable[[Shop | None, datetime], Mapping[str, Any]]
"""Returns a sample context for a shop or for the fleet. The same arguments give the same context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailType:
    """A type of mail. ``package`` has ``templates/<name>.html`` and ``templates/<name>.txt``.

    ``why`` is the last line of each mail: why the recipient gets it. A mail needs exactly the names in
    ``sample``'s context. ``images`` are samples of the inline images, by name. ``can_unsubscribe`` is for
    commercial mail, which an address that unsubscribed or complained gets no more; not for alerts, reports.
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

    A mailbox shows ``preview`` after the subject; the HTML hides it at the top. ``list_unsubscribe`` is
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
        """Identifies the mail among all mails of the shop."""
        return f"{self.kind}:{self.period}:{self.recipient.lower()}"


def make_headers(mail: Mail) -> dict[str, str]:
    """Return the additional headers of ``mail``.

    A URL takes one click (RFC 8058). ``Auto-Submitted`` stops out-of-office replies (RFC 3834).
    """
    headers = {"Auto-Submitted": "auto-generated", **mail.headers}
    if mail.list_unsubscribe:
        headers["List-Unsubscribe"] = f"<{mail.list_unsubscribe}>"
        if mail.list_unsubscribe.startswith("http"):
            headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    return headers
