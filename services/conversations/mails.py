"""Handler of mails that a shop receives or sends: the first step of the workflow ``mail``.

They arrive as a Standard Webhook of the source ``mail``, or as the event ``email.received`` of Resend.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import getaddresses
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.conversations.addresses import normalize_all, normalize_mail
from services.conversations.handler import record_interactions
from services.conversations.payload import InteractionUpdate, remove_zero_characters
from services.core.fields import Unreadable, find_text, parse_items, read_instant, read_object, read_text
from services.core.pg_arrays import int_array
from services.ledger.work import FLEET, HandlerResult, WorkItem
from services.providers.mail_events import RESEND

KIND = "mail"
# The addresses at which the shop itself sends and receives mail.
_FIND_OWN = """
select shop_id, owner_email, accountant_email, mail_contact from shop_config
 where shop_id = any(%(shop_id)s::int[])
"""


class ReceivedMail(NamedTuple):
    """A mail as its event has it. ``source`` is kept; Resend's has no text, only the id to fetch it."""

    mail_id: str
    sender: str
    recipients: list[str]
    text: str
    at: datetime
    source: dict[str, Any]


def ingest_mails(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Store each mail, and begin its run in a shop with Notion.

    The other side is the sender; of a mail from an address of the shop itself it is the first recipient.
    """
    own: dict[int, set[str]] = {}
    for row in tx.exec_driver_sql(_FIND_OWN, {"shop_id": int_array({item.shop_id for item in items})}):
        own[row.shop_id] = set(normalize_all([row.owner_email, row.accountant_email, row.mail_contact]))
    parsed = parse_items(
        items, lambda item: _parse(item, own.get(item.shop_id, set())), "mail.unreadable_event"
    )
    return record_interactions(tx, items, parsed, now)


def _parse(item: WorkItem, own: set[str]) -> InteractionUpdate:
    if item.shop_id == FLEET:
        raise Unreadable("the account", "the fleet's own", "that of a shop: record its resend-webhook")
    event = read_object(item.body)
    mail = _read_resend(event) if item.event_provider == RESEND.name else _read_standard(event)
    is_outgoing = mail.sender in own
    others = [address for address in mail.recipients if address not in own]
    address = next(iter(others), "") if is_outgoing else mail.sender
    row = {
        "shop_id": item.shop_id,
        "provider_id": f"{KIND}:{mail.mail_id}",
        "version_at": mail.at,
        "kind": KIND,
        "direction": "outgoing" if is_outgoing else "incoming",
        "status": "",
        "participants": [mail.sender, *mail.recipients],
        "body": mail.text.replace("\0", ""),
        "occurred_at": mail.at,
        "detail": remove_zero_characters({"type": KIND, "object": mail.source, "context": {}, "progress": 0}),
        "event_id": item.event_id,
        "merchant_id": None,
        "page_id": "",
        "page_state": "",
    }
    return InteractionUpdate("", row, address)


def _read_standard(event: Mapping[str, Any]) -> ReceivedMail:
    """Return the mail of the documented JSON: ``id``, ``from``, ``to``, ``subject``, ``text``, ``at``."""
    at = read_instant(event, "at")
    source = {"id": read_text(event, "id"), "subject": find_text(event, "subject")}
    return ReceivedMail(
        source["id"], _read_sender(event), _list_recipients(event), find_text(event, "text"), at, source
    )


def _read_resend(event: Mapping[str, Any]) -> ReceivedMail:
    """Return the mail of ``email.received``; raise ``Unreadable`` naming the field."""
    data = event.get("data")
    if not isinstance(data, dict):
        raise Unreadable("data", data, "an object with the mail")
    try:
        at = read_instant(data, "created_at")
        source = {"email_id": read_text(data, "email_id"), "subject": find_text(data, "subject")}
        sender = _read_sender(data)
    except Unreadable as fault:
        raise fault.within("data") from None
    return ReceivedMail(source["email_id"], sender, _list_recipients(data), "", at, source)


def _read_sender(fields: Mapping[str, Any]) -> str:
    sender = normalize_mail(read_text(fields, "from"))
    if not sender:
        raise Unreadable("from", fields["from"], "a mail address such as Ada <ada@example.com>")
    return sender


def _list_recipients(fields: Mapping[str, Any]) -> list[str]:
    """Return the addresses in ``to``, which is a header's text or a list of such texts."""
    to = fields.get("to")
    texts = [one for one in (to if isinstance(to, list) else [to]) if isinstance(one, str)]
    return normalize_all(address for _, address in getaddresses(texts))
