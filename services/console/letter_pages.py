"""``/letters``: the weekly letters to owners, which a person changes, approves or holds; planned changes."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for
from sqlalchemy import Connection, Row

from services.accounts.roles import Role
from services.closing.letters import (
    LONGEST_BODY,
    add_planned,
    describe_state,
    edit_letter,
    find_version,
    get_letter,
    get_planned,
    list_letters,
    list_planned,
    remove_planned,
)
from services.console.account import make_author
from services.console.list_reader import find_visible_slugs
from services.console.planned_change import check_role
from services.core.db import transaction
from services.core.errors import InputInvalid, ShopfleetError
from services.core.settings import get_settings
from services.mail.compose import SUBJECT_CHARACTERS
from services.shops.shops import find_slugs

LETTERS = 100
"""Letters on the list, the newest week first."""


def letters_blueprint() -> Blueprint:
    blueprint = Blueprint("letters", __name__)
    for path, endpoint, view, method in (
        ("/letters", "index", _show_all, "GET"),
        ("/letters/<int:number>", "show", _show, "GET"),
        ("/letters/<int:number>/edit", "edit", _edit, "POST"),
        ("/letters/planned", "plan", _plan, "POST"),
        ("/letters/planned/<int:number>/delete", "unplan", _unplan, "POST"),
    ):
        blueprint.add_url_rule(path, endpoint, view, methods=[method])
    return blueprint


def _show_all() -> str:
    with transaction() as tx:
        slugs = find_visible_slugs(tx, g.access)
        letters = list_letters(tx, shop_ids=sorted(slugs), limit=LETTERS)
        planned = list_visible_planned(tx)
    lines = [(one, describe_state(one)) for one in letters]
    return render_template(
        "letters.html",
        title="Letters",
        is_red=any(_is_bad(one) for one in letters),
        lines=lines,
        total=letters.total,
        is_bad=_is_bad,
        planned=planned,
        own=sorted(slug for number, slug in slugs.items() if g.access.may(Role.OPERATOR, number)),
        may_plan_for_all=g.access.may(Role.OPERATOR),
        today=_today(),
    )


def _today() -> date:
    today: date = g.at.astimezone(get_settings().zone).date()
    return today


def _is_bad(letter: Row[Any]) -> bool:
    """Return whether a person must act, so that the owner gets the letter."""
    return describe_state(letter) in ("refused", "unknown") or (
        letter.status == "held" and not letter.decided_by
    )


def _find(number: int, role: Role = Role.VIEWER) -> Row[Any]:
    """Return the letter; answer 404 without a role at its shop, 403 with a lower one."""
    with transaction() as tx:
        try:
            letter = get_letter(tx, number)
        except InputInvalid:
            abort(404, "There is no such letter, or you have no role at its shop.")
    if not g.access.may(Role.VIEWER, letter.shop_id):
        abort(404, "There is no such letter, or you have no role at its shop.")
    check_role(role, letter.shop_id)
    return letter


def _show(number: int) -> str:
    letter = _find(number)
    return render_template(
        "letter.html",
        title=f"Letter to {letter.slug}, {letter.week}",
        is_red=_is_bad(letter),
        letter=letter,
        state=describe_state(letter),
        version=find_version(letter),
        paragraphs=letter.body.split("\n\n"),
        subject_characters=SUBJECT_CHARACTERS,
        body_characters=LONGEST_BODY,
    )


def change_letter(number: int, given: Mapping[str, str]) -> str:
    """Replace subject and body of a letter; return what was done. Raises as ``edit_letter``."""
    _find(number, Role.OPERATOR)
    with transaction() as tx:
        text = (given.get("subject", ""), given.get("body", ""))
        edit_letter(tx, number, *text, seen=given.get("seen", ""), **make_author())
    return "The letter is changed."


def _edit(number: int) -> Any:
    try:
        flash(change_letter(number, request.form))
    except ShopfleetError as fault:
        flash(str(fault), "error")
    return redirect(url_for("letters.show", number=number))


def list_visible_planned(tx: Connection) -> list[Row[Any]]:
    """Return the planned changes of today and later, of the fleet and of this person's shops."""
    return [
        one
        for one in list_planned(tx, _today())
        if one.shop_id is None or g.access.may(Role.VIEWER, one.shop_id)
    ]


def add_planned_change(given: Mapping[str, str]) -> str:
    """Add a change that the letters of ``shop``, or of all shops, announce; return what was done."""
    with transaction() as tx:
        slug = given.get("shop", "")
        shop_id = {name: number for number, name in find_slugs(tx).items()}.get(slug) if slug else None
        if slug and (shop_id is None or not g.access.may(Role.VIEWER, shop_id)):
            raise InputInvalid(f"shop={slug!r} should be one of your shops, or empty for all owners")
        check_role(Role.OPERATOR, shop_id)
        planned_on = _parse_day(given.get("planned_on", ""))
        add_planned(tx, given.get("text", ""), planned_on, _today(), shop_id, **make_author())
    return "The planned change is announced in each letter that is drafted until its day is over."


def _plan() -> Any:
    try:
        flash(add_planned_change(request.form))
    except InputInvalid as fault:
        flash(str(fault), "error")
    return redirect(url_for("letters.index", _anchor="planned"))


def _parse_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputInvalid(f"planned_on={text!r} should be a day such as 2026-12-07") from None


def delete_planned_change(number: int) -> str:
    """Delete a planned change; return what was done. Answers 404 and 403 by the role."""
    with transaction() as tx:
        try:
            row = get_planned(tx, number)
        except InputInvalid as fault:
            abort(404, str(fault))
        if row.shop_id is not None and not g.access.may(Role.VIEWER, row.shop_id):
            abort(404, "There is no such planned change, or you have no role at its shop.")
        check_role(Role.OPERATOR, row.shop_id)
        remove_planned(tx, number, **make_author())
    return "The planned change is deleted: no further letter announces it."


def _unplan(number: int) -> Any:
    flash(delete_planned_change(number))
    return redirect(url_for("letters.index", _anchor="planned"))
