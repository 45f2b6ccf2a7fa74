"""Job ``weekly-owner-digest``: mails the owner the sales of the past week on Monday morning."""

from collections import Counter
from datetime import date, datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from services.closing.digest_context import OWNER_DIGEST_MAIL, plan_digest_context
from services.closing.inputs import find_profile_at_home
from services.closing.items import SalesPeriod
from services.closing.sales import DaySales, Sales, name_customers, name_staff, sum_sales
from services.closing.totals import stream_taxed
from services.core.clock import utc_now
from services.core.db import transaction
from services.jobs.handler import JobResult, Run
from services.jobs.schedule import day_bounds, period_bounds
from services.ledger.work import FollowUp
from services.mail.compose import compose
from services.mail.message import Mail
from services.mail.outbox import record_mails
from services.shops.shops import get_shop_by_id


def send_digest(run: Run) -> JobResult:
    """Write the mail about the run's week, in days of the shop's zone, to the outbox, once.

    A week without sales has a mail too: its absence would look like a fault. The result is ``no_owner_email``
    if the shop has no address; the figures are in the run's stats either way.
    """
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    begins, ends = period_bounds(run.covers, run.period, run.zone)
    first = begins.astimezone(run.zone).date()
    from_before, _ = day_bounds(run.zone, first - timedelta(days=7))
    with transaction() as tx:
        shop = get_shop_by_id(tx, run.shop_id)
        sales = read_sales(tx, run, from_before, ends, first)
        days = sales.days()
        currency = choose_currency(shop.currency, days)
        context = plan_digest_context(
            first,
            currency,
            days,
            name_staff(tx, shop.id, sales.tops("staff", currency)),
            name_customers(tx, shop.id, sales.tops("customer", currency)),
            sales.tops("sku", currency),
        )
    of_week = [day for day in days if day.day >= first]
    stats: dict[str, int | float | str] = {
        "orders": sum(day.orders for day in of_week),
        **_totals(of_week),
        "mails": 1 if shop.owner_email else 0,
    }
    if not shop.owner_email:
        return JobResult(stats=stats, result="no_owner_email")
    mail = compose(OWNER_DIGEST_MAIL, context, shop=shop, recipient=shop.owner_email, period=run.period)
    return JobResult(stats=stats, record=partial(_record, mail, run.request_id))


def read_sales(tx: Connection, run: Run, begins: datetime, ends: datetime, tops_since: date) -> Sales:
    """Return the sales of [``begins``, ``ends``), from the items and by the rules of the month close."""
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    profile = find_profile_at_home(tx, run.shop_id)
    span = SalesPeriod(run.shop_id, begins, ends, profile.province, profile.exempt_array)
    return sum_sales(stream_taxed(tx, span, run.zone, profile), tops_since)


def choose_currency(own: str, days: list[DaySales]) -> str:
    """Return the shop's own currency if it has sales, else the one with the largest sales."""
    sold: Counter[str] = Counter()
    for day in days:
        sold[day.currency] += day.net_cents
    return own if own in sold or not sold else max(sorted(sold), key=sold.__getitem__)


def _totals(days: list[DaySales]) -> dict[str, int]:
    sold: Counter[str] = Counter()
    for day in days:
        sold[f"net_{day.currency}_cents"] += day.net_cents
        if day.unpaid_cents:
            sold[f"unpaid_{day.currency}_cents"] += day.unpaid_cents
    return dict(sorted(sold.items()))


def _record(mail: Mail, request_id: str, tx: Connection) -> FollowUp:
    return FollowUp(record_mails(tx, [mail], utc_now(), request_id=request_id))
