"""``/reports``: the scheduled reports of companies, with preview, send, pause and their runs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for

from services.accounts.roles import Role
from services.console.account import make_author
from services.console.list_reader import find_visible_slugs
from services.console.planned_change import check_role
from services.console.shop_pages import REPORT_CHOICES, get_visible_shop
from services.core.db import transaction
from services.core.errors import InputInvalid, WorkError
from services.jobs.definition import Covers
from services.jobs.schedule import explain_schedule, list_next_slots
from services.ledger.dispatch import send_messages
from services.shops.connections import recorded_calls
from services.shops.shops import Shop, get_shop_by_id
from services.timesheets.compose import make_report
from services.timesheets.definition import ReportDefinition
from services.timesheets.report_files import format_row
from services.timesheets.store import (
    check_period,
    find_report_by_id,
    list_reports,
    list_runs,
    save_report,
    start_report,
)

RUNS = 30
"""Runs on the page of a report, and on the list."""
PREVIEW_ROWS = 200


def reports_blueprint() -> Blueprint:
    blueprint = Blueprint("reports", __name__)
    for path, endpoint, view, method in (
        ("/reports", "index", _show_all, "GET"),
        ("/reports/<int:number>", "show", _show, "GET"),
        ("/reports/<int:number>/preview", "preview", _preview, "POST"),
        ("/reports/<int:number>/send", "send", _send, "POST"),
        ("/reports/<int:number>/pause", "pause", _pause, "POST"),
        ("/shops/<slug>/reports", "save", _save, "POST"),
    ):
        blueprint.add_url_rule(path, endpoint, view, methods=[method])
    return blueprint


def _show_all() -> str:
    with transaction() as tx:
        slugs = find_visible_slugs(tx, g.access)
        found = [one for one in list_reports(tx) if one.shop_id in slugs]
        zones = {one: get_shop_by_id(tx, one).zone for one in {report.shop_id for report in found}}
        last = {one.id: next(iter(list_runs(tx, report_id=one.id, limit=1)), None) for one in found}
    lines = [
        (one, slugs[one.shop_id], explain_schedule(one.schedule), zones[one.shop_id], last[one.id])
        for one in found
    ]
    lines.sort(key=lambda line: (not (line[4] and line[4].status == "failed"), line[1], line[0].name))
    is_red = any(run and run.status == "failed" for *_, run in lines)
    return render_template("reports.html", title="Reports", is_red=is_red, lines=lines)


def _find(number: int, role: Role = Role.VIEWER) -> tuple[ReportDefinition, Shop]:
    """Return the report and its shop; answer 404 without a role at the shop, 403 with a lower one."""
    with transaction() as tx:
        report = find_report_by_id(tx, number)
        shop = get_shop_by_id(tx, report.shop_id) if report else None
    if report is None or shop is None or not g.access.may(Role.VIEWER, shop.id):
        abort(404, "There is no such report, or you have no role at its shop.")
    check_role(role, shop.id)
    return report, shop


def _show(number: int, preview: Mapping[str, Any] | None = None) -> str:
    report, shop = _find(number)
    with transaction() as tx:
        runs = list_runs(tx, report_id=report.id, limit=RUNS)
    is_red = bool(runs) and runs[0].status == "failed"
    return render_template(
        "report.html",
        title=f"{report.name} of {shop.slug}",
        is_red=is_red,
        report=report,
        shop=shop,
        words=explain_schedule(report.schedule),
        next_slots=[] if report.paused_at else list_next_slots(report.schedule, shop.zone, g.at, 3),
        newest=report.period_at(g.at, shop.zone),
        runs=runs,
        preview=preview,
        **REPORT_CHOICES,
    )


def preview_report(number: int, period: str) -> dict[str, Any]:
    """Make the report of ``period``, if empty of the newest; nothing is stored or sent.

    Raises ``InputInvalid``, and ``WorkError`` for what its provider does not answer.
    """
    report, shop = _find(number, Role.OPERATOR)
    period = period.strip() or report.period_at(g.at, shop.zone)
    with recorded_calls(shop.id):
        made = make_report(report, shop, check_period(report, period, g.at, shop.zone), g.at)
    table = made.table
    return {
        "period": made.head.period,
        "titles": [one.title for one in table.columns],
        "rows": [format_row(row, table) for row in table.rows[:PREVIEW_ROWS]],
        "totals": format_row(table.totals, table),
        "notes": table.notes,
        "hidden": max(0, len(table.rows) - PREVIEW_ROWS),
    }


def _preview(number: int) -> Any:
    try:
        return _show(number, preview_report(number, request.form.get("period", "")))
    except InputInvalid as fault:
        flash(str(fault), "error")
    except WorkError as fault:
        flash(f"{fault.code}: {fault.detail}", "error")
    return redirect(url_for("reports.show", number=number))


def send_report(number: int, period: str) -> str:
    """Send the report of ``period``, if empty of the newest, once; return what was done.

    Raises ``InputInvalid``; answers 404 and 403 by the role.
    """
    report, shop = _find(number, Role.OPERATOR)
    with transaction() as tx:
        period = period.strip() or report.period_at(g.at, shop.zone)
        started = start_report(tx, report, shop, period, origin="console", **make_author())
    if started.ref is None:
        return f"{report.name} for {started.period} is {started.status} already: it does not go again."
    send_messages([started.ref])
    return f"{report.name} for {started.period} is sent by the workers."


def _send(number: int) -> Any:
    try:
        flash(send_report(number, request.form.get("period", "")))
    except InputInvalid as fault:
        flash(str(fault), "error")
    return redirect(url_for("reports.show", number=number))


def pause_report(number: int, *, is_paused: bool | None = None) -> str:
    """Pause the report, or send it again from its next time on; None: the other of both."""
    report, shop = _find(number, Role.ADMIN)
    wanted = report.paused_at is None if is_paused is None else is_paused
    if wanted != (report.paused_at is not None):
        with transaction() as tx:
            save_report(tx, replace(report, paused_at=g.at if wanted else None), **make_author())
    return f"{report.name} of {shop.slug} is {'paused' if wanted else 'sent again, from its next time on'}."


def _pause(number: int) -> Any:
    flash(pause_report(number))
    return redirect(url_for("reports.show", number=number))


def save_own_report(slug: str, given: Mapping[str, Any]) -> tuple[int, str]:
    """Add a report, or change the one of this name; return its id and what was done.

    A field that ``given`` lacks has its default, ``recipients`` and ``formats`` are lists.
    """
    shop = get_visible_shop(slug)
    check_role(Role.ADMIN, shop.id)
    wanted = ReportDefinition(
        name=given.get("name", ""),
        kind=given.get("kind", ""),
        schedule=given.get("schedule", ""),
        covers=_parse_covers(given.get("covers", "")),
        recipients=given.get("recipients", ()),
        formats=given.get("formats", ()),
        overtime=given.get("overtime", "none"),
        week_begins=given.get("week_begins", "monday"),
        day_begins=_parse_hour(str(given.get("day_begins", 0))),
        shop_id=shop.id,
    )
    with transaction() as tx:
        known = {one.name: one for one in list_reports(tx, shop.id)}
        before = known.get(" ".join(wanted.name.split()))
        if before:
            wanted = replace(wanted, filters=before.filters, paused_at=before.paused_at)
        report = save_report(tx, wanted, **make_author())
    done = f"{report.name} is {'changed' if before else 'added'}: {explain_schedule(report.schedule)}."
    return report.id, done


def _save(slug: str) -> Any:
    form = request.form
    lists = {
        "recipients": [part.strip() for part in form.get("recipients", "").split(",") if part.strip()],
        "formats": form.getlist("formats"),
    }
    try:
        number, done = save_own_report(slug, {**form, **lists})
        flash(done)
    except InputInvalid as fault:
        flash(str(fault), "error")
        return redirect(url_for("shops.show", slug=slug, _anchor="reports"))
    return redirect(url_for("reports.show", number=number))


def _parse_covers(text: str) -> Covers:
    try:
        return Covers(text)
    except ValueError:
        raise InputInvalid(f"covers={text!r} should be one of {', '.join(Covers)}") from None


def _parse_hour(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 3):
        raise InputInvalid(f"day_begins={text!r} should be an hour from 0 to 23")
    return int(text)
