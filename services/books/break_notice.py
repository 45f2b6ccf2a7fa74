"""The owner is told where a day does not agree with Stripe: one mail a day, by way of the outbox."""

from datetime import date, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.books.break_facts import KIND, OpenBreak, plan_break_attachments, plan_break_facts
from services.ledger.work import NewWork
from services.mail.compose import compose
from services.mail.outbox import record_mails


class _Shop(NamedTuple):
    """What a mail needs to know of its shop."""

    id: int
    slug: str
    name: str
    currency: str
    timezone: str
    owner_email: str

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


_FIND_SHOP = """
select s.id, s.slug, s.name, s.currency, s.timezone, coalesce(c.owner_email, '')
  from shops s left join shop_config c on c.shop_id = s.id where s.id = %(shop_id)s
"""

_FIND_BREAKS = """
select kind, provider_id, ours, theirs from reconciliation_breaks
 where shop_id = %(shop_id)s and day = %(day)s and closed_at is null order by provider_id, kind
"""


def record_break_mail(
    tx: Connection, shop_id: int, day: date, now: datetime, *, request_id: str = ""
) -> list[NewWork]:
    """The mail about the day's open breaks is in the outbox; return the work that sends it.

    None where the day has no open breaks, the shop has no owner's address, or that owner was told of this
    day before: a run that is repeated tells nobody twice.
    """
    scope = {"shop_id": shop_id, "day": day}
    shop = _Shop(*tx.exec_driver_sql(_FIND_SHOP, scope).one())
    breaks = [OpenBreak(*row) for row in tx.exec_driver_sql(_FIND_BREAKS, scope)]
    if not breaks or not shop.owner_email:
        return []
    mail = compose(
        KIND,
        plan_break_facts(day, breaks),
        shop=shop,
        recipient=shop.owner_email,
        period=day.isoformat(),
        attachments=plan_break_attachments(day, breaks),
    )
    return record_mails(tx, [mail], now, request_id=request_id)
