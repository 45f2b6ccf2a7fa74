"""``/platform/health`` and ``/shops/<shop>``: pages that only read."""

from typing import Any

from flask import Blueprint, abort, g, redirect, render_template, request, url_for

from services.accounts.roles import Role
from services.console.connection_lines import CompanyLine, find_run_figures, list_company_lines
from services.console.line_pages import list_filters, make_page, read_states
from services.console.scan_facts import RED, STATES
from services.console.shop_facts import read_shop_facts
from services.core.db import transaction
from services.jobs.definition import Covers
from services.providers.delivery import is_storable
from services.providers.registry import SECRET_KINDS, SOURCE_KINDS
from services.shops.shops import Shop, ShopUnknown, get_shop
from services.timesheets.definition import WEEK_BEGINS
from services.timesheets.overtime import RULES
from services.timesheets.report_files import FORMATS
from services.timesheets.report_kinds import KINDS

REPORT_CHOICES = {
    "kinds": KINDS,
    "rules": RULES,
    "formats": FORMATS,
    "weeks": WEEK_BEGINS,
    "covers": [*Covers],
}
"""What the form of a report offers."""
NO_SHOP = "There is no such shop, or you have no role at it."


def shops_blueprint() -> Blueprint:
    blueprint = Blueprint("shops", __name__)

    @blueprint.get("/shops")
    def index() -> Any:
        return redirect(url_for("pages.home"))

    @blueprint.get("/shops/<slug>")
    def show(slug: str) -> str:
        return show_shop(slug)

    @blueprint.get("/platform/health")
    def health() -> str:
        return _show_health()

    return blueprint


def get_visible_shop(slug: str, role: Role = Role.VIEWER) -> Shop:
    """Return the shop if this person has at least ``role`` at it; else answer 404, as for no such shop."""
    if not is_storable(slug):
        abort(404, NO_SHOP)
    try:
        with transaction() as tx:
            shop = get_shop(tx, slug)
    except ShopUnknown:
        abort(404, NO_SHOP)
    if not g.access.may(role, shop.id):
        abort(404, NO_SHOP)
    return shop


def show_shop(slug: str, new_secret: tuple[str, str] | None = None) -> str:
    """Return the page of a shop. ``new_secret``: name and value of one that was generated just now."""
    shop = get_visible_shop(slug)
    with transaction() as tx:
        facts = read_shop_facts(tx, shop, g.at)
    is_red = any(one.status == "broken" for one in facts["connections"])
    is_red = is_red or any(one.severity in ("P1", "P2") for one in facts["incidents"])
    return render_template(
        "shop.html",
        title=shop.name,
        shop=shop,
        at=g.at,
        is_red=is_red,
        new_secret=new_secret,
        report_choices=REPORT_CHOICES,
        secret_kinds=[*SECRET_KINDS, *(f"{prefix}<source>" for prefix in SOURCE_KINDS)],
        **facts,
    )


def _show_health() -> str:
    visible = g.access.shops_with(Role.VIEWER)
    typed = request.args.get("q", "").strip().lower()
    wanted = read_states(STATES)
    with transaction() as tx:
        every = [one for one in list_company_lines(tx, g.at) if visible is None or one.shop_id in visible]
        found = [one for one in every if typed in one.slug or typed in one.provider]
        page = make_page([one for one in found if not wanted or one.state in wanted])
        runs = find_run_figures(tx, {one.shop_id for one in page.lines if one.shop_id is not None}, g.at)
    red = sum(one.state == RED for one in every)
    return render_template(
        "health.html",
        title=f"({red}) Connections" if red else "Connections",
        is_red=bool(red),
        at=g.at,
        filters=list_filters(_count(found), wanted),
        typed=request.args.get("q", ""),
        page=page,
        runs=runs,
    )


def _count(lines: list[CompanyLine]) -> dict[str, int]:
    return {state: sum(one.state == state for one in lines) for state in STATES}
