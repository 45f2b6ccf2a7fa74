"""The owner is told of a day only where something is amiss: one mail a day, by way of the outbox."""

from collections.abc import Sequence

from sqlalchemy import Connection

from services.closing.daily_mail_context import DAILY_ANOMALIES_MAIL, plan_anomaly_context
from services.closing.daily_summary import DailySummary, LowStockKey
from services.ledger.work import NewWork
from services.mail.compose import compose
from services.mail.outbox import record_mails
from services.payments.break_mail import plan_break_attachments
from services.payments.breaks import PaymentBreak
from services.shops.shops import get_shop_by_id


def record_anomaly_mail(
    tx: Connection,
    shop_id: int,
    summary: DailySummary,
    breaks: Sequence[PaymentBreak],
    known_low: set[LowStockKey],
    *,
    request_id: str = "",
) -> list[NewWork]:
    """The mail about the day is in the outbox; return the work that sends it.

    None where there are no breaks, the chain is whole and nothing has newly run low; where the shop has
    no owner's address; or where that owner was told of this day before.
    """
    newly_low = [one for one in summary.low_stock or () if (one.sku, one.location_id) not in known_low]
    shop = get_shop_by_id(tx, shop_id)
    if not shop.owner_email or not (breaks or summary.findings or newly_low):
        return []
    mail = compose(
        DAILY_ANOMALIES_MAIL,
        plan_anomaly_context(summary.day, breaks, newly_low, summary.low_stock or (), summary.findings),
        shop=shop,
        recipient=shop.owner_email,
        period=summary.day.isoformat(),
        attachments=plan_break_attachments(summary.day, breaks),
    )
    return record_mails(tx, [mail], summary.at, request_id=request_id)
