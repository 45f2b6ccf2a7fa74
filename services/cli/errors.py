"""``fleet errors``: requests that were answered with 5xx."""

from datetime import datetime
from typing import Any

import click
from sqlalchemy import Row

from services.cli.base import (
    CommandGroup,
    find_shop_id,
    json_option,
    limit_option,
    shop_option,
    since_option,
)
from services.cli.output import Columns, print_fields, print_json, print_lines, print_list, to_document
from services.cli.params import ERROR_CLASS, REQUEST, ROUTE
from services.core.db import transaction
from services.ledger.request_errors import find_later_event, get_error, list_errors, list_mutations
from services.ledger.work import FLEET
from services.shops.shops import find_slugs


@click.group(cls=CommandGroup)
def command() -> None:
    """List and show requests that ingress or console answered with 5xx.

    Not among them: webhooks that a pause refuses, and /health of a fleet that is down.

    \b
    Example: fleet errors list --since 1h
    """


@command.command("list")
@since_option("answered")
@click.option("--class", "error_class", type=ERROR_CLASS, default="", help="Only this class of exception.")
@shop_option
@click.option("--route", type=ROUTE, default="", help="Only this route, such as /webhooks/stripe.")
@limit_option
@json_option
def print_errors(
    since: datetime | None, error_class: str, shop: str, route: str, limit: int, as_json: bool
) -> None:
    """List requests that failed, newest first.

    \b
    Examples:
      fleet errors list --since 1h
      fleet errors list --shop harbour --since 24h --json
    """
    with transaction() as tx:
        shop_id = find_shop_id(tx, shop)
        lines = list_errors(
            tx, since=since, error_class=error_class, shop_id=shop_id, route=route, limit=limit
        )
        slugs = find_slugs(tx)
    columns: Columns = {
        "at": "at",
        "request": "request_id",
        "shop": lambda line: _shop(line, slugs),
        "route": "route",
        "status": "status",
        "class": "error_class",
        "reason": "reason",
        "user": "staff_label",
    }
    is_filtered = since or error_class or shop or route
    empty = "No error matches." if is_filtered else "No request was answered with 5xx."
    print_list("", columns, lines, [_document(line, slugs) for line in lines], empty, as_json=as_json)


@command.command("show")
@click.argument("request_id", type=REQUEST)
@json_option
def show(request_id: str, as_json: bool) -> None:
    """Show a request that failed: the request, its user, and what the audit has under its id.

    The changes of a request that failed are rolled back, so an entry in the audit was committed before the
    failure. A webhook is sent again by its provider: the event that was recorded then is shown.

    \b
    Example: fleet errors show 5f0c1d6f2b7a4f3e9d8c7b6a59483726
    """
    with transaction() as tx:
        error = get_error(tx, request_id)
        mutations, event_id = list_mutations(tx, error), find_later_event(tx, error)
        slugs = find_slugs(tx)
    if as_json:
        more = {"event_id": event_id, "mutations": [to_document(one) for one in mutations]}
        print_json(_document(error, slugs) | more)
        return
    fields = {name: value for name, value in to_document(error).items() if name not in ("shop_id", "request")}
    print_fields(f"Request {error.request_id}", {"shop": _shop(error, slugs), **fields})
    print_fields("Request", error.request)
    columns: Columns = {
        "at": "at",
        "by": "staff_label",
        "action": "action",
        "table": "table_name",
        "row": "row_id",
        "summary": "summary",
    }
    print_lines("Audit", columns, mutations, "Nothing was changed under this request id.")
    if event_id is not None:
        click.echo(f"The provider sent it again, and it was recorded: fleet events show {event_id}")
    elif error.request.get("delivery_key"):
        click.echo("The provider has not sent it again yet; the backfill reads what it does not send.")


def _shop(error: Row[Any], slugs: dict[int, str]) -> str:
    shop_id = FLEET if error.shop_id is None else error.shop_id
    return slugs.get(shop_id, str(shop_id))


def _document(error: Row[Any], slugs: dict[int, str]) -> dict[str, Any]:
    return to_document(error) | {"shop": None if error.shop_id is None else _shop(error, slugs)}
