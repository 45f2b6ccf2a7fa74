"""Changes in the API that are of no single row of a list: the functions of the pages, by operation."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from uuid import uuid4

import orjson
from flask import Blueprint, abort

from services.console.api_change_schemas import CHANGES
from services.console.api_views import answering, make_answer, read_body
from services.console.audit_pages import send_export, verify
from services.console.event_edit import (
    EditForm,
    check_opened,
    find_editable,
    open_body,
    record_opened,
)
from services.console.job_changes import plan_job_change
from services.console.job_pages import find_place
from services.console.letter_pages import add_planned_change, change_letter, delete_planned_change
from services.console.mail_page import can_unmask
from services.console.planned_change import Planner, make_change
from services.console.queue_changes import plan_change
from services.console.report_pages import pause_report, preview_report, save_own_report, send_report
from services.console.row_actions import audit_unmask, check_shop, find_row
from services.console.shop_changes import (
    change_settings,
    change_staff,
    change_threshold,
    record_own_secret,
    send_month,
)
from services.core.db import transaction
from services.ledger.event_edit import hash_body
from services.ledger.queries import get_event, get_work
from services.mail.outbox_admin import find_mail_content, get_mail

Body = Mapping[str, Any]


def add_api_changes(blueprint: Blueprint) -> None:
    """Add the route of each of ``CHANGES`` to the blueprint of the API."""
    for change in CHANGES:
        rule = change.path.replace("{number}", "<int:number>").replace("{", "<").replace("}", ">")
        view = _make_view(_ACTS[change.operation], tuple(change.fields))
        blueprint.add_url_rule(rule, change.operation, view, methods=["POST"])


def _make_view(act: Callable[..., Any], fields: tuple[str, ...]) -> Callable[..., Any]:
    def view(**place: Any) -> Any:
        return answering(lambda: act(read_body(fields), **place))

    return view


def _change(plan: Planner, body: Body) -> Any:
    """Make the change, or with ``dry_run`` return what it would do."""
    given = {name: _format(value) for name, value in body.items() if name != "dry_run"}
    if not body.get("dry_run"):
        return {"result": make_change(plan, given).text}
    with transaction() as tx:
        planned = plan(tx, given)
    return {"result": f"{planned.title}: {planned.effect}", "lines": [*planned.lines]}


def _format(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else ""
    return repr(value) if isinstance(value, float) else str(value)


def _format_all(body: Body) -> dict[str, str]:
    return {name: _format(value) for name, value in body.items()}


def _change_settings(body: Body, shop: str) -> Any:
    given = {name: value for name, value in body.items() if name != "force"}
    return {"result": " ".join(change_settings(shop, given, is_forced=bool(body.get("force"))))}


def _record_secret(body: Body, shop: str) -> Any:
    recorded = record_own_secret(shop, _format_all(body))
    value = {"value": recorded.generated[1]} if recorded.generated else {}
    return {"result": recorded.text, **value}


def _save_report(body: Body, shop: str) -> Any:
    number, done = save_own_report(shop, body)
    return {"result": done, "id": number}


def _edit_event(body: Body, number: int) -> Any:
    with transaction() as tx:
        event, stored = find_editable(tx, number)
        if "body" not in body:
            return make_answer({"body": open_body(tx, event, stored), "opened": hash_body(stored)})
    opened = body.get("opened", "")
    changes = check_opened(stored, opened, body["body"])
    answer = {"changes": [one._asdict() for one in changes]}
    if body.get("dry_run"):
        return make_answer(answer)
    form = EditForm(body["body"], body.get("reason", ""), opened, token=uuid4().hex)
    new, done = record_opened(event, form)
    return make_answer({"result": done, "event_id": new} | answer)


def _change_job(body: Body, job: str) -> Any:
    return _change(partial(plan_job_change, *find_place(job, body.get("shop", ""))), body)


def _verify(body: Body) -> Any:
    text, faults = verify(body.get("shop", ""))
    return {"result": text or "altered", "faults": faults}


def _unmask_work(_body: Body, number: int) -> Any:
    with transaction() as tx:
        row = find_row(lambda: get_work(tx, number))
        audit_unmask(tx, row.shop_id, "work_queue", number)
    return make_answer({"payload": row.payload})


def _unmask_event(_body: Body, number: int) -> Any:
    with transaction() as tx:
        event, headers, body, _ = find_row(lambda: get_event(tx, number))
        audit_unmask(tx, event.shop_id, "inbound_events", number)
    try:
        payload = orjson.loads(body)
    except ValueError:
        payload = body.decode(errors="replace")
    return make_answer({"headers": headers, "payload": payload})


def _unmask_mail(_body: Body, number: int) -> Any:
    with transaction() as tx:
        row = find_row(lambda: get_mail(tx, number))
        content = find_mail_content(tx, number)
        check_shop(row.shop_id)
        if not can_unmask(row, content):
            abort(403, "this mail has no text, or one that signs a person in")
        audit_unmask(tx, row.shop_id, "mail_outbox", number)
    headers = {"recipient": row.recipient, "subject": row.subject, "headers": content.headers}
    return make_answer(headers | {"text": content.text})


_ACTS: Mapping[str, Callable[..., Any]] = {
    "change_queues": partial(_change, plan_change),
    "change_job": _change_job,
    "verify_audit": _verify,
    "export_audit": lambda body: send_export(body.get("shop", "")),
    "send_report": lambda body, number: {"result": send_report(number, body.get("period", ""))},
    "change_settings": _change_settings,
    "change_staff": lambda body, shop: {"result": change_staff(shop, body)},
    "record_secret": _record_secret,
    "set_threshold": lambda body, shop: {"result": change_threshold(shop, _format_all(body))},
    "download_month": lambda _body, shop, period: send_month(shop, period),
    "save_report": _save_report,
    "pause_report": lambda body, number: {
        "result": pause_report(number, is_paused=bool(body.get("is_paused")))
    },
    "preview_report": lambda body, number: preview_report(number, body.get("period", "")),
    "change_letter": lambda body, number: {"result": change_letter(number, body)},
    "add_planned": lambda body: {"result": add_planned_change(body)},
    "delete_planned": lambda _body, number: {"result": delete_planned_change(number)},
    "edit_event": _edit_event,
    "unmask_work": _unmask_work,
    "unmask_event": _unmask_event,
    "unmask_mail": _unmask_mail,
}
"""By operation."""
