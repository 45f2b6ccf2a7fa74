"""The mail about a day in which something is wrong: its template context, and its way into the outbox."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from services.audit.diagnose import AuditFinding
from services.jobs.handler import Run
from services.ledger.work import NewWork
from services.mail.compose import compose
from services.mail.mail_types import MailShop, MailType
from services.mail.outbox import record_mails
from services.payments.break_mail import plan_break_attachments, plan_break_context, sample_breaks
from services.payments.breaks import PaymentBreak
from services.shopify.stock.low_stock import LowStock
from services.shops.shops import get_shop_by_id

MAX_LEVELS_SHOWN = 25


def plan_anomaly_context(
    day: date,
    breaks: Sequence[PaymentBreak],
    newly_low: Sequence[LowStock],
    low: Sequence[LowStock],
    findings: Sequence[AuditFinding],
) -> dict[str, Any]:
    """Return the context of ``daily_anomalies``; ``newly_low`` are those of ``low`` not reported before."""
    payments = plan_break_context(day, breaks)
    return payments | {
        "low": [
            {
                "sku": one.sku,
                "title": one.title,
                "where": one.location,
                "available": f"{one.available:,}",
                "reorder_point": f"{one.reorder_point:,}",
                "cover": _cover(one),
            }
            for one in newly_low[:MAX_LEVELS_SHOWN]
        ],
        "low_more": max(0, len(newly_low) - MAX_LEVELS_SHOWN),
        "low_all": len(low),
        "is_altered": bool(findings),
        "headline": _headline(payments["count"], len(newly_low), is_altered=bool(findings)),
    }


def record_anomaly_mail(
    tx: Connection,
    run: Run,
    day: date,
    breaks: Sequence[PaymentBreak],
    newly_low: Sequence[LowStock],
    low: Sequence[LowStock],
    findings: Sequence[AuditFinding],
    *,
    now: datetime,
) -> list[NewWork]:
    """Write the mail about the day to the outbox; return the work that sends it.

    There is none without breaks, audit findings or newly low stock, without an owner's address, or if the
    owner got the mail of this day before.
    """
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    shop = get_shop_by_id(tx, run.shop_id)
    if not shop.owner_email or not (breaks or findings or newly_low):
        return []
    mail = compose(
        DAILY_ANOMALIES_MAIL,
        plan_anomaly_context(day, breaks, newly_low, low, findings),
        shop=shop,
        recipient=shop.owner_email,
        period=run.period,
        attachments=plan_break_attachments(day, breaks),
    )
    return record_mails(tx, [mail], now, request_id=run.request_id)


def _headline(payments: int, low: int, *, is_altered: bool) -> str:
    """Return the day in one line: "2 payments differ, 1 SKU runs low"."""
    parts = []
    if payments:
        parts.append(f"{payments:,} {'payment differs' if payments == 1 else 'payments differ'}")
    if low:
        parts.append(f"{low:,} {'SKU runs' if low == 1 else 'SKUs run'} low")
    if is_altered:
        parts.append("the audit record needs a look")
    text = ", ".join(parts)
    return text[:1].upper() + text[1:]


def _cover(one: LowStock) -> str:
    """Return how long the stock lasts at the sales of the last 30 days."""
    if one.days_cover is None:
        return "none sold in 30 days"
    if one.available <= 0:
        return f"none left, {one.sold_30d:,} sold in 30 days"
    days = int(one.days_cover)
    return "lasts less than a day" if days < 1 else f"lasts about {days:,} {'day' if days == 1 else 'days'}"


def _sample(shop: MailShop | None, now: datetime) -> Mapping[str, Any]:
    low = [
        LowStock("TUBE-700", "Inner tube 700c", 1, "Workshop", 4, 20, 88, Decimal("1.4")),
        LowStock("CHAIN-11", "Chain, 11-speed", 1, "Workshop", 0, 5, 11, Decimal(0)),
        LowStock("BELL-BR", "Brass bell", 2, "Main Street", 2, 3, 0, None),
    ]
    return plan_anomaly_context(
        now.date() - timedelta(days=1), sample_breaks(shop.currency if shop else "CAD"), low, low * 2, []
    )


DAILY_ANOMALIES_MAIL = MailType(
    name="daily_anomalies",
    package="services.closing",
    about="a day with something amiss: payments that differ from Stripe, stock that runs low",
    reader="shop owner",
    why="You get this because your shop’s day is checked every night. "
    "One mail for each day with something amiss, none for a day that is fine.",
    sample=_sample,
)
