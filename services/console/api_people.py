"""``POST /api/v1/shops/<shop>/people``: imports people, their activity and their consents."""

from typing import Any

from flask import Blueprint, abort, g

from services.accounts.roles import Role
from services.console.account import make_author
from services.console.api_views import answering, read_body
from services.console.row_actions import NOT_FOUND, check_shop
from services.core.db import transaction, transaction_or_plan
from services.outreach.people import import_people
from services.outreach.person import parse_people
from services.shops.shops import ShopUnknown, get_shop


def add_api_people(blueprint: Blueprint) -> None:
    """Add the route to the blueprint of the API."""
    blueprint.add_url_rule("/shops/<shop>/people", "import_people", _import, methods=["POST"])


def _import(shop: str) -> Any:
    return answering(lambda: _import_people(shop))


def _import_people(slug: str) -> Any:
    with transaction() as tx:
        try:
            shop = get_shop(tx, slug)
        except ShopUnknown:
            abort(404, NOT_FOUND)
    check_shop(shop.id, Role.OPERATOR)
    body = read_body(("people", "dry_run"))
    people = parse_people(body.get("people"), g.at)
    with transaction_or_plan(dry_run=bool(body.get("dry_run"))) as tx:
        return import_people(tx, shop.id, people, **make_author())._asdict()
