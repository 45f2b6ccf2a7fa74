"""The mail about a day in which something is wrong: breaks, low stock, or an altered audit record."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection

from services.audit.diagnose import AuditFinding
from services.core.counts import format_count
from services.core.csv_files import CSV_TYPE, csv_file
from services.jobs.handler import JobRun
from services.ledger.work import NewWork
from services.mail.compose import compose_mail
from services.mail.formatting import change, money
from services.mail.message import Attachment, MailType
from services.mail.outbox import record_mails
from services.payments.breaks import PaymentBreak, describe_cause
from services.shopify.stock.low_stock import LowStock
from services.shops.shops import Shop, get_shop_by_id

Side = Mapping[str, Any]

MAX_MAILED = 20_000
"""Breaks of one day. With more, the attachment would be larger than mail servers accept."""

MAX_SHOWN = 32
"""Payments in the mail itself, the largest first: Gmail cuts a mail off after 102 KB."""

_WHAT = {
    "missing_here": "Stripe has this payment, our books do not",
    "missing_there": "Our books have this payment, Stripe does not",
    "amount": "The amounts differ",
    "currency": "The currencies differ",
    "status": "The states differ",
    "duplicate": "The customer seems to have paid twice",
    "fee": "Stripe’s fee is not the expected one",
    "unreadable": "Stripe’s entry cannot be read, so it was not compared",
}

_PAGES = {"charge": "payments/", "dispute": "disputes/", "payout": "payouts/"}
"""Pages of Stripe's dashboard; other objects are found by its search."""

_UNMOVED = ("failed", "pending", "canceled", "expired", "uncaptured", "requires_action", "prevented")
"""Statuses in which no money moved."""

_SIGNS = {"charge": 1, "refund": -1, "dispute": -1}
"""How each subject changes the money that the shop was paid. A payout does not change it."""

MAX_LEVELS_SHOWN = 25


def _find_value(side: str, field: str, found: PaymentBreak) -> object:
    return (getattr(found, side) or {}).get(field)


_COLUMNS: Mapping[str, Callable[[PaymentBreak], object]] = {
    "payment": attrgetter("provider_id"),
    "difference": attrgetter("kind"),
    **{
        f"{owner}_{column}": partial(_find_value, side, field)
        for owner, side in (("our", "ours"), ("stripe", "theirs"))
        for column, field in (("minor_units", "amount_cents"), ("currency", "currency"), ("status", "status"))
    },
}


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
    run: JobRun,
    day: date,
    breaks: Sequence[PaymentBreak],
    newly_low: Sequence[LowStock],
    low: Sequence[LowStock],
    findings: Sequence[AuditFinding],
    *,
    now: datetime,
) -> list[NewWork]:
    """Write the mail about the day to the outbox; return the work that sends it.

    There is no mail without breaks, audit findings or newly low stock, without an owner's address, or if the
    owner already has the mail of this day.
    """
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    shop = get_shop_by_id(tx, run.shop_id)
    if not shop.owner_email or not (breaks or findings or newly_low):
        return []
    mail = compose_mail(
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
        parts.append(format_count(payments, "payment differs", "payments differ"))
    if low:
        parts.append(format_count(low, "SKU runs low", "SKUs run low"))
    if is_altered:
        parts.append("the audit record needs a check")
    text = ", ".join(parts)
    return text[:1].upper() + text[1:]


def _cover(one: LowStock) -> str:
    """Return how long the stock lasts at the sales of the last 30 days."""
    if one.days_cover is None:
        return "none sold in 30 days"
    if one.available <= 0:
        return f"none left, {one.sold_30d:,} sold in 30 days"
    days = int(one.days_cover)
    return "lasts less than a day" if days < 1 else f"lasts about {format_count(days, 'day')}"


def plan_break_context(day: date, breaks: Sequence[PaymentBreak]) -> dict[str, Any]:
    """Return the template context of the breaks of a shop's ``day``.

    Several breaks of one payment (of its amount and its status, for example) are one entry. ``nets`` is the
    money paid at Stripe less the money recorded, per currency.
    """
    ordered = sorted(breaks, key=attrgetter("provider_id", "kind"))
    payments = [list(group) for _, group in groupby(ordered, key=attrgetter("provider_id"))]
    sums: Counter[str] = Counter()
    for first, *others in payments:
        if "unreadable" not in (first.kind, *(found.kind for found in others)):
            sign = _SIGNS.get(first.subject, 0)
            for side, direction in ((first.theirs, 1), (first.ours, -1)):
                if side is not None:
                    sums[side["currency"]] += direction * sign * _paid(side)
    largest = sorted(payments, key=lambda each: -max(_size(each[0].ours), _size(each[0].theirs)))
    return {
        "day": day,
        "count": len(payments),
        "charges": [_payment_context(*payment) for payment in largest[:MAX_SHOWN]],
        "more": max(0, len(payments) - MAX_SHOWN),
        "nets": [change(minor, currency) for currency, minor in sorted(sums.items())],
    }


def plan_break_attachments(day: date, breaks: Sequence[PaymentBreak]) -> tuple[Attachment, ...]:
    """Return all breaks as one CSV file if the mail itself cannot show them all; else nothing."""
    if len({found.provider_id for found in breaks}) <= MAX_SHOWN:
        return ()
    content = b"".join(csv_file(_COLUMNS, breaks))
    return (Attachment(name=f"breaks-{day.isoformat()}.csv", content_type=CSV_TYPE, content=content),)


def _payment_context(first: PaymentBreak, *others: PaymentBreak) -> dict[str, str]:
    recorded, stripe, cause = first.ours, first.theirs, first.cause
    kinds = tuple(found.kind for found in (first, *others))
    what = "; ".join(_WHAT.get(kind, kind) for kind in kinds)
    page = _PAGES.get(first.subject, "search?query=")
    return {
        "provider_id": first.provider_id,
        "url": f"https://dashboard.stripe.com/{page}{quote(first.provider_id, safe='')}",
        "what": what[:1] + what[1:].replace("; The", "; the"),
        "recorded": _amount(recorded),
        "recorded_status": recorded["status"] if recorded else "",
        "stripe": _amount(stripe),
        "stripe_status": stripe["status"] if stripe else "",
        "difference": _difference(kinds, recorded, stripe),
        "cause": describe_cause(cause).reason if cause else "",
    }


def _difference(kinds: tuple[str, ...], recorded: Side | None, stripe: Side | None) -> str:
    if "unreadable" in kinds:
        return "not compared"
    if recorded and stripe and kinds == ("fee",):
        return change(stripe["fee_cents"] - recorded["fee_cents"], stripe["currency"])
    if recorded and stripe and recorded["currency"] != stripe["currency"]:
        return "other currency"
    if recorded and stripe and recorded["status"] == stripe["status"]:
        return change(stripe["amount_cents"] - recorded["amount_cents"], recorded["currency"])
    currency = (recorded or stripe or {})["currency"]
    return change(_paid(stripe) - _paid(recorded), currency)


def _amount(side: Side | None) -> str:
    if side is None:
        return "nothing"
    fee = f", fee {money(side['fee_cents'], side['currency'])}" if "fee_cents" in side else ""
    return f"{money(side['amount_cents'], side['currency'])}{fee}"


def _paid(side: Side | None) -> int:
    if side is None or side["status"] in _UNMOVED or side["status"].startswith("warning"):
        return 0
    return int(side["amount_cents"])


def _size(side: Side | None) -> int:
    return 0 if side is None else abs(int(side["amount_cents"]))


def sample_break(
    kind: str, provider_id: str, recorded: Side | None, stripe: Side | None, cause: str = ""
) -> PaymentBreak:
    found_at = datetime(2026, 11, 21, tzinfo=UTC)
    return PaymentBreak(kind, "charge", provider_id, recorded, stripe, found_at, cause=cause)


def _sample(shop: Shop | None, now: datetime) -> Mapping[str, Any]:
    currency = shop.currency if shop else "CAD"

    def side(minor: int, status: str = "paid") -> Side:
        return {"amount_cents": minor, "currency": currency, "status": status}

    breaks = [
        sample_break("missing_here", "ch_3QK8fT2eZvKYlo2C1gX0aTnq", None, side(12_900), cause="lost_webhook"),
        sample_break("amount", "ch_3QK8hB2eZvKYlo2C0mPq7cWd", side(124_950), side(119_950)),
        sample_break("status", "ch_3QK8kR2eZvKYlo2C1uYb3dSs", side(4_800), side(4_800, "failed")),
    ]
    low = [
        LowStock("TUBE-700", "Inner tube 700c", 1, "Workshop", 4, 20, 88, Decimal("1.4")),
        LowStock("CHAIN-11", "Chain, 11-speed", 1, "Workshop", 0, 5, 11, Decimal(0)),
        LowStock("BELL-BR", "Brass bell", 2, "Main Street", 2, 3, 0, None),
    ]
    return plan_anomaly_context(now.date() - timedelta(days=1), breaks, low, low * 2, [])


DAILY_ANOMALIES_MAIL = MailType(
    name="daily_anomalies",
    package="services.closing",
    about="a day with something wrong: payments that differ from Stripe, stock that runs low",
    reader="shop owner",
    why="You get this because your shop’s day is checked every night. "
    "One mail for each day with something wrong, none for a day that is fine.",
    sample=_sample,
)
