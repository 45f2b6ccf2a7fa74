"""``/``: the morning scan; ``/dead``: dead letters in groups."""

from typing import Any

from flask import Blueprint, g, render_template

from services.accounts.roles import Role
from services.console.list_page import MAX_CANDIDATES
from services.console.scan_page import show_scan
from services.console.scan_reading import ScanReader
from services.core.db import transaction
from services.ledger.dead_groups import list_dead_groups
from services.shops.shops import find_slugs

MAX_GROUPS = 200


def pages_blueprint(scan: ScanReader) -> Blueprint:
    blueprint = Blueprint("pages", __name__)

    @blueprint.get("/")
    def home() -> Any:
        return show_scan(scan)

    @blueprint.get("/dead")
    def dead() -> str:
        return _show_dead()

    return blueprint


def _show_dead() -> str:
    visible = g.access.shops_with(Role.VIEWER)
    with transaction() as tx:
        groups = list_dead_groups(tx, visible, MAX_CANDIDATES, MAX_GROUPS)
        slugs = find_slugs(tx)
    return render_template(
        "dead.html",
        title="Dead letters",
        groups=groups,
        slugs=slugs,
        total=groups[0].groups if groups else 0,
        max_groups=MAX_GROUPS,
        is_cut=bool(groups) and groups[0].items >= MAX_CANDIDATES,
        max_candidates=MAX_CANDIDATES,
    )
