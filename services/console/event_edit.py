"""``/events/<id>/edit``: shows a body as it is stored, then what an edit changes, then records it."""

from typing import Any, NamedTuple
from uuid import uuid4

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from sqlalchemy import Connection

from services.accounts.roles import Role
from services.audit.append import Mutation, append_change
from services.console.account import make_author
from services.console.row_actions import check_shop, find_row
from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import InputInvalid
from services.ledger.dispatch import send_messages
from services.ledger.event_edit import (
    MAX_BYTES,
    ValueChange,
    check_edit,
    find_edit_kind,
    hash_body,
    record_edit,
)  # fmt: skip
from services.ledger.queries import get_event
from services.providers.provider import MONEY, PLAIN

EDIT_ROLES = {PLAIN: Role.ADMIN, MONEY: Role.OWNER}
"""By kind of topic, the role at the shop that an edit needs; another kind is not edited."""


class EditForm(NamedTuple):
    """What the form sent, or its first values. ``checked`` is the hash of the body that was checked."""

    body: str
    reason: str = ""
    opened: str = ""
    checked: str = ""
    token: str = ""


def event_edit_blueprint() -> Blueprint:
    blueprint = Blueprint("event_edit", __name__)

    @blueprint.post("/events/<int:number>/edit")
    def edit(number: int) -> Any:
        return _edit(number)

    return blueprint


def find_edit_role(provider: str, topic: str) -> str:
    """Return the role that edits events of the topic; empty: such events are not edited."""
    role = EDIT_ROLES.get(find_edit_kind(provider, topic))
    return role.title if role else ""


def find_editable(tx: Connection, number: int) -> tuple[Any, bytes]:
    """Return the event and its body; answer 404 or 403 to a person who may not edit it."""
    event, _, body, _ = find_row(lambda: get_event(tx, number))
    check_shop(event.shop_id)
    role = EDIT_ROLES.get(find_edit_kind(event.provider, event.topic))
    if role is None:
        abort(403, f"events of {event.provider} {event.topic} are not edited")
    check_shop(event.shop_id, role)
    return event, body


def open_body(tx: Connection, event: Any, body: bytes) -> str:
    """Return the body unmasked, which is audited; raise ``InputInvalid`` for one that is too large."""
    if len(body) > MAX_BYTES:
        raise InputInvalid(
            f"The body has {format_count(len(body), 'byte')}: an edit has at most {MAX_BYTES:,}."
        )
    mutation = Mutation("inbound_events", str(event.id), f"opened the body of event {event.id} for an edit")
    append_change(tx, "payload.unmask", {event.shop_id: [mutation]}, **make_author())
    return body.decode(errors="replace")


def _edit(number: int) -> Any:
    with transaction() as tx:
        event, body = find_editable(tx, number)
        if "body" not in request.form:
            try:
                text = open_body(tx, event, body)
            except InputInvalid as fault:
                flash(str(fault), "error")
                return redirect(url_for("details.event", number=event.id))
            return _render(event, EditForm(text, opened=hash_body(body), token=uuid4().hex))
    return _check(event, body)


def check_opened(body: bytes, opened: str, edited: str) -> list[ValueChange]:
    """Return what ``edited`` changes; raise ``InputInvalid``, also if the body was redacted since then."""
    if opened != hash_body(body):
        raise InputInvalid("the body was changed since you opened it, by a redaction: open it again")
    return check_edit(body, edited)


def _check(event: Any, body: bytes) -> Any:
    """Show what the form changes; record it if exactly this was shown before."""
    given = {name: request.form.get(name, "") for name in EditForm._fields}
    # A browser sends each end of a line as CR LF.
    form = EditForm(**given | {"body": given["body"].replace("\r\n", "\n")})
    changes: list[ValueChange] = []
    try:
        changes = check_opened(body, form.opened, form.body)
        shown = hash_body(form.body.encode())
        if "record" in request.form and form.checked == shown:
            return _record(event, form)
        form = form._replace(checked=shown)
    except InputInvalid as fault:
        flash(str(fault), "error")
        form = form._replace(checked="")
    return _render(event, form, changes)


def record_opened(event: Any, form: EditForm) -> tuple[int, str]:
    """Record the edit, once for each token; return the id of the new event and what was done."""
    author = make_author(form.reason)
    with transaction() as tx:
        result = record_edit(tx, event.id, form.body, opened=form.opened, token=form.token, **author)
    send_messages(result.work)
    (new,) = result.event_ids
    return new, f"The edit is recorded as event {new}. New work: {len(result.work)}."


def _record(event: Any, form: EditForm) -> Any:
    new, done = record_opened(event, form)
    flash(done)
    return redirect(url_for("details.event", number=new))


def _render(event: Any, form: EditForm, changes: list[ValueChange] | None = None) -> str:
    title = f"Edit event {event.id}"
    return render_template("event_edit.html", title=title, row=event, form=form, changes=changes or [])
