"""Decides what to do with a mail of the outbox. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row

from services.audit.chain import AuditEntry, Mutation
from services.core.errors import Misconfigured, Refused
from services.core.log_redaction import quote_value
from services.ledger.work import Done, Outcome, WorkItem
from services.mail.suppressions import SUPPRESSED
from services.mail.transports import MailRoute
from services.providers.outgoing_mail import mask_address, parse_sender

UNKNOWN = "mail.outcome_unknown"
REDACTED_RECIPIENT = "redacted@redacted.invalid"
"""The address in the mails of a recipient whose data was redacted."""


@dataclass(frozen=True, slots=True)
class MailDelivery:
    """One mail of the outbox, ready to be sent. ``is_lost``: its worker died while it sent it."""

    item: WorkItem
    row: Row[Any]
    route: MailRoute
    is_lost: bool = False

    @property
    def is_repeat(self) -> bool:
        """Whether it was sent before with an unknown outcome."""
        return bool(self.row.status == "sending")

    @property
    def message_id(self) -> str:
        """The Message-ID without angle brackets, the same at every attempt."""
        domain = parse_sender(self.route.sender)[1].rpartition("@")[2]
        return self.row.message_id or f"{self.row.token}@{domain}"


def plan_delivery(
    item: WorkItem, row: Row[Any] | None, route: MailRoute | Misconfigured | None, now: datetime
) -> MailDelivery | Outcome:
    """Return the delivery of ``item``'s mail, or its outcome without one.

    A mail that is ``sending`` had a worker that died. It is sent again only through the same account, and
    only if that account recognizes a repeated mail.
    """
    if row is None or route is None:
        return Refused(
            "mail.not_there", f"no mail has the id {quote_value(item.key)}: it was removed from the outbox"
        )
    if row.status == "sent" or row.recipient == REDACTED_RECIPIENT:
        return Done("already_sent" if row.status == "sent" else "redacted")
    if row.status == "unknown":
        return Refused(UNKNOWN, _what_to_do(row.id))
    if isinstance(route, Misconfigured):
        return route
    is_same_account = (row.transport, row.account) == (route.transport, route.fingerprint)
    is_repeatable = is_same_account and may_repeat(route, row.handed_over_at, now)
    return MailDelivery(item, row, route, is_lost=row.status == "sending" and not is_repeatable)


def may_repeat(route: MailRoute, handed_over_at: datetime | None, now: datetime) -> bool:
    """Return whether the transport still recognizes a repeat. A key is not used in its last 30 minutes."""
    if not route.repeatable_for:
        return False
    age = now - (handed_over_at or now)
    return age < route.repeatable_for - min(route.repeatable_for / 2, timedelta(minutes=30))


def plan_unknown_outcome(delivery: MailDelivery, why: str) -> Refused:
    """Return the outcome of a mail that may have arrived, with what a person can do."""
    return Refused(UNKNOWN, f"{why}; {_what_to_do(delivery.row.id)}")


def plan_suppressed(delivery: MailDelivery, reason: str) -> Refused:
    """Return the outcome of a mail that is not sent because its address is suppressed for ``reason``."""
    row = delivery.row
    shop = "" if row.shop_id is None else " --shop SHOP"
    return Refused(
        SUPPRESSED,
        f"no mail goes to this address ({reason}): correct the address where it is set; or if it is right, "
        f"`fleet mail suppressions remove ADDRESS{shop} --reason TEXT`, then "
        f"`fleet mail resend {row.id} --reason TEXT`",
    )


def _what_to_do(mail_id: int) -> str:
    return (
        f"it may have been delivered: ask the recipient or search the mail service, then "
        f"`fleet mail mark-sent {mail_id}` if it was, or `fleet mail resend {mail_id}` if it was not"
    )


def plan_entry(delivery: MailDelivery, status: str, result: str) -> AuditEntry:
    """Return the audit entry of a mail's ``result``. The address is masked: a chain is never redacted."""
    row, item = delivery.row, delivery.item
    summary = f"mail {row.kind} to {mask_address(row.recipient)} {result}"
    after = {"status": status, "transport": delivery.route.transport}
    if status == "sent":
        after["message_id"] = delivery.message_id
    mutation = Mutation("mail_outbox", str(row.id), summary, {"status": "queued"}, after)
    work_id = item.id if status == "sent" else None
    return AuditEntry(row.shop_id, "mail_send", f"mail.{status}", item.request_id, [mutation], work_id)
