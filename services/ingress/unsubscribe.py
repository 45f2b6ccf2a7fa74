"""``/unsubscribe/<token>``: ends the mail of a series with one click (RFC 8058), without a sign-in.

GET shows a button and changes nothing, because scanners of mail follow links. There is no limit by address:
the mail services of many people send their clicks from a few addresses, and a token cannot be guessed.
"""

from base64 import b64encode
from hashlib import sha256
from typing import Any

from flask import Blueprint, Response, g, render_template
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.core.db import is_connection_fault, transaction
from services.core.settings import get_settings
from services.ingress.page_stats import note_fault
from services.outreach.consents import withdraw
from services.outreach.links import LinkTarget, find_target
from services.providers.outgoing_mail import AddressInvalid, parse_sender
from services.shops.shops import Shop, get_shop_by_id

RETRY_AFTER_SECONDS = "30"
_BY = "link to unsubscribe"
_STYLE = (
    "body{font:18px/1.5 system-ui,sans-serif;margin:0;padding:12vh 24px}main{max-width:34em;margin:auto}"
    "h1{font-size:1.5em;line-height:1.25}h1,p{overflow-wrap:anywhere}"
    "button{font:inherit;padding:.7em 1.4em;min-height:48px;cursor:pointer}"
)
_STYLE_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}


def unsubscribe_blueprint() -> Blueprint:
    blueprint = Blueprint("unsubscribe", __name__)
    path = "/unsubscribe/<token>"
    blueprint.add_url_rule(path, "show", _show, methods=["GET"])
    blueprint.add_url_rule(path, "withdraw", _withdraw, methods=["POST"])
    blueprint.register_error_handler(DBAPIError, _show_unavailable)
    blueprint.register_error_handler(PoolTimeout, _show_unavailable)

    @blueprint.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(_HEADERS)
        return response

    return blueprint


def _show(token: str) -> Any:
    with transaction() as tx:
        found = _find(tx, token)
    if found is None:
        return _show_unknown()
    _, shop = found
    lines = [
        f"You get no more reminders or other commercial mail from {shop.name} after a click on the button."
    ]
    return _render(f"No more mail from {shop.name}?", lines, has_button=True)


def _withdraw(token: str) -> Any:
    with transaction() as tx:
        found = _find(tx, token)
        if found is not None:
            target, shop = found
            source = f"one click, {target.series}"
            author = {"by": _BY, "request_id": g.request_id}
            withdraw(tx, shop.id, [target.person_id], source, now=g.at, **author)
    if found is None:
        return _show_unknown()
    contact = (
        f"If this was a mistake, write to {shop.name}: {shop.mail_contact}." if shop.mail_contact else ""
    )
    lines = [f"{shop.name} sends you no more reminders or other commercial mail.", *filter(None, [contact])]
    return _render("You are unsubscribed", lines)


def _find(tx: Connection, token: str) -> tuple[LinkTarget, Shop] | None:
    target = find_target(tx, token)
    return (target, get_shop_by_id(tx, target.shop_id)) if target else None


def _show_unknown() -> Any:
    lines = [
        "Part of it may be missing: copy the whole link from the mail.",
        f"Or write to the sender, at the address at the end of the mail{_name_contact()}.",
    ]
    return _render("This link is not complete", lines), 404


def _name_contact() -> str:
    try:
        return f", or to {parse_sender(get_settings().mail_from)[1]}"
    except AddressInvalid:
        return ""


def _show_unavailable(fault: Exception) -> Any:
    if not is_connection_fault(fault):
        raise fault
    note_fault(fault)
    lines = [
        "You are not unsubscribed yet. Please open the link again in a minute.",
        f"Or write to the sender, at the address at the end of the mail{_name_contact()}.",
    ]
    return _render("Please try again", lines), 503, {"Retry-After": RETRY_AFTER_SECONDS}


def _render(title: str, lines: list[str], *, has_button: bool = False) -> str:
    values = {"title": title, "lines": lines, "has_button": has_button, "style": _STYLE}
    return render_template("unsubscribe.html", **values)
