"""The text of an owner's weekly letter, written from the record of the week. A person may change it."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.alerts.rules import RULES
from services.closing.sale_items import SalesPeriod
from services.closing.sales import sum_sales
from services.closing.tax_profile import find_profile_with_home
from services.closing.totals import stream_taxed
from services.core.counts import format_count
from services.mail.formatting import day, moment, money, one_line, span
from services.shopify.backfill.state import count_unread_days
from services.shops.shops import Shop

MOST_INCIDENTS = 5
"""Incidents that a letter describes; the others are counted."""
_MOST_ACTIONS = 3
_ACTION_CHARACTERS = 300
CLOSING = "Anything you need? Reply to this mail."

# Of incidents of the whole fleet no notes are read: they may name other shops.
_FIND_INCIDENTS = """
select i.rule, i.severity, i.opened_at, i.resolved_at, i.shop_id,
       coalesce(i.resolved_reason, '') as resolved_reason,
       array(select e.text from incident_entries e
              where e.incident_id = i.id and e.kind in ('note', 'action') order by e.id) as actions
  from incidents i
 where (i.shop_id = %(shop_id)s or i.shop_id is null and i.severity < 'P3')
   and i.opened_at < %(ends)s and coalesce(i.resolved_at, 'infinity') >= %(begins)s
 order by i.severity, i.opened_at, i.id
"""
_COUNT_BREAKS = """
select count(*) filter (where found_at >= %(begins)s) as found,
       count(*) filter (where closed_at is null or closed_at >= %(ends)s) as open
  from reconciliation_breaks where shop_id = %(shop_id)s and found_at < %(ends)s
"""
_FIND_PLANNED = """
select planned_on, text from planned_changes
 where (shop_id is null or shop_id = %(shop_id)s) and planned_on >= %(today)s order by planned_on, id
"""


class Problem(NamedTuple):
    """An incident as an owner reads it. ``ended_at`` None: it goes on. ``actions``: what people did."""

    about: str
    severity: str
    began_at: datetime
    ended_at: datetime | None
    actions: Sequence[str] = ()


class WeekRecord(NamedTuple):
    """What is recorded about a shop's week: sales by currency in minor units, and whole counts."""

    shop_name: str
    first: date
    zone: ZoneInfo
    orders: int
    sold: Mapping[str, int]
    problems: Sequence[Problem]
    breaks_found: int
    breaks_open: int
    unread_days: int
    planned: Sequence[tuple[date, str]]


def read_week(
    tx: Connection, shop: Shop, begins: datetime, ends: datetime, zone: ZoneInfo, now: datetime
) -> WeekRecord:
    """Return the record of the week from ``begins`` to ``ends``, and what is planned from today on."""
    values: dict[str, Any] = {"shop_id": shop.id, "begins": begins, "ends": ends}
    values["today"] = now.astimezone(zone).date()
    first = begins.astimezone(zone).date()
    period = SalesPeriod(shop.id, begins, ends, zone, find_profile_with_home(tx, shop.id))
    days = sum_sales(stream_taxed(tx, period), first).days()
    sold: dict[str, int] = {}
    for one in days:
        sold[one.currency] = sold.get(one.currency, 0) + one.net_cents
    breaks = tx.exec_driver_sql(_COUNT_BREAKS, values).one()
    return WeekRecord(
        shop_name=shop.name,
        first=first,
        zone=zone,
        orders=sum(one.orders for one in days),
        sold=sold,
        problems=[_read_problem(row) for row in tx.exec_driver_sql(_FIND_INCIDENTS, values)],
        breaks_found=breaks.found,
        breaks_open=breaks.open,
        unread_days=count_unread_days(tx, shop.id, begins, ends, zone),
        planned=[(row.planned_on, row.text) for row in tx.exec_driver_sql(_FIND_PLANNED, values)],
    )


def _read_problem(row: Any) -> Problem:
    rule = RULES.get(row.rule.partition(":")[0])
    about = rule.about if rule else row.rule.replace("_", " ")
    actions = [one for one in (*row.actions, row.resolved_reason) if one]
    if actions and row.shop_id is None:
        actions = ["we repaired it"]
    return Problem(about, row.severity, row.opened_at, row.resolved_at, list(dict.fromkeys(actions)))


def write_letter(record: WeekRecord) -> tuple[str, str]:
    """Return (subject, body): paragraphs with an empty line between them. Short if nothing happened."""
    large = [one for one in record.problems if one.severity < "P3"]
    small = len(record.problems) - len(large)
    week = f"the week of {day(record.first)}"
    count = format_count(len(large), "problem")
    opening = f"{count} in {week}." if large else f"A quiet week: no problems in {week}."
    paragraphs = [f"{opening} {_describe_sales(record)}"]
    paragraphs += [_describe_problem(one, record.zone) for one in large[:MOST_INCIDENTS]]
    notes = []
    if more := len(large[MOST_INCIDENTS:]):
        notes.append(f"There {'was' if more == 1 else 'were'} {format_count(more, 'more problem')}.")
    if small:
        notes.append(f"{format_count(small, 'smaller notice')} needed no action from you.")
    if record.breaks_found or record.breaks_open:
        still = f"{record.breaks_open} not solved yet" if record.breaks_open else "all solved"
        found = format_count(record.breaks_found, "difference")
        notes.append(f"Payments: {found} to Stripe found, {still}.")
    paragraphs += [" ".join(notes)] if notes else []
    if record.planned:
        paragraphs.append(
            " ".join(["Planned:", *(_sentence(f"{day(on)}: {text}") for on, text in record.planned)])
        )
    subject = f"{record.shop_name}: {count if large else 'a quiet week'}, {week}"
    return one_line(subject), "\n\n".join([*paragraphs, CLOSING])


def _describe_sales(record: WeekRecord) -> str:
    if not record.orders and not any(record.sold.values()):
        text = "There were no orders."
    else:
        sums = ", ".join(money(cents, currency) for currency, cents in sorted(record.sold.items()))
        text = f"Your shop had {format_count(record.orders, 'order')}, {sums} net."
    if record.unread_days:
        days = format_count(record.unread_days, "day")
        text += f" The orders of {days} were not read from Shopify and are missing in these figures."
    return text


def _describe_problem(one: Problem, zone: ZoneInfo) -> str:
    lasted = (
        "and it goes on" if one.ended_at is None else f"for {span(_minutes(one.ended_at - one.began_at))}"
    )
    done = [_sentence(one_line(action)[:_ACTION_CHARACTERS]) for action in one.actions]
    did = " ".join(["What we did:", *done[:_MOST_ACTIONS]]) if done else ""
    if not did and one.ended_at is not None:
        did = "It ended without our help."
    return f"{moment({'zone': zone}, one.began_at)}, {lasted}: {one.about}. {did}".rstrip()


def _minutes(lasted: timedelta) -> timedelta:
    """Return whole minutes, at least one: an owner does not need seconds."""
    return timedelta(minutes=max(1, round(lasted / timedelta(minutes=1))))


def _sentence(text: str) -> str:
    return text.rstrip(". ") + "."
