"""What ``/shops/<shop>`` shows of one shop. Every query reads by an index that begins with the shop."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from services.alerts.incidents import find_incidents
from services.alerts.rules import FIGURE_RULES
from services.alerts.thresholds import load_thresholds
from services.closing.corrections import list_closed_months
from services.console.connection_lines import find_run_figures
from services.core.pg_arrays import arrays
from services.costs.store import list_month_costs
from services.jobs.schedule import day_bounds, explain_schedule
from services.jobs.store import list_schedules
from services.mail.formatting import money
from services.shops.connections import ENDS_AT
from services.shops.secrets import list_secret_states
from services.shops.shops import Shop
from services.timesheets.store import list_reports

FIGURE_DAYS = 7
MAILS = 20
MONTHS = 12

_FIND_SALES = """
select v.day, s.currency, s.orders, s.cents
  from unnest(%(day)s::date[], %(begins)s::timestamptz[], %(ends)s::timestamptz[]) as v(day, begins, ends)
 cross join lateral (
   select currency, count(*) as orders, sum(total_cents - refunded_cents)::bigint as cents from orders
    where shop_id = %(shop_id)s and placed_at >= v.begins and placed_at < v.ends and deleted_at is null
      and cancelled_at is null and not is_test group by currency) s
 order by 1, 2
"""
_COUNT_BREAKS = """
select day, count(*) as breaks, count(*) filter (where closed_at is null) as open from reconciliation_breaks
 where shop_id = %(shop_id)s and day >= %(first)s group by day
"""
_FIND_MAILS = """
select id, kind, case when is_commercial then '•••' else subject end as subject, status, error_code,
       created_at, sent_at, delivered_at, bounced_at, complained_at
  from mail_outbox
 where shop_id = %(shop_id)s order by id desc limit %(limit)s
"""
_FIND_CONFIG = """
select last_daily_run - 'low_told' as last_run,
       coalesce(settings -> 'staff', '{}') as staff
  from shop_config where shop_id = %(shop_id)s
"""
_FIND_CONNECTIONS = f"""
select provider, status, code, detail, since, {ENDS_AT} as ends_at from connections
 where shop_id = %(shop_id)s order by provider
"""  # noqa: S608 - constants only

SETTINGS: Mapping[str, str] = {
    "name": "Name",
    "timezone": "Time zone",
    "currency": "Currency",
    "owner_email": "Owner",
    "accountant_email": "Accountant",
    "shopify_domain": "Shopify store",
    "stock_location_id": "Stock location",
    "stock_owner": "Stock is counted by",
    "postal_address": "Postal address in mails",
    "mail_contact": "Contact in mails",
    "mails_per_day": "Mails for one person in a day",
    "notion_data_source": "Notion data source",
    "ai_uses": "AI reads conversations for",
    "shop_floor": "Orders go to the shop floor",
}
"""Field of a shop -> label."""
LIMITS: Mapping[str, str] = {
    "ai_cap": "AI, at most in a month",
    "sms_budget": "SMS budget of a month",
    "exchange_rates": "Exchange rates",
}
"""Field of a shop that limits costs -> label."""


def read_shop_facts(tx: Connection, shop: Shop, now: datetime) -> dict[str, Any]:
    """Return the values of the page of ``shop``."""
    scope: dict[str, Any] = {"shop_id": shop.id}
    config = tx.exec_driver_sql(_FIND_CONFIG, scope).first()
    since_month = f"{shop.created_at.astimezone(shop.zone):%Y-%m}"
    return {
        "settings": [(name, label, getattr(shop, name)) for name, label in SETTINGS.items()],
        "limits": [(name, label, getattr(shop, name)) for name, label in LIMITS.items()],
        "schedules": _list_schedules(tx, shop),
        "reports": list_reports(tx, shop.id),
        "secrets": list_secret_states(tx, shop.id, now),
        "connections": tx.exec_driver_sql(_FIND_CONNECTIONS, scope).all(),
        "budgets": list_month_costs(tx, now, shop_id=shop.id),
        "staff": sorted((config.staff if config else {}).items()),
        "last_run": (config.last_run if config else None) or {},
        "days": _list_days(tx, shop, now),
        "months": [*reversed(list_closed_months(tx, shop.id, since=since_month))][:MONTHS],
        "mails": tx.exec_driver_sql(_FIND_MAILS, {**scope, "limit": MAILS}).all(),
        "incidents": find_incidents(tx, shop_id=shop.id, limit=20),
        "thresholds": _list_thresholds(tx, shop),
        "runs": find_run_figures(tx, [shop.id], now)[shop.id],
    }


def _list_schedules(tx: Connection, shop: Shop) -> Sequence[Mapping[str, Any]]:
    return [
        {
            "job": one.job.name,
            "title": one.job.title,
            "words": explain_schedule(one.schedule),
            "zone": one.zone,
            "enabled": one.enabled,
            "is_own": one.is_own,
            "next": one.next_due_at,
        }
        for one in list_schedules(tx, shop_id=shop.id)
    ]


def _list_thresholds(tx: Connection, shop: Shop) -> Sequence[Mapping[str, Any]]:
    """Return each rule whose threshold a shop can have, with the one in force; the shop's own ones first."""
    found = load_thresholds(tx)
    listed = [
        {"rule": rule, "value": found.find(rule, shop.id), "is_own": (rule.name, shop.id) in found}
        for rule in FIGURE_RULES.values()
        if not rule.is_of_fleet
    ]
    return sorted(listed, key=lambda one: not one["is_own"])


def _list_days(tx: Connection, shop: Shop, now: datetime) -> list[dict[str, Any]]:
    """Return the last days, the newest first, each with orders, revenue by currency and breaks."""
    today = now.astimezone(shop.zone).date()
    days = [today - timedelta(days=back) for back in range(FIGURE_DAYS)]
    bounds = [(day, *day_bounds(shop.zone, day)) for day in days]
    values = {**arrays("day begins ends", bounds), "shop_id": shop.id, "first": days[-1]}
    sales: dict[Any, list[Any]] = {}
    for row in tx.exec_driver_sql(_FIND_SALES, values):
        sales.setdefault(row.day, []).append(row)
    breaks = {row.day: row for row in tx.exec_driver_sql(_COUNT_BREAKS, values)}
    return [
        {
            "day": day,
            "orders": sum(row.orders for row in sales.get(day, ())),
            "revenue": ", ".join(money(row.cents, row.currency) for row in sales.get(day, ())),
            "breaks": breaks.get(day),
        }
        for day in days
    ]
