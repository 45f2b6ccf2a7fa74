"""``/mails/<id>``: one mail of the outbox, masked until an admin of the shop unmasks it."""

from typing import Any

from flask import render_template
from sqlalchemy import Connection, Row

from services.accounts.mails import ACCOUNT_MAIL
from services.accounts.roles import Role
from services.console.mail_lists import HIDDEN_SUBJECT
from services.console.row_actions import audit_unmask, check_shop, find_row
from services.core.db import transaction
from services.core.log_redaction import redact_text
from services.mail.outbox_admin import MailContent, find_mail_content, get_mail, list_mail_events
from services.providers.outgoing_mail import mask_address
from services.shops.shops import find_slugs

SECRET_KINDS = frozenset({ACCOUNT_MAIL.name})
"""Kinds of mail with a link that signs a person in: nobody reads their text here."""
_FACTS = (
    "kind", "period", "transport", "attempt", "message_id", "provider_id", "created_at", "handed_over_at",
    "sent_at", "delivered_at", "bounced_at", "complained_at", "emptied_at", "next_retry_at",
)  # fmt: skip


def show_mail(number: int, *, is_open: bool = False) -> str:
    """Return the page; ``is_open``: with address, subject, headers and text."""
    with transaction() as tx:
        row = find_row(lambda: get_mail(tx, number))
        check_shop(row.shop_id)
        slugs, document = find_slugs(tx), describe_mail(tx, row)
        content = find_mail_content(tx, number)
    return render_template(
        "mail.html",
        title=f"Mail {number}",
        row=row,
        shop="fleet" if row.shop_id is None else slugs.get(row.shop_id, ""),
        is_red=row.is_stuck or row.status == "refused",
        facts={name: getattr(row, name) for name in _FACTS},
        mail=document,
        content=content if is_open else None,
        headers=content.headers if is_open else dict.fromkeys(content.headers, "•••"),
        parts=content.parts if is_open else [part._replace(name="•••") for part in content.parts],
        can_unmask=not is_open and can_unmask(row, content),
        is_secret=row.kind in SECRET_KINDS,
    )


def unmask_mail(number: int) -> str:
    """Return the page unmasked, which is audited; still masked for a mail that signs a person in."""
    with transaction() as tx:
        row = find_row(lambda: get_mail(tx, number))
        check_shop(row.shop_id, Role.ADMIN)
        is_open = can_unmask(row, find_mail_content(tx, number))
        if is_open:
            audit_unmask(tx, row.shop_id, "mail_outbox", number)
    return show_mail(number, is_open=is_open)


def can_unmask(row: Row[Any], content: MailContent) -> bool:
    """Return whether there is a text that an admin may read."""
    return row.kind not in SECRET_KINDS and bool(content.text)


def describe_result(row: Row[Any]) -> str:
    """Return the state of the list of mails."""
    later = ("complained", "bounced", "delivered")
    return next((name for name in later if getattr(row, f"{name}_at")), str(row.status))


def describe_mail(tx: Connection, row: Row[Any]) -> dict[str, Any]:
    """Return what everybody who may see the shop sees: addresses are masked, in messages of servers too."""
    events = list_mail_events(tx, row.id)
    return {
        "recipient": mask_address(row.recipient),
        "subject": HIDDEN_SUBJECT if row.is_commercial else row.subject,
        "last_error": redact_text(row.last_error) if row.last_error else None,
        "is_stuck": row.is_stuck,
        "work_id": row.work_id,
        "events": [one | {"detail": redact_text(one["detail"])} for one in events],
    }
