"""A composed mail, with the key that keeps it from being sent twice."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP

from services.providers.mime import render_mime
from services.providers.outgoing_mail import Attachment, OutgoingMail

__all__ = ["Attachment", "Mail", "to_email_message", "to_outgoing_mail"]


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


def to_outgoing_mail(mail: Mail, *, sender: str, message_id: str, date: datetime) -> OutgoingMail:
    """Return ``mail`` for a transport. ``message_id`` is without angle brackets."""
    return OutgoingMail(
        sender=sender,
        recipient=mail.recipient,
        subject=mail.subject,
        text=mail.text,
        html=mail.html,
        message_id=message_id,
        date=date,
        attachments=mail.attachments,
        inline=mail.inline,
        headers=all_headers(mail),
    )


def to_email_message(mail: Mail, *, sender: str, message_id: str, date: datetime) -> EmailMessage:
    """Return the bytes that are sent, parsed by the standard library."""
    outgoing = to_outgoing_mail(mail, sender=sender, message_id=message_id, date=date)
    message = message_from_bytes(render_mime(outgoing), policy=SMTP)
    assert isinstance(message, EmailMessage)  # noqa: S101 - the policy's own class
    return message
