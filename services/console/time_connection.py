"""Connects a company to QuickBooks Time: OAuth 2 with a state that is bound to this browser's session.

The way back only shows a form: a request with GET changes nothing. Source: QuickBooks Time API documentation,
"Authentication".
"""

import secrets
from datetime import timedelta
from hmac import compare_digest
from typing import Any

from flask import Blueprint, current_app, flash, g, redirect, render_template, request, session, url_for

from services.accounts.roles import Role
from services.audit.append import Mutation, append_change
from services.console.account import make_author
from services.console.planned_change import check_role
from services.console.shop_pages import get_visible_shop
from services.console.sign_in_settings import console_url
from services.core.db import transaction
from services.core.errors import InputInvalid, WorkError
from services.core.settings import get_settings
from services.providers.http import get_http_client
from services.providers.oauth import request_grant
from services.providers.quickbooks_time_oauth import make_authorize_url
from services.shops.secrets import find_secrets
from services.shops.shops import Shop
from services.shops.tokens import record_grant
from services.timesheets.account import QUICKBOOKS_TIME

_STATE = "time_connection"
VALID_FOR = timedelta(minutes=10)
"""A person who takes longer begins again."""


def time_connection_blueprint() -> Blueprint:
    blueprint = Blueprint("time_connection", __name__)
    for path, endpoint, view, method in (
        ("/shops/<slug>/quickbooks-time", "start", _start, "POST"),
        ("/oauth/quickbooks-time/callback", "show", _show_form, "GET"),
        ("/oauth/quickbooks-time/callback", "finish", _finish, "POST"),
    ):
        blueprint.add_url_rule(path, endpoint, view, methods=[method])
    return blueprint


def _start(slug: str) -> Any:
    """Show the link to QuickBooks Time, which carries a new state."""
    shop = get_visible_shop(slug)
    check_role(Role.ADMIN, shop.id)
    try:
        client_id, _ = _find_client(shop)
    except InputInvalid as fault:
        flash(str(fault), "error")
        return redirect(url_for("shops.show", slug=slug, _anchor="secrets"))
    state = secrets.token_urlsafe(32)
    session[_STATE] = {"state": state, "slug": slug, "until": (g.at + VALID_FOR).timestamp()}
    base = get_settings().quickbooks_time_api_base
    return render_template(
        "time_connection.html",
        title="Connect QuickBooks Time",
        shop=shop,
        url=make_authorize_url(base, client_id, _callback(), state),
    )


def _show_form() -> Any:
    try:
        shop = _find_shop(request.args.get("state", ""))
        if error := request.args.get("error"):
            raise InputInvalid(f"QuickBooks Time did not allow it: {error[:60]}")
        if not request.args.get("code"):
            raise InputInvalid("the address has no code: begin again")
    except InputInvalid as fault:
        return render_template("error.html", title="Not connected", detail=f"{fault}."), 422
    return render_template("time_connection.html", title="Connect QuickBooks Time", shop=shop, url="")


def _finish() -> Any:
    """Exchange the code for tokens and store them; the state is used up."""
    try:
        shop = _find_shop(request.form.get("state", ""))
        session.pop(_STATE, None)
        client_id, client_secret = _find_client(shop)
        grant = request_grant(
            QUICKBOOKS_TIME.endpoint,
            get_http_client(),
            get_settings().quickbooks_time_api_base,
            {
                "grant_type": "authorization_code",
                "code": request.form.get("code", ""),
                "client_id": client_id,
                "client_secret": client_secret,
                "redirect_uri": _callback(),
            },
        )
    except InputInvalid as fault:
        return render_template("error.html", title="Not connected", detail=f"{fault}."), 422
    except WorkError as fault:
        current_app.logger.warning("QuickBooks Time was not connected: %s", fault.code)
        detail = f"{fault.code}: {fault.detail}. Begin again on the shop's page."
        return render_template("error.html", title="Not connected", detail=detail), 502
    with transaction() as tx:
        record_grant(tx, QUICKBOOKS_TIME, shop.id, grant, by=g.access.email)
        mutation = Mutation("connections", f"{shop.id}/quickbooks-time", "connected to QuickBooks Time")
        append_change(tx, "shop.connect", {shop.id: [mutation]}, **make_author())
    flash("QuickBooks Time is connected. Reports that are due go out within 15 minutes.")
    return redirect(url_for("shops.show", slug=shop.slug, _anchor="connections"))


def _find_shop(state: str) -> Shop:
    """Return the shop for which this browser began; raise ``InputInvalid`` for another or an old state."""
    begun = session.get(_STATE) or {}
    if not compare_digest(str(begun.get("state", "")).encode(), state.encode()) or not state:
        raise InputInvalid("this answer belongs to no connection that this browser began: begin again")
    if begun["until"] < g.at.timestamp():
        raise InputInvalid("it took longer than 10 minutes: begin again")
    shop = get_visible_shop(begun["slug"])
    check_role(Role.ADMIN, shop.id)
    return shop


def _find_client(shop: Shop) -> tuple[str, str]:
    names = [QUICKBOOKS_TIME.name(part) for part in ("client-id", "client-secret")]
    with transaction() as tx:
        found = find_secrets(tx, [(shop.id, name) for name in names])
    values = [found.get((shop.id, name)) for name in names]
    missing = [name for name, value in zip(names, values, strict=True) if not isinstance(value, str)]
    if missing:
        raise InputInvalid(f"record {' and '.join(missing)} of your QuickBooks Time app first")
    return str(values[0]), str(values[1])


def _callback() -> str:
    return f"{console_url(get_settings())}{url_for('time_connection.show')}"
