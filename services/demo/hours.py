"""The demo's company with QuickBooks Time: last week's hours of three people, and a weekly payroll report."""

from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

from services.core.db import transaction
from services.demo.shops import DemoShop
from services.jobs.definition import Covers
from services.providers.oauth import TokenGrant
from services.shops.secrets import record_secret
from services.shops.shops import get_shop
from services.shops.tokens import record_grant
from services.timesheets.account import QUICKBOOKS_TIME
from services.timesheets.definition import ReportDefinition
from services.timesheets.store import save_report

REPORT = "Weekly payroll"
RECIPIENTS = ("pay@harbour.example", "owner@harbour.example")

_CLIENT, _SECRET, _TOKEN, _REFRESH = "demo-harbour", "demo-client-secret", "demo-time-1", "demo-refresh-1"
_PEOPLE = (("Dana", "Ruiz", "E-07"), ("Miguel", "Sol", "E-12"), ("Robin", "Ames", "E-15"))
_SHIFTS = (
    *((0, day, time(9), 8.0) for day in range(5)),
    *((1, day, time(8, 30), 8.5) for day in (0, 1, 2)),
    (1, 3, time(8), 13.0),
    *((2, day, time(20), 8.0) for day in (2, 3, 4)),
)
"""Person, day of the week, start and hours. The last ones go over midnight."""


def connect_company(shop: DemoShop, now: datetime, control: Callable[[dict[str, Any]], None]) -> None:
    """Connect ``shop`` to the sandbox's QuickBooks Time, and schedule its weekly payroll report."""
    control(
        {
            "time_company": _CLIENT,
            "client_secrets": [_SECRET],
            "access_token": _TOKEN,
            "refresh_token": _REFRESH,
            "users": [
                {"id": number, "first_name": first, "last_name": last, "payroll_id": payroll_id}
                for number, (first, last, payroll_id) in enumerate(_PEOPLE, 1)
            ],
            "jobcodes": [{"id": 1, "name": "Workshop"}],
            "timesheets": list(_list_shifts(shop, now)),
        }
    )
    with transaction() as tx:
        shop_id = get_shop(tx, shop.slug).id
        for part, value in (("client-id", _CLIENT), ("client-secret", _SECRET)):
            record_secret(tx, shop_id, QUICKBOOKS_TIME.name(part), value, now, by="demo")
        grant = TokenGrant(_TOKEN, _REFRESH, timedelta(days=10), None)
        record_grant(tx, QUICKBOOKS_TIME, shop_id, grant, by="demo")
        report = ReportDefinition(
            name=REPORT,
            kind="payroll",
            schedule="0 6 * * 1",
            covers=Covers.WEEK,
            recipients=RECIPIENTS,
            formats=("csv", "xlsx", "pdf"),
            overtime="CA-BC",
            shop_id=shop_id,
        )
        save_report(tx, report, by="demo", now=now)


def _list_shifts(shop: DemoShop, now: datetime) -> Iterator[dict[str, Any]]:
    today = now.astimezone(shop.zone).date()
    monday: date = today - timedelta(days=today.weekday() + 7)
    for number, (person, place, begins, hours) in enumerate(_SHIFTS, 1):
        start = datetime.combine(monday + timedelta(days=place), begins, shop.zone)
        end = start.astimezone(now.tzinfo) + timedelta(hours=hours)
        yield {
            "id": number,
            "user_id": person + 1,
            "jobcode_id": 1,
            "date": start.date().isoformat(),
            "start": start.isoformat(),
            "end": end.astimezone(shop.zone).isoformat(),
            "duration": round(hours * 3600),
        }
