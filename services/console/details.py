"""Pages of a single row: work, event, incident. Payloads are masked until an admin unmasks them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from flask import Blueprint, Response, abort, flash, g, redirect, render_template, request, url_for
from sqlalchemy import Row

from services.accounts.roles import Role
from services.alerts.incidents import find_zone, get_incident
from services.alerts.people import LONGEST_SNOOZE_OF_P1, list_entries
from services.alerts.postmortem import format_postmortem, read_record
from services.alerts.runbook import find_steps
from services.console.list_reader import is_text
from services.console.list_views import find_back_url
from services.console.mail_page import show_mail, unmask_mail
from services.console.masking import is_masked, mask
from services.console.row_actions import (
    NOT_FOUND,
    ROW_ACTIONS,
    SNOOZES,
    RowAction,
    audit_unmask,
    check_shop,
    find_row,
    find_snooze_end,
    run_action,
)
from services.console.scan_cells import find_evidence
from services.core.db import transaction
from services.core.errors import ShopfleetError
from services.core.times import format_moment, format_time
from services.ledger.lineage import list_lineage
from services.ledger.queries import get_event, get_work
from services.ledger.request_errors import find_later_event, get_error, list_mutations
from services.ledger.steps import list_steps
from services.shops.shops import find_slugs


def details_blueprint() -> Blueprint:
    blueprint = Blueprint("details", __name__)
    for path, endpoint, view, methods in (
        ("/work/<int:number>", "work", _show_work, ["GET"]),
        ("/work/<int:number>/unmask", "unmask_work", _unmask_work, ["POST"]),
        ("/events/<int:number>", "event", _show_event, ["GET"]),
        ("/events/<int:number>/unmask", "unmask_event", _unmask_event, ["POST"]),
        ("/errors/<request_id>", "error", _show_error, ["GET"]),
        ("/incidents/<int:number>", "incident", _show_incident, ["GET"]),
        ("/incidents/<int:number>/postmortem", "postmortem", _show_postmortem, ["GET"]),
        ("/mails/<int:number>", "mail", show_mail, ["GET"]),
        ("/mails/<int:number>/unmask", "unmask_mail", unmask_mail, ["POST"]),
    ):
        blueprint.add_url_rule(path, endpoint, view, methods=methods)
    for action in ROW_ACTIONS:
        path = f"/{action.list}/<int:number>/{action.name}"
        blueprint.add_url_rule(path, action.endpoint, _make_change(action), methods=["POST"])
    return blueprint


def _show_work(number: int, *, is_open: bool = False) -> str:
    with transaction() as tx:
        row = find_row(lambda: get_work(tx, number))
        check_shop(row.shop_id)
        slugs, lineage = find_slugs(tx), list_lineage(tx, row.shop_id, work=row)
        steps = list_steps(tx, row)
    facts = {name: value for name, value in row._asdict().items() if name not in ("payload", "shop_id")}
    return render_template(
        "work.html",
        title=f"Work {number}",
        row=row,
        shop=slugs.get(row.shop_id, ""),
        facts=facts,
        steps=steps,
        lineage=lineage,
        payload=_format(row.payload, is_open=is_open),
        is_masked=not is_open and is_masked(row.payload),
    )


def _show_event(number: int, *, is_open: bool = False) -> str:
    with transaction() as tx:
        event, headers, body, work = find_row(lambda: get_event(tx, number))
        check_shop(event.shop_id)
        slugs, lineage = find_slugs(tx), list_lineage(tx, event.shop_id, event_id=number)
    try:
        content = orjson.loads(body)
    except ValueError:
        content = body.decode(errors="replace")
    return render_template(
        "event.html",
        title=f"Event {number}",
        row=event,
        shop=slugs.get(event.shop_id, ""),
        facts={name: value for name, value in event._asdict().items() if name not in ("work", "shop_id")},
        headers=headers if is_open else mask(headers),
        payload=_format(content, is_open=is_open),
        is_masked=not is_open and is_masked(content),
        work=work,
        lineage=lineage,
    )


def _format(value: Any, *, is_open: bool) -> str:
    # Text of numbers beyond 2^53 is exact, because no number is read by the browser.
    shown = value if is_open else mask(value)
    return orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode()


def _unmask_work(number: int) -> str:
    with transaction() as tx:
        row = find_row(lambda: get_work(tx, number))
        audit_unmask(tx, row.shop_id, "work_queue", number)
    return _show_work(number, is_open=True)


def _unmask_event(number: int) -> str:
    with transaction() as tx:
        event = find_row(lambda: get_event(tx, number))[0]
        audit_unmask(tx, event.shop_id, "inbound_events", number)
    return _show_event(number, is_open=True)


def read_error(request_id: str) -> tuple[Row[Any], list[Row[Any]], int | None]:
    """Return a failed request, the changes of it that this person may see, and its later event.

    Answers 404 as ``check_shop`` does.
    """
    if not is_text(request_id):
        abort(404, NOT_FOUND)
    with transaction() as tx:
        error = find_row(lambda: get_error(tx, request_id))
        check_shop(error.shop_id)
        mutations = [one for one in list_mutations(tx, error) if g.access.may(Role.VIEWER, one.shop_id)]
        return error, mutations, find_later_event(tx, error)


def _show_error(request_id: str) -> str:
    error, mutations, event_id = read_error(request_id)
    with transaction() as tx:
        slugs = find_slugs(tx)
    return render_template(
        "error_page.html",
        title=f"Request {request_id}",
        row=error,
        shop=slugs.get(error.shop_id, "") if error.shop_id else "fleet",
        facts={
            "answered_at": error.at,
            "route": error.route,
            "reason": error.reason,
            "person": error.staff_label,
        },
        mutations=mutations,
        event_id=event_id,
    )


def _show_incident(number: int) -> str:
    with transaction() as tx:
        row = find_row(lambda: get_incident(tx, number))
        check_shop(row.shop_id)
        slugs, entries, zone = find_slugs(tx), list_entries(tx, number), find_zone(tx, row.shop_id)
    shop = "" if row.shop_id is None else slugs.get(row.shop_id, "")
    steps = find_steps(
        row.rule, shop=shop or "fleet", period=row.period, incident_id=number, detail=row.detail
    )
    return render_template(
        "incident.html",
        title=f"Incident {number}",
        row=row,
        shop=shop,
        period=format_moment(row.period, zone),
        zone=str(zone),
        steps=steps._asdict() if steps else {},
        evidence=find_evidence(row.rule, shop),
        snoozes=_list_snoozes(row.severity, zone),
        entries=entries,
        is_red=row.status == "open" and row.severity != "P3",
    )


def _list_snoozes(severity: str, zone: ZoneInfo) -> dict[str, str]:
    """Return for each snooze that such an incident may have when it ends."""
    ends = {lasts: find_snooze_end(lasts, g.at, zone) for lasts in SNOOZES}
    latest = g.at + LONGEST_SNOOZE_OF_P1
    return {
        lasts: format_time(until, zone)
        for lasts, until in ends.items()
        if severity != "P1" or until <= latest
    }


def _show_postmortem(number: int) -> Response:
    """Send what ``fleet incidents postmortem`` writes, without changes that this person may not see."""
    with transaction() as tx:
        check_shop(find_row(lambda: get_incident(tx, number)).shop_id)
        record = read_record(tx, number, g.at)
    visible = [one for one in record.changes if g.access.may(Role.VIEWER, one.shop_id)]
    return Response(format_postmortem(replace(record, changes=visible)), mimetype="text/plain")


def _make_change(action: RowAction) -> Callable[[int], Any]:
    def change(number: int) -> Any:
        page = url_for(action.page_endpoint, number=number, back=request.args.get("back"))
        try:
            flash(run_action(action, number, request.form))
        except ShopfleetError as fault:
            flash(str(fault), "error")
            return redirect(page)
        return redirect((not action.stays and find_back_url(action.list)) or page)

    return change
