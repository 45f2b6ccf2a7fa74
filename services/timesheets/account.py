"""Reads a company's timesheets from QuickBooks Time, as the input of a report."""

from datetime import datetime, timedelta

from services.core.db import transaction
from services.core.errors import Misconfigured
from services.core.settings import get_settings
from services.providers.quickbooks_time import QuickbooksTime, RecordedTime
from services.providers.quickbooks_time_oauth import QUICKBOOKS_TIME_TOKENS
from services.shops.secrets import find_secrets
from services.shops.shops import Shop
from services.shops.tokens import TokenKind, get_access_token
from services.timesheets.definition import ReportDefinition
from services.timesheets.hours import HoursKind, Timesheet
from services.timesheets.overtime import begin_of_week
from services.timesheets.report_table import Employee, ReportInput

QUICKBOOKS_TIME = TokenKind(
    endpoint=QUICKBOOKS_TIME_TOKENS,
    good_for=timedelta(days=5),  # half of its life: people have five days to repair a refused refresh
    find_base_url=lambda _domain: get_settings().quickbooks_time_api_base,
)
_KINDS = {"pto": HoursKind.LEAVE, "unpaid_break": HoursKind.UNPAID}
_SHIFT_DAYS = timedelta(days=2)
"""A shift may have begun so long before the first day: QuickBooks Time dates it by its start."""
_ZONE_DAYS = timedelta(days=1)
"""A shift of the last day may have the next date: in the zone of its person, or if days begin later."""


def open_account(shop_id: int, now: datetime) -> QuickbooksTime:
    """Return the company's account with a valid token; raise ``Misconfigured`` if it is not connected."""
    with transaction() as tx:
        name = (shop_id, QUICKBOOKS_TIME.name("token"))
        if name not in find_secrets(tx, [name]):
            raise Misconfigured(
                "quickbooks_time.not_connected",
                "the company is not connected to QuickBooks Time: an admin connects it on the shop's page",
            )
    token = get_access_token(QUICKBOOKS_TIME, shop_id, now)

    def renew(refused: str) -> str:
        return get_access_token(QUICKBOOKS_TIME, shop_id, now, refused=refused)

    return QuickbooksTime(get_settings().quickbooks_time_api_base, token, renew)


def read_input(report: ReportDefinition, shop: Shop, period: str, now: datetime) -> tuple[ReportInput, int]:
    """Return what the report of ``period`` is made of, and how many rows could not be read.

    Whole weeks are read, because overtime of a week needs all its days. Raises the ``WorkError`` of a call.
    """
    first, last = report.days_of(period, shop.zone)
    account = open_account(shop.id, now)
    jobcodes = {one.id: one for one in account.list_jobcodes()}
    ids = {name: ",".join(map(str, values)) for name, values in report.filters.items()}
    earliest = begin_of_week(first, report.rule) if report.report_kind.has_rates else first
    times = account.list_times(earliest - _SHIFT_DAYS, last + _ZONE_DAYS, ids)
    types = {one.id: one.type for one in jobcodes.values()}
    given = ReportInput(
        first=first,
        last=last,
        zone=shop.zone,
        now=now,
        rule=report.rule,
        sheets=[
            _make_timesheet(one, _KINDS.get(types.get(one.jobcode_id, ""), HoursKind.WORK)) for one in times
        ],
        people={one.id: Employee(one.name, one.payroll_id) for one in account.list_people()},
        jobcodes={one.id: one.name for one in jobcodes.values()},
        day_begins=report.day_begins,
    )
    return given, account.unreadable


def _make_timesheet(one: RecordedTime, kind: HoursKind) -> Timesheet:
    return Timesheet(
        id=one.id,
        user_id=one.user_id,
        jobcode_id=one.jobcode_id,
        kind=kind,
        day=one.day,
        seconds=one.seconds,
        start=one.start,
        end=one.end,
    )
