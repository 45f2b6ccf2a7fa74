"""``fleet privacy list``: what customers asked for, and by when it must be answered."""

import click

from services.core.db import transaction
from services.fleet.commands.edge import find_shop_id, find_slugs, json_option, limit_option, tell_faults
from services.fleet.commands.show import print_json, print_table
from services.storefront.privacy.requests import RequestLine, find_requests


@click.group()
def command() -> None:
    """Look at privacy requests: exports and redactions that Shopify passed on.

    \b
    Example:  fleet privacy list
    """


@command.command("list")
@click.option("--shop", default="", help="Only this shop (its slug).")
@limit_option
@json_option
@tell_faults
def list_requests(shop: str, limit: int, as_json: bool) -> None:
    """List requests, open ones first, the most urgent before all; customers by number.

    \b
    Example: fleet privacy list --shop harbour --json
    """
    with transaction() as tx:
        lines = find_requests(tx, find_shop_id(tx, shop), limit)
        slugs = find_slugs(tx)
    if as_json:
        print_json([line._asdict() | {"shop": slugs.get(line.shop_id, "")} for line in lines])
        return
    print_table(
        "",
        ("id", "shop", "asks for", "customer", "status", "received", "due", "done", "event", "came to"),
        [
            (
                line.id,
                slugs.get(line.shop_id, str(line.shop_id)),
                line.kind,
                line.customer_id,
                _status(line),
                line.received_at,
                line.due_at,
                line.done_at,
                line.event_id,
                _result(line),
            )
            for line in lines
        ],
        "No privacy requests.",
    )


def _status(line: RequestLine) -> str:
    return f"open, work is {line.work_status}" if line.status == "open" else line.status


def _result(line: RequestLine) -> str:
    if "key" in line.result:
        return f"{line.result['records']} records at {line.result['key']}"
    return f"{sum(line.result['rows'].values())} rows" if "rows" in line.result else ""
