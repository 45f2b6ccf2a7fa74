"""Job ``weekly-owner-digest``: mails the owner the sales of the past week on Monday morning."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from services.closing.sale_items import SalesPeriod
from services.closing.sales import DaySales, TopSeller, name_customers, name_staff, sum_sales
from services.closing.tax_profile import find_profile_with_home
from services.closing.totals import stream_taxed
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.money import exponent_of
from services.jobs.handler import JobResult, JobRun
from services.jobs.schedule import day_bounds, period_bounds
from services.ledger.work import FollowUp
from services.mail.compose import compose_mail
from services.mail.formatting import change, money
from services.mail.message import MailType
from services.mail.outbox import record_mails
from services.shopify.backfill.state import count_unread_days
from services.shops.shops import Shop, get_shop_by_id

_TEXT_BAR = 24


def record_owner_digest(run: JobRun) -> JobResult:
    """Write the mail about the run's week, in days of the shop's zone, to the outbox, once.

    A week without sales has a mail too, because a missing mail would look like a fault. The result is
    ``no_owner_email`` if the shop has no address. The run's stats have the figures in both cases.
    """
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    begins, ends = period_bounds(run.covers, run.period, run.zone)
    first = begins.astimezone(run.zone).date()
    from_before, _ = day_bounds(run.zone, first - timedelta(days=7))
    with transaction() as tx:
        shop = get_shop_by_id(tx, run.shop_id)
        profile = find_profile_with_home(tx, shop.id)
        period = SalesPeriod(shop.id, from_before, ends, run.zone, profile)
        sales = sum_sales(stream_taxed(tx, period), first)
        days = sales.days()
        currency = choose_currency(shop.currency, days)
        context = plan_digest_context(
            first,
            currency,
            days,
            name_staff(tx, shop.id, sales.top_sellers("staff", currency)),
            name_customers(tx, shop.id, sales.top_sellers("customer", currency)),
            sales.top_sellers("sku", currency),
            count_unread_days(tx, shop.id, from_before, ends, run.zone),
        )
    sold: Counter[str] = Counter()
    for day in days:
        if day.day >= first:
            sold["orders"] += day.orders
            sold[f"net_{day.currency}_cents"] += day.net_cents
            if day.unpaid_cents:
                sold[f"unpaid_{day.currency}_cents"] += day.unpaid_cents
    if unread := context["unread_days"]:
        sold["days_not_read"] = unread
    stats = {"orders": 0, **dict(sorted(sold.items())), "mails": 1 if shop.owner_email else 0}
    if not shop.owner_email:
        return JobResult(stats=stats, result="no_owner_email")
    mail = compose_mail(OWNER_DIGEST_MAIL, context, shop=shop, recipient=shop.owner_email, period=run.period)
    return JobResult(
        stats=stats,
        record=lambda tx: FollowUp(record_mails(tx, [mail], utc_now(), request_id=run.request_id)),
    )


def choose_currency(shop_currency: str, days: Sequence[DaySales]) -> str:
    """Return the shop's currency if it has sales, else the one with the largest sales."""
    sold: Counter[str] = Counter()
    for day in days:
        sold[day.currency] += day.net_cents
    return shop_currency if shop_currency in sold or not sold else max(sorted(sold), key=sold.__getitem__)


def plan_digest_context(
    first: date,
    currency: str,
    days: Sequence[DaySales],
    staff: Sequence[TopSeller],
    customers: Sequence[TopSeller],
    skus: Sequence[TopSeller],
    unread_days: int = 0,
) -> dict[str, Any]:
    """Return the template context of ``owner_digest`` for the week that begins on ``first``, a Monday.

    ``days`` are of that week and the one before. Chart and ranking use ``currency``; others are only summed.
    """
    week = [day for day in days if day.day >= first]
    now = _add_up(day for day in week if day.currency == currency)
    before = _add_up(day for day in days if day.day < first and day.currency == currency)
    net, orders = now["net_cents"], now["orders"]
    others = sorted({day.currency for day in week} - {currency})
    # Without refunds, because most are of earlier orders.
    average = (net + now["refunded_cents"]) // orders if orders else 0
    return {
        "unread_days": unread_days,
        "first": first,
        "last": first + timedelta(days=6),
        "is_quiet": not any(day.orders or day.net_cents or day.refunded_cents for day in week),
        "revenue": money(net, currency),
        "revenue_before": money(before["net_cents"], currency),
        "revenue_change": _percent(net, before["net_cents"]),
        "difference": change(net - before["net_cents"], currency),
        "is_up": net >= before["net_cents"],
        "others": [money(sum(d.net_cents for d in week if d.currency == one), one) for one in others],
        "orders": orders,
        "orders_before": before["orders"],
        "average": money(average, currency) if orders else "",
        "unpaid": money(now["unpaid_cents"], currency) if now["unpaid_cents"] else "",
        "refunds": money(now["refunded_cents"], currency),
        "bars": plan_bars(first, currency, days),
        "tops": [
            {
                "title": title,
                "none": none,
                "rows": [_row(*placed, currency) for placed in enumerate(top_sellers, 1)],
            }
            for title, none, top_sellers in (
                ("Top mechanic", "No order of the week names who served it.", staff),
                ("Top customer", "No order of the week names a customer.", customers),
                ("Top SKU", "Nothing with a SKU was sold.", skus),
            )
        ],
    }


def _add_up(days: Iterable[DaySales]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for day in days:
        for name in ("net_cents", "refunded_cents", "unpaid_cents", "orders"):
            sums[name] += getattr(day, name)
    return sums


def plan_bars(first: date, currency: str, days: Sequence[DaySales]) -> list[dict[str, Any]]:
    """Return seven days, each with a bar of this week and of the week before, relative to the longest.

    A width is a whole percentage, at least 1 if anything was sold; ``text`` is the bar in characters.
    """
    sold: Counter[date] = Counter()
    for day in days:
        if day.currency == currency:
            sold[day.day] += day.net_cents
    longest = max([*sold.values(), 1])
    bars = []
    for place in range(7):
        today = first + timedelta(days=place)
        now, before = sold[today], sold[today - timedelta(days=7)]
        bars.append(
            {
                "day": f"{today:%a}",
                "amount": money(now, currency),
                "amount_before": money(before, currency),
                "width": _scale(now, longest, 100),
                "width_before": _scale(before, longest, 100),
                "text": ("#" * _scale(now, longest, _TEXT_BAR)).ljust(_TEXT_BAR, "."),
                "text_before": ("=" * _scale(before, longest, _TEXT_BAR)).ljust(_TEXT_BAR, "."),
            }
        )
    return bars


def _scale(cents: int, longest: int, whole: int) -> int:
    return max(1, cents * whole // longest) if cents > 0 else 0


def _percent(now: int, before: int) -> str:
    """Return the change such as "+12%". Empty if the week before had no sales."""
    if before <= 0:
        return ""
    percent = (200 * (now - before) + before) // (2 * before)
    return f"{percent:+d}%".replace("-", "\N{MINUS SIGN}")


def _row(place: int, top: TopSeller, currency: str) -> dict[str, Any]:
    known_by = "" if top.label == top.name or top.name.endswith(top.label) else top.label
    return {
        "place": place,
        "name": top.name,
        "label": "" if known_by.isdecimal() or known_by.startswith("user:") else known_by,
        "amount": money(top.net_cents, currency),
        "orders": top.orders,
        "pieces": top.pieces,
    }


def _sample(shop: Shop | None, now: datetime) -> Mapping[str, Any]:
    currency = shop.currency if shop else "CAD"
    unit = 10 ** exponent_of(currency)
    first = now.date() - timedelta(days=now.date().weekday() + 7)
    sold = (412, 388, 530, 467, 905, 1_240, 0)
    before = (398, 402, 350, 515, 744, 980, 120)
    days = [
        DaySales(currency, first + timedelta(days=place - 7 * back), amount * unit, 0, amount // 60)
        for back, amounts in ((1, before), (0, sold))
        for place, amount in enumerate(amounts)
        if amount
    ]
    days[-1] = days[-1]._replace(refunded_cents=95 * unit)
    return plan_digest_context(
        first,
        currency,
        days,
        [TopSeller("Dana", "Dana", 1_610 * unit, 31, 22), TopSeller("Miguel", "Miguel", 1_204 * unit, 25, 19),
         TopSeller("user:4711", "Staff 4711", 640 * unit, 12, 9)],
        [TopSeller("7001", "Robin Ames", 720 * unit, 3, 2), TopSeller("7002", "Kai Lund", 415 * unit, 6, 1)],
        [TopSeller("TUNE-STD", "Standard tune-up", 1_080 * unit, 12, 12),
         TopSeller("CHAIN-11", "Chain, 11-speed", 539 * unit, 11, 10),
         TopSeller("TUBE-700", "Inner tube 700c", 198 * unit, 22, 18)],
    )  # fmt: skip


OWNER_DIGEST_MAIL = MailType(
    name="owner_digest",
    package="services.closing",
    about="the week: revenue and best sellers, compared with the week before",
    reader="shop owner",
    why="You get this because you own this shop: every Monday morning. Your operator can stop it.",
    sample=_sample,
)
