"""Saved filters: links above a list, and the forms that save, share and delete them."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

from flask import Blueprint, abort, flash, g, redirect, request, url_for
from sqlalchemy import Connection

from services.accounts.roles import Role
from services.accounts.saved_filters import delete_filter, list_saved, save_filter, share_filter
from services.console.account import make_author
from services.console.list_page import ListPage
from services.console.list_reader import parse_filters
from services.console.lists import LISTS
from services.core.db import transaction
from services.core.errors import InputInvalid
from services.core.fields import LARGEST_COUNT


class SavedLink(NamedTuple):
    """A saved filter above its list. ``may_share`` and ``may_delete``: what this person may do with it."""

    id: int
    name: str
    url: str
    is_current: bool
    is_shared: bool
    may_share: bool
    may_delete: bool


def saved_filters_blueprint() -> Blueprint:
    blueprint = Blueprint("filters", __name__, url_prefix="/filters")

    @blueprint.post("")
    def save() -> Any:
        return _save()

    @blueprint.post("/<int:number>/delete")
    def delete(number: int) -> Any:
        return _change(delete_filter, number, "is deleted")

    @blueprint.post("/<int:number>/share")
    def share(number: int) -> Any:
        return _change(share_filter, number, "is shared")

    return blueprint


def make_query(given: Mapping[str, str]) -> str:
    """Return the filters of an address in a fixed order, without the cursor and empty ones."""
    return urlencode(sorted((name, value) for name, value in given.items() if value and name != "after"))


def list_links(
    tx: Connection, page: ListPage, given: Mapping[str, str], slugs: Collection[str]
) -> list[SavedLink]:
    """Return this person's saved filters, and the shared ones of no shop or of one of ``slugs``."""
    current, is_operator = make_query(given), g.access.may(Role.OPERATOR)
    links = []
    for one in list_saved(tx, page.name, g.access.user_id):
        is_shared, shop = one.user_id is None, dict(parse_qsl(one.query)).get("shop")
        if is_shared and shop and shop not in slugs:
            continue
        links.append(
            SavedLink(
                one.id,
                one.name,
                f"{url_for(f'lists.{page.name}')}?{one.query}",
                is_current=one.query == current,
                is_shared=is_shared,
                may_share=is_operator and not is_shared,
                may_delete=is_operator or not is_shared,
            )
        )
    return links


def _save() -> Any:
    page = LISTS.get(request.form.get("list", ""))
    if page is None:
        abort(404, "There is no such list.")
    given = dict(parse_qsl(request.form.get("query", "")))
    name = request.form.get("name", "")
    try:
        save_request(page, name, given)
        flash(f"The filter {name.strip()!r} is saved.")
    except InputInvalid as fault:
        flash(str(fault), "error")
    return redirect(f"{url_for(f'lists.{page.name}')}?{make_query(given)}")


def save_request(page: ListPage, name: str, given: Mapping[str, str]) -> int:
    """Save the filters of a request for this person; return the id; raise ``InputInvalid``."""
    if masked := [one.name for one in page.filters if one.role > Role.VIEWER and given.get(one.name)]:
        raise InputInvalid(f"{masked[0]} is not saved: it may have data of a person")
    with transaction() as tx:
        parse_filters(tx, page, given, g.access, g.at)
        return save_filter(tx, g.access, page.name, name, make_query(given), **make_author())


def _change(act: Any, number: int, done: str) -> Any:
    if number > LARGEST_COUNT:
        abort(404, "You have no such saved filter.")
    try:
        with transaction() as tx:
            found = act(tx, g.access, number, **make_author())
        flash(f"The filter {found.name!r} {done}.")
        return redirect(f"{url_for(f'lists.{found.list}')}?{found.query}")
    except InputInvalid as fault:
        flash(str(fault), "error")
        return redirect(url_for("pages.home"))
