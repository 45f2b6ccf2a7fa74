"""Pages and API of the lists in ``LISTS``: the same rows, filters, access and cursors."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson
from flask import Blueprint, Response, g, render_template, request, url_for
from sqlalchemy import Connection

from services.accounts.roles import Role
from services.audit.append import Mutation, append_change
from services.console.account import make_author
from services.console.answers import json_error
from services.console.audit_pages import read_audit_panel
from services.console.list_page import MAX_CANDIDATES, ListColumn, ListPage, Values
from services.console.list_reader import (
    ListResult,
    find_visible_slugs,
    parse_filters,
    parse_whole,
    read_list,
)
from services.console.lists import AUDIT, LISTS
from services.console.openapi import MAX_ROWS, make_openapi, name_in_api
from services.console.saved_filters import list_links, make_query
from services.core.db import MAX_COUNTED, transaction
from services.core.errors import InputInvalid
from services.ledger.work import FLEET
from services.providers.outgoing_mail import mask_address

PAGE_ROWS = 50


def lists_blueprint() -> Blueprint:
    blueprint = Blueprint("lists", __name__)
    for page in LISTS.values():
        blueprint.add_url_rule(f"/{page.path}", page.name, _make_view(page))
    return blueprint


def api_blueprint() -> Blueprint:
    blueprint = Blueprint("api", __name__, url_prefix="/api/v1")
    for page in LISTS.values():
        blueprint.add_url_rule(f"/{page.path}", page.name, _make_answer(page))

    @blueprint.get("/openapi.json")
    def openapi() -> Response:
        return _answer(make_openapi())

    return blueprint


def _make_view(page: ListPage) -> Callable[[], Any]:
    def show() -> Any:
        given, fault, status = request.args.to_dict(), "", 200
        back = urlencode([(name, value) for name, value in given.items() if value])
        with transaction() as tx:
            slugs = find_visible_slugs(tx, g.access)
            saved = list_links(tx, page, given, slugs.values())
            choices = {one.name: one.choices(tx) for one in page.filters if one.choices}
            panel = read_audit_panel(tx, slugs) if page is AUDIT else None
        try:
            result = _read(page, given, PAGE_ROWS)
        except InputInvalid as error:
            fault, status = str(error), 422
            result = ListResult([], "", {}, 0, False)
        return render_template(
            "list.html",
            title=page.title,
            page=page,
            filters=[one for one in page.filters if g.access.highest >= one.role],
            result=result,
            may_act=g.access.highest >= Role.OPERATOR,
            given=given,
            saved=saved,
            query="" if fault else make_query(given),
            fault=fault,
            choices=choices,
            slugs=slugs,
            shops=sorted(slug for shop_id, slug in slugs.items() if shop_id != FLEET),
            max_counted=MAX_COUNTED,
            max_candidates=MAX_CANDIDATES,
            link=_make_link(page, given),
            page_of=lambda row: url_for(
                page.detail, **{page.detail_key: row[page.columns[0].name]}, back=back or None
            ),
            back=back,
            panel=panel,
            is_red=bool(panel and panel["broken"]),
        ), status

    return show


_LIST_OF_PAGE = {page.detail: page.name for page in LISTS.values() if page.detail}
"""Endpoint of a row's page -> its list."""


def find_back_url(name: str = "") -> str:
    """Return the address of the list, with its filters and page, from which this request came, or "".

    ``name`` is the list; if not given, that of the row whose page this is.
    """
    name = name or _LIST_OF_PAGE.get((request.endpoint or "").replace("unmask_", ""), "")
    if name not in LISTS or "back" not in request.args:
        return ""
    known = {one.name for one in LISTS[name].filters} | {"after"}
    given: dict[str, Any] = dict(parse_qsl(request.args["back"]))
    given = {field: value for field, value in given.items() if field in known}
    return url_for(f"lists.{name}", **given)


def _make_link(page: ListPage, given: Mapping[str, str]) -> Callable[..., str]:
    """Return a function for the address of this list with other values."""
    filters = {one.name: given.get(one.name, "") for one in page.filters}

    def link(**changes: str) -> str:
        values: dict[str, Any] = {name: value for name, value in {**filters, **changes}.items() if value}
        return url_for(f"lists.{page.name}", **values)

    return link


def _make_answer(page: ListPage) -> Callable[[], Any]:
    def answer() -> Any:
        given = request.args.to_dict()
        try:
            limit = parse_whole("limit", given.get("limit", str(PAGE_ROWS)), 1, MAX_ROWS)
            result = _read(page, given, limit)
        except InputInvalid as error:
            return json_error(422, "invalid_filter", str(error))
        with transaction() as tx:
            slugs = find_visible_slugs(tx, g.access)
        rows = [make_document(page, row, slugs) for row in result.rows]
        return _answer(
            {
                page.name: rows,
                "next": result.after or None,
                "count": min(result.total, MAX_COUNTED),
                "is_counted": result.total <= MAX_COUNTED and not (result.is_cut or result.too_large),
                "too_large": result.too_large,
                "counts": {name: min(count, MAX_COUNTED) for name, count in result.counts.items()},
            }
        )

    return answer


def _read(page: ListPage, given: Mapping[str, str], limit: int) -> ListResult:
    with transaction() as tx:
        values = parse_filters(tx, page, given, g.access, g.at)
        audit_search(tx, page, given, values)
    with transaction() as tx:
        return read_list(tx, page, values, g.access, limit=limit, after=given.get("after", ""))


def audit_search(tx: Connection, page: ListPage, given: Mapping[str, str], values: Values) -> None:
    """Record who searches what is masked, and where; never the text."""
    if any(one.role > Role.VIEWER and one.name in values for one in page.filters):
        searched = {name: given[name] for name in ("shop", "topic", "since", "until") if name in given}
        names = ", ".join(one.name for one in page.filters if one.role > Role.VIEWER and one.name in values)
        where = ", ".join(f"{name} {value}" for name, value in searched.items())
        summary = f"searched {names} of {page.name}: {where}"
        mutation = Mutation(page.table, "", summary, None, searched)
        append_change(tx, "payload.search", {values["shop"]: [mutation]}, **make_author())


def make_document(page: ListPage, row: Any, slugs: Mapping[int, str]) -> dict[str, Any]:
    """Return a row for the API: its columns, with the shop's slug."""
    return {name_in_api(column): _plain(column, getattr(row, column.name), slugs) for column in page.columns}


def _plain(column: ListColumn, value: Any, slugs: Mapping[int, str]) -> Any:
    if column.kind == "shops":
        return [slugs.get(one) for one in value]
    if column.kind == "shop":
        return slugs.get(value)
    if column.kind == "address":
        return show_address(value)
    return list_summaries(value) if column.kind == "summaries" else value


def show_address(value: str) -> str:
    """Return a mail address masked, and any other text as it is."""
    return mask_address(value) if "@" in value else value


def list_summaries(mutations: str) -> list[str]:
    """Return what an audit entry says of each change."""
    try:
        return [str(one["summary"]) for one in orjson.loads(mutations)]
    except (ValueError, TypeError, KeyError):
        return [mutations]


def _answer(document: Mapping[str, Any]) -> Response:
    # Numbers beyond 2^53 stay exact: JSON has them as numbers, and so does the text.
    return Response(orjson.dumps(document), mimetype="application/json")
