"""What is to be done with a mail of the outbox, by what is known of it. Pure: rows in, plans out."""

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
"""Whom a mail is to whose reader asked to be forgotten."""


class OutboxRow(NamedTuple):
    """A mail as the outbox has it."""

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
    """One mail, ready to be handed over."""

    item: WorkItem
    row: OutboxRow
    route: Route

    @property
    def repeats(self) -> bool:
        """Whether it was handed over before, with an outcome that nobody knows."""
        return self.row.status == "sending"


@dataclass(frozen=True, slots=True)
class LostDelivery:
    """A mail whose worker went away while it was on the line."""

    handing: MailDelivery
    outcome: Refused


def plan_delivery(
    item: WorkItem, row: OutboxRow | None, route: Route | Misconfigured | None, now: datetime
) -> MailDelivery | LostDelivery | Outcome:
    """Return the handing over of ``item``'s mail, or what stands in its way at ``now``.

    A mail that is ``sending`` lost its worker. It may go again only where the very account that may have
    it already can tell a repeat from a second mail.
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
    handing = MailDelivery(item, row, route)
    is_same_account = (row.transport, row.account) == (route.transport, route.fingerprint)
    may_go = is_same_account and may_repeat(route, row.handed_over_at, now)
    if row.status == "sending" and not may_go:
        return LostDelivery(
            handing, ask_person(handing, "the worker went away while the mail was handed over")
        )
    return handing


def may_repeat(route: Route, handed_over_at: datetime | None, now: datetime) -> bool:
    """Tell whether handing over once more is surely the same mail. The last minutes of a key are not used."""
    if not route.repeatable_for:
        return False
    age = now - (handed_over_at or now)
    return age < route.repeatable_for - min(route.repeatable_for / 2, timedelta(minutes=30))


def ask_person(handing: MailDelivery, why: str) -> Refused:
    """Return the outcome of a mail of which nobody knows whether it arrived: what a person can do."""
    return Refused(UNKNOWN, f"{why}; {_what_to_do(handing.row.id)}")


def _what_to_do(mail_id: int) -> str:
    return (
        f"it may have been delivered: look at the recipient's or the service's side, then "
        f"`fleet mail mark-sent {mail_id}` if it was, or `fleet mail resend {mail_id}` if it was not"
    )


def plan_entry(
    handing: MailDelivery, action: str, fate: str, message_id: str = "", work_id: int | None = None
) -> Entry:
    """Return what the audit says of a mail's ``fate``; the address is masked, as a chain cannot forget."""
    row = handing.row
    summary = f"mail {row.kind} to {mask_address(row.recipient)} {fate}"
    after = {"status": action.removeprefix("mail."), "transport": handing.route.transport}
    if message_id:
        after["message_id"] = message_id
    mutation = Mutation("mail_outbox", str(row.id), summary, {"status": "queued"}, after)
    return Entry(row.shop_id, "mail_send", action, handing.item.request_id, [mutation], work_id)
