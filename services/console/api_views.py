"""Single rows, their actions and bulk actions in the API."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import orjson
from flask import Blueprint, Response, g, request
from werkzeug.exceptions import HTTPException

from services.accounts.saved_filters import delete_filter, share_filter
from services.alerts.incidents import get_incident
from services.alerts.people import list_entries
from services.console.account import make_author
from services.console.answers import Answer, json_error
from services.console.bulk import count_plan, get_visible_action, plan_request, start_request, stop_request
from services.console.list_page import MAX_CANDIDATES
from services.console.list_reader import find_visible_slugs
from services.console.list_views import make_document
from services.console.lists import LISTS
from services.console.mail_page import describe_mail, describe_result
from services.console.masking import mask
from services.console.row_actions import ROW_ACTIONS, RowAction, check_shop, find_row, run_action
from services.console.saved_filters import list_links, save_request
from services.core.db import transaction
from services.core.errors import InputInvalid, RetryLater, ShopfleetError, WorkError, describe_unknown
from services.core.fields import LARGEST_COUNT
from services.ledger.queries import get_event, get_work
from services.ledger.steps import list_steps
from services.mail.outbox_admin import get_mail

_TYPES = {
    "filters": dict, "people": list, "recipients": list, "formats": list, "dry_run": bool, "again": bool,
    "force": bool, "generate": bool, "is_paused": bool, "at_most": int, "pause": int, "hours": int,
    "day_begins": int, "factor": float, "threshold": float,
}  # fmt: skip
"""Type of each field of a body; of all others it is text."""


def add_api_rows(blueprint: Blueprint) -> None:
    """Add the routes, and errors as JSON, to the blueprint of the API."""
    blueprint.register_error_handler(HTTPException, _describe_fault)
    for path, endpoint, view in (
        ("/work/<int:number>", "show_work", _show_work),
        ("/events/<int:number>", "show_event", _show_event),
        ("/incidents/<int:number>", "show_incident", _show_incident),
        ("/bulk-actions/<int:number>", "show_bulk_action", _show_bulk_action),
        ("/mails/<int:number>", "show_mail", _show_mail),
    ):
        blueprint.add_url_rule(path, endpoint, view)
    for action in ROW_ACTIONS:
        path = f"/{action.list}/<int:number>/{action.name}"
        blueprint.add_url_rule(path, action.endpoint, _make_change(action), methods=["POST"])
    blueprint.add_url_rule("/bulk-actions", "start_bulk_action", _start, methods=["POST"])
    blueprint.add_url_rule("/bulk-actions/<int:number>/stop", "stop_bulk_action", _stop, methods=["POST"])
    path = "/saved-filters"
    blueprint.add_url_rule(path, "list_filters", _list_filters)
    blueprint.add_url_rule(path, "save_filter", _save_filter, methods=["POST"])
    for name, act in (("delete", delete_filter), ("share", share_filter)):
        rule, change = f"{path}/<int:number>/{name}", _make_filter_change(act)
        blueprint.add_url_rule(rule, f"{name}_filter", change, methods=["POST"])


def _describe_fault(fault: HTTPException) -> Answer:
    code = fault.code or 500
    names = {403: "forbidden", 404: "not_found"}
    return json_error(code, names.get(code, fault.name.lower().replace(" ", "_")), fault.description or "")


def read_body(fields: tuple[str, ...]) -> dict[str, Any]:
    """Return the JSON object of the request, which may have ``fields``; raise ``InputInvalid``."""
    try:
        body = orjson.loads(request.get_data() or b"{}")  # refuses halves of characters and deep nesting
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise InputInvalid("the body should be a JSON object")
    for name, value in body.items():
        if name not in fields:
            raise InputInvalid(f"field {describe_unknown(name, fields)}")
        wanted = _TYPES.get(name, str)
        if type(value) is not wanted and (type(value), wanted) != (int, float):
            raise InputInvalid(f"{name} should be of type {wanted.__name__}")
    for name in ("filters", "recipients", "formats"):
        given = body.get(name, ())
        if not all(isinstance(one, str) for one in (given.values() if isinstance(given, dict) else given)):
            raise InputInvalid(f"each value of {name} should be a text")
    return body


def answering(act: Callable[[], Any]) -> Any:
    """Return the result of ``act``, or its error as JSON.

    422 for a wrong value, 409 for a wrong state, 503 for a provider or a store that does not answer.
    """
    try:
        return act()
    except InputInvalid as fault:
        return json_error(422, "invalid", str(fault))
    except WorkError as fault:
        return json_error(503 if isinstance(fault, RetryLater) else 409, fault.code, fault.detail)
    except ShopfleetError as fault:
        return json_error(409, "conflict", str(fault))


def _make_change(action: RowAction) -> Callable[[int], Any]:
    def change(number: int) -> Any:
        fields = ("reason", *action.fields)
        return answering(lambda: {"result": run_action(action, number, read_body(fields))})

    return change


def make_answer(document: Mapping[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, mimetype="application/json")


def _show_work(number: int) -> Response:
    with transaction() as tx:
        row = find_row(lambda: get_work(tx, number))
        check_shop(row.shop_id)
        slugs, steps = find_visible_slugs(tx, g.access), list_steps(tx, row)
    more = {
        "last_error": row.last_error,
        "result": row.result,
        "event_id": row.event_id,
        "steps": [step._asdict() for step in steps],
    }
    return make_answer(make_document(LISTS["work"], row, slugs) | more | {"payload": mask(row.payload)})


def _show_event(number: int) -> Response:
    with transaction() as tx:
        row, headers, body, work = find_row(lambda: get_event(tx, number))
        check_shop(row.shop_id)
        slugs = find_visible_slugs(tx, g.access)
    try:
        content = orjson.loads(body)
    except ValueError:
        content = body.decode(errors="replace")
    more = {
        "headers": mask(headers),
        "payload": mask(content),
        "work": [make_document(LISTS["work"], one, slugs) for one in work],
    }
    return make_answer(make_document(LISTS["events"], row, slugs) | more)


def _show_incident(number: int) -> Response:
    with transaction() as tx:
        row = find_row(lambda: get_incident(tx, number))
        check_shop(row.shop_id)
        slugs, entries = find_visible_slugs(tx, g.access), list_entries(tx, number)
    fields = {**row._asdict(), "state": _find_state(row)}
    columns = {column.name: fields[column.name] for column in LISTS["incidents"].columns}
    timeline = [{"at": one.at, "kind": one.kind, "by": one.by, "text": one.text} for one in entries]
    shop = {"shop": slugs.get(columns.pop("shop_id"))}
    return make_answer(columns | shop | {"snoozed_until": row.snoozed_until, "entries": timeline})


def _find_state(row: Any) -> str:
    if row.status == "resolved":
        return "resolved"
    if row.snoozed_until and row.snoozed_until > g.at:
        return "snoozed"
    return "acknowledged" if row.acknowledged_at else "open"


def _show_mail(number: int) -> Response:
    with transaction() as tx:
        row = find_row(lambda: get_mail(tx, number))
        check_shop(row.shop_id)
        slugs, more = find_visible_slugs(tx, g.access), describe_mail(tx, row)
    names = [column.name for column in LISTS["mails"].columns if column.name != "shop_id"]
    fields = {name: getattr(row, name, None) for name in names}
    state = {"shop": slugs.get(row.shop_id), "state": describe_result(row)}
    return make_answer(fields | state | more)


def _show_bulk_action(number: int) -> Response:
    return _answer_action(number)


def _answer_action(number: int, status: int = 200) -> Response:
    with transaction() as tx:
        row = get_visible_action(tx, number)
        slugs = find_visible_slugs(tx, g.access)
    more = {"filters": row.query, "skipped": row.skipped, "ended_at": row.ended_at, "error": row.error}
    return make_answer(make_document(LISTS["bulk_actions"], row, slugs) | more, status)


def _start() -> Any:
    return answering(_start_or_plan)


def _start_or_plan() -> Response:
    body = read_body(("list", "action", "filters", "reason", "dry_run", "at_most"))
    at_most = body.get("at_most", MAX_CANDIDATES)
    wanted = plan_request(body.get("list", ""), body.get("action", ""), body.get("filters", {}))
    if body.get("dry_run"):
        with transaction() as tx:
            counts = count_plan(wanted.plan, find_visible_slugs(tx, g.access))
        skipped = {cause: len(ids) for cause, ids in wanted.plan.skipped.items()}
        return make_answer({"count": len(wanted.plan.rows), "counts": counts, "skipped": skipped})
    key = request.headers.get("Idempotency-Key") or uuid4().hex
    return _answer_action(start_request(wanted, body.get("reason", ""), key, at_most), 201)


def _list_filters() -> Response:
    return make_answer({"saved_filters": [one for name in LISTS for one in _read_filters(name)]})


def _read_filters(name: str) -> list[dict[str, Any]]:
    """Return this person's filters of a list and the shared ones, as the page has them above the list."""
    with transaction() as tx:
        links = list_links(tx, LISTS[name], {}, find_visible_slugs(tx, g.access).values())
    return [
        {
            "id": link.id,
            "list": name,
            "name": link.name,
            "filters": dict(parse_qsl(urlsplit(link.url).query)),
            "is_shared": link.is_shared,
        }
        for link in links
    ]


def _save_filter() -> Any:
    def save() -> Response:
        body = read_body(("list", "name", "filters"))
        page = LISTS.get(body.get("list", ""))
        if page is None:
            raise InputInvalid(f"list={describe_unknown(body.get('list', ''), LISTS)}")
        number = save_request(page, body.get("name", ""), body.get("filters", {}))
        return make_answer(next(one for one in _read_filters(page.name) if one["id"] == number), 201)

    return answering(save)


def _make_filter_change(act: Callable[..., Any]) -> Callable[[int], Any]:
    def change(number: int) -> Any:
        def run() -> Response:
            read_body(())
            if number > LARGEST_COUNT:
                raise InputInvalid(f"you have no saved filter {number}")
            with transaction() as tx:
                return make_answer({"result": act(tx, g.access, number, **make_author()).name})

        return answering(run)

    return change


def _stop(number: int) -> Any:
    def stop() -> Response:
        if not stop_request(number):
            raise ShopfleetError(f"bulk action {number} had ended already")
        return _answer_action(number)

    return answering(stop)
