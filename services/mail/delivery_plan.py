"""Decides what to do with a mail of the outbox. Pure: rows in, plans out."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from services.audit.chain import Entry, Mutation
from services.core.errors import Misconfigured, Refused
from services.core.redact import quote_value
from services.ledger.work import Done, Outcome, WorkItem
from services.mail.transports import Route
from services.providers.outgoing_mail import mask_address

UNKNOWN = "mail.outcome_unknown"
NOBODY = "redacted@redacted.invalid"
"""The recipient of a mail whose reader's data was redacted."""


class OutboxRow(NamedTuple):
    """A mail in the outbox."""

    id: int
    shop_id: int | None
    kind: str
    recipient: str
    subject: str
    text: str
    html: str
    headers: dict[str, str]
    has_parts: bool
    status: str
    attempt: int
    token: str
    message_id: str
    transport: str
    account: str
    created_at: datetime
    handed_over_at: datetime | None


@dataclass(frozen=True, slots=True)
class MailDelivery:
    """One mail, ready to be sent."""

    item: WorkItem
    row: OutboxRow
    route: Route

    @property
    def is_repeat(self) -> bool:
        """Whether it was handed over before, with an unknown outcome."""
        return self.row.status == "sending"


@dataclass(frozen=True, slots=True)
class LostDelivery:
    """A mail whose worker died while it sent the mail."""

    delivery: MailDelivery
    outcome: Refused


def plan_delivery(
    item: WorkItem, row: OutboxRow | None, route: Route | Misconfigured | None, now: datetime
) -> MailDelivery | LostDelivery | Outcome:
    """Return the delivery of ``item``'s mail, or its outcome without one.

    A mail that is ``sending`` lost its worker. It is sent again only through the same account, and only
    if that account recognizes a repeated mail.
    """
    if row is None or route is None:
        return Refused(
            "mail.not_there", f"no mail has the id {quote_value(item.key)}: it was removed from the outbox"
        )
    if row.status == "sent" or row.recipient == NOBODY:
        return Done("already_sent" if row.status == "sent" else "redacted")
    if row.status == "unknown":
        return Refused(UNKNOWN, _what_to_do(row.id))
    if isinstance(route, Misconfigured):
        return route
    delivery = MailDelivery(item, row, route)
    is_same_account = (row.transport, row.account) == (route.transport, route.fingerprint)
    may_go = is_same_account and may_repeat(route, row.handed_over_at, now)
    if row.status == "sending" and not may_go:
        return LostDelivery(delivery, ask_person(delivery, "the worker died while it sent the mail"))
    return delivery


def may_repeat(route: Route, handed_over_at: datetime | None, now: datetime) -> bool:
    """Return whether the transport still recognizes a repeat. The last minutes of a key are not used."""
    if not route.repeatable_for:
        return False
    age = now - (handed_over_at or now)
    return age < route.repeatable_for - min(route.repeatable_for / 2, timedelta(minutes=30))


def ask_person(delivery: MailDelivery, why: str) -> Refused:
    """Return the outcome of a mail that may have arrived, with what a person can do."""
    return Refused(UNKNOWN, f"{why}; {_what_to_do(delivery.row.id)}")


def _what_to_do(mail_id: int) -> str:
    return (
        f"it may have been delivered: ask the recipient or look at the service, then "
        f"`fleet mail mark-sent {mail_id}` if it was, or `fleet mail resend {mail_id}` if it was not"
    )


def plan_entry(
    delivery: MailDelivery, action: str, result: str, message_id: str = "", work_id: int | None = None
) -> Entry:
    """Return the audit entry of a mail's ``result``; the address is masked, as a chain is never redacted."""
    row = delivery.row
    summary = f"mail {row.kind} to {mask_address(row.recipient)} {result}"
    after = {"status": action.removeprefix("mail."), "transport": delivery.route.transport}
    if message_id:
        after["message_id"] = message_id
    mutation = Mutation("mail_outbox", str(row.id), summary, {"status": "queued"}, after)
    return Entry(row.shop_id, "mail_send", action, delivery.item.request_id, [mutation], work_id)
