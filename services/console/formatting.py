"""How pages show ages, times and numbers, and what every template can call."""

import re
from datetime import datetime
from typing import Any, NamedTuple
from uuid import uuid4
from zoneinfo import ZoneInfo

from flask import Flask, g, request, url_for
from flask_wtf.csrf import generate_csrf
from markupsafe import Markup, escape
from sqlalchemy import exists, select

from services.accounts.roles import parse_role
from services.accounts.tables import users
from services.console.auth import PAGE_ROUTES
from services.console.event_edit import find_edit_role
from services.console.line_pages import change_query
from services.console.list_views import find_back_url, list_summaries, show_address
from services.console.repeats import FIELD as REQUEST_KEY
from services.console.sign_in_texts import LABELS
from services.core.counts import format_count
from services.core.db import transaction
from services.core.settings import Settings
from services.core.times import format_time
from services.ledger.pause import format_rate

_COMMAND = re.compile(r"`([^`]+)`")


class PageLink(NamedTuple):
    """An entry of the navigation; ``key`` is typed after "g"."""

    label: str
    url: str
    key: str
    is_current: bool


NAVIGATION = (
    ("Scan", "pages.home", "s"),
    ("Connections", "shops.health", "c"),
    ("Queues", "queues.index", "q"),
    ("Jobs", "jobs.index", "j"),
    ("Work", "lists.work", "w"),
    ("Dead", "pages.dead", "d"),
    ("Events", "lists.events", "e"),
    ("Incidents", "lists.incidents", "i"),
    ("Errors", "lists.errors", "x"),
    ("Runs", "lists.runs", "r"),
    ("Bulk actions", "lists.bulk_actions", "b"),
    ("Reports", "reports.index", "p"),
    ("Letters", "letters.index", "l"),
    ("Mails", "lists.mails", "m"),
    ("Audit", "lists.audit", "a"),
)
"""Label, endpoint and key."""


def add_helpers(app: Flask, settings: Settings) -> None:
    """Add filters and functions for templates."""
    app.add_template_filter(describe_age, "age")
    app.add_template_filter(format_count)
    app.add_template_filter(format_rate)

    @app.template_filter("commands")
    def show_commands(text: str) -> Markup:
        return Markup(_COMMAND.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped

    @app.template_filter("moment")
    def show_moment(at: datetime, zone: str = "", *, with_seconds: bool = False) -> Markup:
        text = show_local_time(at, zone, with_seconds=with_seconds)
        return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), text)

    @app.template_filter("local_time")
    def show_local_time(at: datetime, zone: str = "", *, with_seconds: bool = False) -> str:
        return format_time(at, ZoneInfo(zone) if zone else settings.zone, with_seconds=with_seconds)

    @app.template_global()
    def form_fields() -> Markup:
        """Return the hidden fields of each form that changes something."""
        field = Markup('<input type="hidden" name="{}" value="{}">')
        return field.format("csrf_token", generate_csrf()) + field.format(REQUEST_KEY, uuid4().hex)

    @app.template_global("since")
    def show_since(at: datetime | None, now: datetime, zone: str) -> Markup:
        """Return how long ago ``at`` was; its time is in the title."""
        if at is None:
            return Markup()
        title, age = show_local_time(at, zone), describe_age((now - at).total_seconds())
        return Markup(f'<time datetime="{at.isoformat()}" title="{title}">{age}</time>')  # noqa: S704 - times

    @app.context_processor
    def functions() -> dict[str, Any]:
        return {
            "navigation": list_links,
            "has_people": has_people,
            "label_of": label_of,
            "summaries": list_summaries,
            "show_address": show_address,
            "may": may,
            "find_edit_role": find_edit_role,
            "change_query": change_query,
            "back_url": find_back_url(),
        }


def list_links() -> list[PageLink]:
    """Return the pages that this person may open."""
    return [
        PageLink(label, url_for(endpoint), key, request.endpoint == endpoint)
        for label, endpoint, key in NAVIGATION
        if g.access.highest >= PAGE_ROUTES[endpoint]
    ]


def has_people() -> bool:
    """Return whether anybody can sign in."""
    with transaction() as tx:
        return bool(tx.execute(select(exists(select(users.c.id)))).scalar())


def may(role: str, shop_id: int | None) -> bool:
    """Return whether this person may do at the shop what needs ``role``."""
    return bool(g.access and g.access.may(parse_role(role), shop_id))


def label_of(field: Any) -> str:
    """Return the label of a field of Flask-Security in our words."""
    text = str(field.label.text)
    return LABELS.get(text, text)


def describe_age(seconds: float | None) -> str:
    """Return an age as ``now``, ``12 s``, ``4 min``, ``3 h`` or ``2 d``; None is a dash."""
    if seconds is None:
        return "–"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "now"
