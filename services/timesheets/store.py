"""Writes and reads definitions of reports, and starts their runs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, Unpack
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row, select
from sqlalchemy.dialects.postgresql import insert

from services.audit.append import Author, Mutation, append_change
from services.core.db import Page, fetch_page
from services.core.errors import InputInvalid, describe_unknown
from services.core.fields import LARGEST_COUNT
from services.jobs.definition import Covers
from services.jobs.schedule import PeriodInvalid, find_slots, period_bounds
from services.ledger.accept import WorkRef, record_work
from services.ledger.work import NewWork
from services.shops.shops import Shop, list_shops
from services.timesheets.definition import ReportDefinition, check_definition, describe
from services.timesheets.tables import report_runs, reports

TOPIC = "report_send"
_COLUMNS = (
    "name", "kind", "schedule", "covers", "recipients", "formats", "filters", "overtime", "week_begins",
    "day_begins", "paused_at",
)  # fmt: skip

_UPSERT = insert(reports)
_SAVE = _UPSERT.on_conflict_do_update(
    constraint="uq_reports_name",
    set_={name: _UPSERT.excluded[name] for name in (*_COLUMNS[1:], "changed_at")},
).returning(reports.c.id)
_NEW_RUN = (
    insert(report_runs)
    .on_conflict_do_nothing(constraint="uq_report_runs_period")
    .returning(report_runs.c.id, report_runs.c.shop_id, report_runs.c.request_id)
)
# A failed run starts again by hand or with a repaired connection; one that went out never does.
_AGAIN = """
update report_runs set status = 'pending', failed_at = null, error_code = null, error = null,
       origin = %(origin)s, started_by = %(by)s, request_id = %(request_id)s, work_id = null
 where report_id = %(report_id)s and period = %(period)s and status = 'failed' and mail_ids = '{}'
returning id, shop_id, request_id
"""
_REPLACE = """
update work_queue w set status = 'discarded', result = 'replaced by a new run', finished_at = %(now)s
  from report_runs r
 where r.report_id = %(report_id)s and r.period = %(period)s and r.status = 'failed' and r.mail_ids = '{}'
   and w.id = r.work_id and w.status = 'dead'
"""
_FIND_RUN = "select id, status from report_runs where report_id = %(report_id)s and period = %(period)s"
# A run that a person starts, perhaps of another period, does not take the place of a slot.
_LAST_DUE = """
select report_id, max(due_at) as due_at from report_runs where origin = 'beat' group by report_id
"""
_TIMES = ("schedule", "covers", "week_begins", "paused_at")


class StartedReport(NamedTuple):
    """The result of ``start_report``. ``status`` is the run's; ``ref`` is new work, if any."""

    run_id: int
    period: str
    status: str
    ref: WorkRef | None = None


def save_report(tx: Connection, given: ReportDefinition, **author: Unpack[Author]) -> ReportDefinition:
    """Add the report, or change the shop's report of that name; return it as stored.

    A changed schedule begins now: no earlier slot is due. Other changes leave the slots as they are. Raises
    ``InputInvalid``.
    """
    new = check_definition(given)
    before = find_report(tx, new.shop_id, new.name)
    if before is not None and describe(before) == describe(new):
        return before
    values: dict[str, Any] = {name: getattr(new, name) for name in _COLUMNS}
    same_times = before is not None and all(getattr(before, one) == getattr(new, one) for one in _TIMES)
    changed_at = before.changed_at if before and same_times else author["now"]
    values |= {"covers": str(new.covers), "shop_id": new.shop_id, "changed_at": changed_at}
    report_id = tx.execute(_SAVE, values | {"created_at": author["now"]}).scalar_one()
    summary = f"report {new.name!r} {'changed' if before else 'added'}"
    mutation = Mutation(
        "reports", str(report_id), summary, describe(before) if before else None, describe(new)
    )
    append_change(tx, "report.set", {new.shop_id: [mutation]}, **author)
    return get_report(tx, new.shop_id, new.name)


def remove_report(tx: Connection, report: ReportDefinition, **author: Unpack[Author]) -> None:
    """Delete the report and its runs; mails that went out stay in the outbox."""
    tx.execute(reports.delete().where(reports.c.id == report.id))
    mutation = Mutation("reports", str(report.id), f"report {report.name!r} removed", describe(report), None)
    append_change(tx, "report.remove", {report.shop_id: [mutation]}, **author)


def list_reports(tx: Connection, shop_id: int | None = None) -> list[ReportDefinition]:
    """Return the reports of the shop (None: of all), by shop and name."""
    query = select(reports).order_by(reports.c.shop_id, reports.c.name)
    rows = tx.execute(query if shop_id is None else query.where(reports.c.shop_id == shop_id))
    return [_read(row) for row in rows]


def find_report(tx: Connection, shop_id: int, name: str) -> ReportDefinition | None:
    is_this = (reports.c.shop_id == shop_id) & (reports.c.name == name)
    row = tx.execute(select(reports).where(is_this)).first()
    return _read(row) if row else None


def find_report_by_id(tx: Connection, report_id: int) -> ReportDefinition | None:
    row = tx.execute(select(reports).where(reports.c.id == min(report_id, LARGEST_COUNT))).first()
    return _read(row) if row else None


def get_report(tx: Connection, shop_id: int, name: str) -> ReportDefinition:
    """Return the shop's report; raise ``InputInvalid`` with the names that exist."""
    if found := find_report(tx, shop_id, name):
        return found
    known = [one.name for one in list_reports(tx, shop_id)]
    if not known:
        raise InputInvalid(f"report={name!r}: the shop has no report yet, see `fleet reports set --help`")
    raise InputInvalid(f"report={describe_unknown(name, known)}")


def record_due_reports(tx: Connection, now: datetime) -> list[NewWork]:
    """Start the run of each report whose newest slot has passed, once; return the work that sends them.

    After an outage only the newest missed slot of a report is due.
    """
    last_due = {row.report_id: row.due_at for row in tx.exec_driver_sql(_LAST_DUE)}
    shops = {shop.id: shop for shop in list_shops(tx)}
    rows = []
    for one in list_reports(tx):
        if one.paused_at is not None or one.changed_at is None or one.shop_id not in shops:
            continue
        zone = shops[one.shop_id].zone
        after = max(one.changed_at, last_due.get(one.id, one.changed_at))
        slots = find_slots(one.schedule, zone, after, now, limit=1)
        if slots:
            rows.append(_new_run(one, one.period_at(slots[0], zone), slots[0], "beat", "beat", ""))
    return _insert(tx, rows, "job") if rows else []


def start_report(
    tx: Connection,
    report: ReportDefinition,
    shop: Shop,
    period: str | None,
    *,
    origin: str,
    **author: Unpack[Author],
) -> StartedReport:
    """Start the run of ``report`` for ``period`` (None: the newest one that is over), unless there is one.

    A run that failed before a mail was written starts again. A report that went out does not go again.
    Raises ``PeriodInvalid``.
    """
    now, by, request_id = author["now"], author["by"], author.get("request_id", "")
    period = check_period(report, period, now, shop.zone) if period else report.period_at(now, shop.zone)
    new = _insert(tx, [_new_run(report, period, now, origin, by, request_id)], origin)
    key = {"report_id": report.id, "period": period}
    if not new:
        again = {**key, "origin": origin, "by": by, "request_id": request_id}
        tx.exec_driver_sql(_REPLACE, {**key, "now": now})
        new = [_make_work(row, origin) for row in tx.exec_driver_sql(_AGAIN, again)]
    run = tx.exec_driver_sql(_FIND_RUN, key).one()
    if not new:
        return StartedReport(run.id, period, run.status)
    (ref,) = record_work(tx, new, now)
    mutation = Mutation("report_runs", str(run.id), f"report {report.name!r} for {period} started", None, key)
    append_change(tx, "report.send", {report.shop_id: [mutation]}, **author)
    return StartedReport(run.id, period, run.status, ref)


def check_period(report: ReportDefinition, text: str, now: datetime, zone: ZoneInfo) -> str:
    """Return ``text`` if it is a period of the report that is over at ``now``; else ``PeriodInvalid``."""
    newest = report.period_at(now, zone)
    try:
        period_bounds(report.covers, text, zone)
        _, last = report.days_of(text, zone)
    except (ValueError, OverflowError):
        raise PeriodInvalid(f"period={text!r} should be a {report.covers} such as {newest}") from None
    if last >= report.today(now, zone) and report.covers is not Covers.MOMENT:
        raise PeriodInvalid(f"period={text!r} is not over yet in {zone}: the newest one is {newest}")
    return text


def _read(row: Row[Any]) -> ReportDefinition:
    values = {name: getattr(row, name) for name in (*_COLUMNS, "id", "shop_id", "changed_at")}
    return ReportDefinition(**values | {"covers": Covers(row.covers)})


def _new_run(
    report: ReportDefinition, period: str, due_at: datetime, origin: str, by: str, request_id: str
) -> dict[str, Any]:
    return {
        "report_id": report.id,
        "shop_id": report.shop_id,
        "period": period,
        "due_at": due_at,
        "origin": origin,
        "started_by": by,
        "request_id": request_id,
    }


def _insert(tx: Connection, rows: Sequence[dict[str, Any]], origin: str) -> list[NewWork]:
    # Sorted, so that two transactions with the same rows do not deadlock.
    ordered = sorted(rows, key=lambda row: (row["report_id"], row["period"]))
    return [_make_work(row, origin) for row in tx.execute(_NEW_RUN, ordered)]


def _make_work(run: Row[Any], origin: str) -> NewWork:
    return NewWork(
        shop_id=run.shop_id,
        topic=TOPIC,
        key=f"report:{run.id}",
        payload={"run": run.id},
        origin=origin,
        request_id=run.request_id,
    )


def list_runs(
    tx: Connection, *, shop_id: int | None = None, report_id: int | None = None, limit: int = 50
) -> Page[Row[Any]]:
    """Return runs, newest first, with the ``name`` of their report."""
    query = (
        select(report_runs, reports.c.name).join(reports).order_by(report_runs.c.due_at.desc()).limit(limit)
    )
    if shop_id is not None:
        query = query.where(report_runs.c.shop_id == shop_id)
    if report_id is not None:
        query = query.where(report_runs.c.report_id == report_id)
    return fetch_page(tx, query, limit)
