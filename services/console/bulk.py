"""Bulk actions: what one would change, its start, its progress and its stop."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for
from sqlalchemy import Connection, Row

from services.accounts.roles import Role
from services.bulk.kinds import JOBS, RowFacts, get_kind
from services.bulk.store import (
    BulkPlan,
    find_bulk_action,
    find_given_up_work,
    plan_bulk_action,
    start_bulk_action,
    stop_bulk_action,
)
from services.console.account import make_author
from services.console.list_page import MAX_CANDIDATES
from services.console.list_reader import find_visible_slugs, parse_filters, parse_whole, read_all_matching
from services.console.list_views import audit_search
from services.console.lists import LISTS
from services.core.db import transaction
from services.core.errors import InputInvalid, ShopfleetError
from services.ledger.dispatch import send_messages

NOT_FOUND = "There is no such bulk action, or you have no role at one of its shops."
_OWN_FIELDS = frozenset({"list", "action", "reason", "request_key", "at_most", "csrf_token", "after"})
"""Fields of the forms that are no filters."""


class BulkRequest(NamedTuple):
    """What an action would change, and the filters to keep: times as moments, texts of payloads empty.

    ``sent`` are the filters as they were sent.
    """

    plan: BulkPlan
    query: Mapping[str, str]
    sent: Mapping[str, str]


def bulk_blueprint() -> Blueprint:
    blueprint = Blueprint("bulk", __name__, url_prefix="/bulk-actions")
    blueprint.add_url_rule("/new", "confirm", _confirm)
    blueprint.add_url_rule("", "start", _start, methods=["POST"])
    blueprint.add_url_rule("/<int:number>", "show", _show)
    blueprint.add_url_rule("/<int:number>/stop", "stop", _stop, methods=["POST"])
    return blueprint


def plan_request(list_name: str, action: str, filters: Mapping[str, str]) -> BulkRequest:
    """Return what ``action`` would change of the rows that match ``filters``; raise ``InputInvalid``."""
    kind = get_kind(action, list_name)
    page = LISTS[list_name]
    if wrong := [name for name, text in filters.items() if name in ("limit", "after") or not text.strip()]:
        raise InputInvalid(
            f"{', '.join(wrong)}: an action is on all rows that match, and each filter has a value"
        )
    with transaction() as tx:
        values = parse_filters(tx, page, filters, g.access, g.at)
        if not values:
            names = ", ".join(one.name for one in page.filters)
            raise InputInvalid(f"no filter is given: an action on all rows needs one of {names}")
        audit_search(tx, page, filters, values)
    columns = RowFacts._fields[:-1] if list_name == "work" else ("id", "shop_id", "topic", "origin")
    with transaction() as tx:
        found, too_large = read_all_matching(tx, page, values, g.access, columns)
    query = {
        one.name: ""
        if one.role > Role.VIEWER
        else _format_value(one.kind, values[one.name], filters[one.name])
        for one in page.filters
        if one.name in values
    }
    rows = [RowFacts(**row._asdict()) for row in found]
    statuses = kind.choose_statuses(values.get(kind.field, ()))
    plan = plan_bulk_action(kind, rows, statuses, g.access.shops_with(Role.OPERATOR), g.at)
    if too_large:
        plan = replace(plan, skipped={**plan.skipped, "larger than 1 MiB, and not searched": too_large})
    return BulkRequest(plan, query, filters)


def _format_value(kind: str, value: Any, text: str) -> str:
    if kind == "time":
        return str(value.isoformat())
    return ",".join(value) if kind == "choice" else text.strip()


def count_plan(plan: BulkPlan, slugs: Mapping[int, str]) -> dict[str, dict[str, int]]:
    """Return the number of rows by shop, topic and status, the most first."""
    counts = {"shop": {slugs.get(shop, "fleet"): count for shop, count in plan.count_by("shop_id").items()}}
    counts["topic"] = plan.count_by("topic")
    return counts if plan.kind.list == "events" else {**counts, "status": plan.count_by("status")}


def start_request(wanted: BulkRequest, reason: str, request_key: str, at_most: int | None) -> int:
    """Start the action, notify a worker, and return its id; raise ``InputInvalid`` as its start does."""
    with transaction() as tx:
        number, refs = start_bulk_action(
            tx,
            wanted.plan,
            wanted.query,
            user_id=g.access.user_id,
            request_key=request_key,
            sent=wanted.sent,
            at_most=at_most,
            **make_author(reason),
        )
    send_messages(refs)
    return number


def get_visible_action(tx: Connection, number: int, role: Role = Role.VIEWER) -> Row[Any]:
    """Return the action; answer 404 if this person may not see all its shops, 403 without ``role`` there."""
    found = find_bulk_action(tx, number)
    if found is None or not all(g.access.may(Role.VIEWER, shop) for shop in found.shop_ids):
        abort(404, NOT_FOUND)
    if not all(g.access.may(role, shop) for shop in found.shop_ids):
        abort(403, f"this needs the role {role.title} at all its shops")
    return found


def stop_request(number: int) -> bool:
    """Stop the action; return whether it was running."""
    with transaction() as tx:
        get_visible_action(tx, number, Role.OPERATOR)
        return stop_bulk_action(tx, number, f"stopped by {g.access.email}", **make_author())


def _confirm() -> Any:
    if not request.args:
        return redirect(url_for("lists.work"))
    return _show_confirmation(request.args.to_dict())


def _show_confirmation(given: Mapping[str, str], fault: str = "") -> Any:
    wanted = None
    filters = {name: value for name, value in given.items() if name not in _OWN_FIELDS and value.strip()}
    list_name, action = given.get("list", ""), given.get("action", "")
    try:
        wanted = plan_request(list_name, action, filters)
    except InputInvalid as error:
        fault = str(error)
    with transaction() as tx:
        slugs = find_visible_slugs(tx, g.access)
    list_name = list_name if list_name in LISTS else "work"
    kept = {**filters, **{name: text for name, text in wanted.query.items() if text}} if wanted else filters
    sent = {one.name: kept[one.name] for one in LISTS[list_name].filters if one.name in kept}
    return render_template(
        "bulk_confirm.html",
        title=f"{action.capitalize()} all that match",
        list_name=list_name,
        action=action,
        plan=wanted.plan if wanted else None,
        filters=sent,
        reason=given.get("reason", ""),
        counts=count_plan(wanted.plan, slugs) if wanted else {},
        fault=fault,
        max_candidates=MAX_CANDIDATES,
    ), 422 if fault else 200


def _start() -> Any:
    given = request.form.to_dict()
    filters = {name: value for name, value in given.items() if name not in _OWN_FIELDS and value.strip()}
    try:
        at_most = parse_whole("at_most", given.get("at_most", ""), 0, MAX_CANDIDATES)
        key = given.get("request_key", "")
        wanted = plan_request(given.get("list", ""), given.get("action", ""), filters)
        number = start_request(wanted, given.get("reason", ""), key, at_most)
    except InputInvalid as fault:
        return _show_confirmation(given, str(fault))
    return redirect(url_for("bulk.show", number=number))


def _show(number: int) -> str:
    with transaction() as tx:
        action = get_visible_action(tx, number)
        slugs = find_visible_slugs(tx, g.access)
        given_up = find_given_up_work(tx, number) if action.status == "running" else None
    return render_template(
        "bulk_action.html",
        title=f"Bulk action {number}",
        row=action,
        slugs=slugs,
        given_up=given_up,
        link=_link_rows(action),
        may_stop=all(g.access.may(Role.OPERATOR, shop) for shop in action.shop_ids),
    )


def _link_rows(action: Row[Any]) -> str:
    if action.list == JOBS:
        return url_for("jobs.show", job=action.query["job"])
    return url_for(f"lists.{action.list}", **{name: text for name, text in action.query.items() if text})


def _stop(number: int) -> Any:
    try:
        flash("The action is stopped." if stop_request(number) else "The action had ended already.")
    except ShopfleetError as fault:
        flash(str(fault), "error")
    return redirect(url_for("bulk.show", number=number))
