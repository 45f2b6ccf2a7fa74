"""Topic ``reconciliation_mail``: the shop's owner is told where a day does not agree with Stripe."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from email.message import EmailMessage
from functools import partial

from sqlalchemy import Connection

from services.books.break_letter import OpenBreak, compose_break_mail
from services.core.errors import Refused, WorkError
from services.core.settings import get_settings
from services.ledger.work import Done, Outcome, Prepared, WorkItem
from services.mail.smtp import send_mail

Send = Callable[[str, EmailMessage], None]
"""Hands a mail to the server behind a URL."""

_FIND_SHOP = """
select s.name, coalesce(c.owner_email, '') from shops s left join shop_config c on c.shop_id = s.id
 where s.id = %(shop_id)s
"""

_FIND_BREAKS = """
select kind, provider_id, ours, theirs from reconciliation_breaks
 where shop_id = %(shop_id)s and day = %(day)s and closed_at is null order by provider_id, kind
"""


class BreakMail:
    """Composes and sends the mails."""

    def __init__(self, send: Send = send_mail) -> None:
        self._send = send

    def prepare(
        self, tx: Connection, items: Sequence[WorkItem], now: datetime
    ) -> Sequence[Prepared | Outcome]:
        """Return, per item, the mail to send, listing the breaks that are open now.

        ``no_breaks`` where all are closed meanwhile; ``no_recipient`` where the shop has no owner's mail.
        """
        return [self._prepare_one(tx, item, now) for item in items]

    def _prepare_one(self, tx: Connection, item: WorkItem, now: datetime) -> Prepared | Outcome:
        asked = item.payload.get("day")
        try:
            day = date.fromisoformat(asked)  # type: ignore[arg-type] # what is not text is refused here
        except (TypeError, ValueError):
            return Refused("reconcile.no_day", f"day is {asked!r}: it should be like 2026-11-20")
        scope = {"shop_id": item.shop_id, "day": day}
        name, owner = tx.exec_driver_sql(_FIND_SHOP, scope).one()
        breaks = [OpenBreak(*row) for row in tx.exec_driver_sql(_FIND_BREAKS, scope)]
        if not breaks:
            return Done("no_breaks")
        if not owner:
            return Done("no_recipient")
        settings = get_settings()
        message = compose_break_mail(
            work_id=item.id,
            shop=name,
            day=day,
            breaks=breaks,
            to=owner,
            sender=settings.mail_from,
            now=now,
        )
        return Prepared(item=item, act=partial(self._send_one, settings.smtp_url, message))

    def _send_one(self, url: str, message: EmailMessage) -> Outcome:
        try:
            self._send(url, message)
        except WorkError as fault:
            return fault
        return Done("sent")
