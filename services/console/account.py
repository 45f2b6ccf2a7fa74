"""``/account``: a person's own sessions, second factors and API tokens."""

import re
from datetime import timedelta
from typing import Any

from flask import Blueprint, flash, g, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from services.accounts.api_tokens import create_token, list_tokens, revoke_token
from services.accounts.people import get_person
from services.accounts.roles import Role, parse_role
from services.accounts.sessions import end_sessions, hash_token, list_sessions
from services.audit.append import Author, Mutation, append_change
from services.console.list_reader import parse_whole
from services.console.sign_in import SESSION_KEY
from services.core.counts import format_count
from services.core.db import transaction
from services.core.durations import LONGEST
from services.core.errors import InputInvalid
from services.core.fields import LONGEST_TEXT

_NOT_STORED = re.compile("[\0\ud800-\udfff]")
"""NUL and halves of characters."""


def account_blueprint() -> Blueprint:
    blueprint = Blueprint("account", __name__, url_prefix="/account")

    @blueprint.get("")
    def show() -> str:
        return _show()

    @blueprint.post("/sessions/end")
    def end_session() -> Response:
        return _end_sessions(request.form["session"])

    @blueprint.post("/sessions/end-all")
    def end_all_sessions() -> Response:
        return _end_sessions()

    @blueprint.post("/tokens")
    def create_token() -> Any:
        return _create_token()

    @blueprint.post("/tokens/<int:token_id>/revoke")
    def revoke_token(token_id: int) -> Response:
        return _revoke_token(token_id)

    return blueprint


def make_author(reason: str = "") -> Author:
    """Return who makes the changes of this request, for the audit; raise ``InputInvalid``: bad reason."""
    if len(reason) > LONGEST_TEXT or _NOT_STORED.search(reason):
        detail = f"at most {LONGEST_TEXT:,} characters, without NUL and halves of characters"
        raise InputInvalid(f"reason should have {detail}")
    return {"by": g.access.email, "now": g.at, "reason": reason, "request_id": g.request_id}


def _show(new_token: str = "") -> str:
    with transaction() as tx:
        person = get_person(tx, g.access.email)
        sessions = list_sessions(tx, person.id, g.at)
        tokens = list_tokens(tx, person.id)
    return render_template(
        "account.html",
        title="Your account",
        person=person,
        sessions=sessions,
        this_session=hash_token(session.get(SESSION_KEY, "")),
        tokens=tokens,
        roles=[role.title for role in Role if role <= g.access.highest],
        new_token=new_token,
        limited_to=g.access.highest if g.access.highest < max(person.roles.values()) else None,
    )


def _end_sessions(one: str = "") -> Response:
    try:
        token_hash = bytes.fromhex(one) if one else None
    except ValueError:
        token_hash = b""
    with transaction() as tx:
        ended = end_sessions(tx, g.access.user_id, token_hash)
        mutation = Mutation(
            "user_sessions", str(g.access.user_id), f"ended {format_count(ended, 'own session')}"
        )
        append_change(tx, "user.end_sessions", {None: [mutation]}, **make_author())
    flash(f"{format_count(ended, 'session')} ended.")
    return redirect(url_for("account.show"))


def _create_token() -> Any:
    try:
        role = parse_role(request.form.get("role", "viewer"))
        days = parse_whole("days", request.form.get("days", "90"), 1, LONGEST.days)
        with transaction() as tx:
            name = request.form.get("name", "")
            token = create_token(tx, g.access, name, role, timedelta(days=days), **make_author())
    except InputInvalid as fault:
        flash(str(fault), "error")
        return redirect(url_for("account.show"))
    return _show(token)


def _revoke_token(token_id: int) -> Response:
    try:
        with transaction() as tx:
            revoke_token(tx, g.access.user_id, token_id, **make_author())
        flash("The token is revoked.")
    except InputInvalid as fault:
        flash(str(fault), "error")
    return redirect(url_for("account.show"))
