"""The template context of the owner's weekly mail. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from services.closing.sales import DaySales, TopSeller
from services.core.money import format_minor
from services.mail.formatting import change, money
from services.mail.mail_types import MailShop, MailType

_TEXT_BAR = 24


def plan_digest_context(
    first: date,
    currency: str,
    days: Sequence[DaySales],
    staff: Sequence[TopSeller],
    customers: Sequence[TopSeller],
    skus: Sequence[TopSeller],
) -> dict[str, Any]:
    """Return the template context of ``owner_digest`` for the week that begins on ``first``, a Monday.

    ``days`` are of that week and the one before. ``currency`` is charted and ranked; others are only summed.
    """
    week = [day for day in days if day.day >= first]
    before = [day for day in days if day.day < first]
    net, net_before = _sum(week, currency), _sum(before, currency)
    orders = sum(day.orders for day in week if day.currency == currency)
    orders_before = sum(day.orders for day in before if day.currency == currency)
    unpaid = sum(day.unpaid_cents for day in week if day.currency == currency)
    others = sorted({day.currency for day in week} - {currency})
    return {
        "first": first,
        "last": first + timedelta(days=6),
        "is_quiet": not any(day.orders or day.net_cents or day.refunded_cents for day in week),
        "revenue": money(net, currency),
        "revenue_before": money(net_before, currency),
        "revenue_change": _percent(net, net_before),
        "difference": change(net - net_before, currency),
        "is_up": net >= net_before,
        "others": [money(_sum(week, other), other) for other in others],
        "orders": orders,
        "orders_before": orders_before,
        "average": money(_average(week, net, orders, currency), currency) if orders else "",
        "unpaid": money(unpaid, currency) if unpaid else "",
        "refunds": money(sum(d.refunded_cents for d in week if d.currency == currency), currency),
        "bars": plan_bars(first, currency, days),
        "tops": [
            _top("Top mechanic", "No order of the week names who served it.", staff, currency),
            _top("Top customer", "No order of the week names a customer.", customers, currency),
            _top("Top SKU", "Nothing with a SKU was sold.", skus, currency),
        ],
    }


def plan_bars(first: date, currency: str, days: Sequence[DaySales]) -> list[dict[str, Any]]:
    """Return seven days, each with a bar of this week and of the week before, relative to the longest.

    A width is a whole percentage, at least 1 if anything was sold; ``text`` is the bar in letters.
    """
    sold: Counter[date] = Counter()
    for day in days:
        if day.currency == currency:
            sold[day.day] += day.net_cents
    longest = max([*sold.values(), 1])
    bars = []
    for place in range(7):
        today = first + timedelta(days=place)
        now, then = sold[today], sold[today - timedelta(days=7)]
        bars.append(
            {
                "day": f"{today:%a}",
                "amount": money(now, currency),
                "amount_before": money(then, currency),
                "width": _part(now, longest, 100),
                "width_before": _part(then, longest, 100),
                "text": ("#" * _part(now, longest, _TEXT_BAR)).ljust(_TEXT_BAR, "."),
                "text_before": ("=" * _part(then, longest, _TEXT_BAR)).ljust(_TEXT_BAR, "."),
            }
        )
    return bars


def _part(cents: int, longest: int, whole: int) -> int:
    return max(1, cents * whole // longest) if cents > 0 else 0


def _sum(days: Sequence[DaySales], currency: str) -> int:
    return sum(day.net_cents for day in days if day.currency == currency)


def _average(week: Sequence[DaySales], net: int, orders: int, currency: str) -> int:
    """Return the average order before refunds: most refunds are of earlier orders."""
    gross = net + sum(day.refunded_cents for day in week if day.currency == currency)
    return gross // orders


def _percent(now: int, then: int) -> str:
    """Return the change such as "+12%". Empty if the week before had no sales."""
    if then <= 0:
        return ""
    percent = (200 * (now - then) + then) // (2 * then)
    return f"{percent:+d}%".replace("-", "\N{MINUS SIGN}")


def _top(title: str, none: str, tops: Sequence[TopSeller], currency: str) -> dict[str, Any]:
    rows = [_row(place, top, currency) for place, top in enumerate(tops, start=1)]
    return {"title": title, "none": none, "rows": rows}


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


def _sample(shop: MailShop | None, now: datetime) -> Mapping[str, Any]:
    currency = shop.currency if shop else "CAD"
    exponent = len(format_minor(0, currency).split(" ")[0].partition(".")[2])
    unit = 10**exponent
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
    about="the week: revenue, who and what sold best, the week before beside it",
    reader="shop owner",
    why="You get this because you own this shop: every Monday morning. Your operator can stop it.",
    sample=_sample,
)
