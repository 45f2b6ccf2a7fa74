"""``fleet stages``: the shop floor, from the board to a single order."""

import sys
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import click
from sqlalchemy import Connection

from services.accounts.api_tokens import find_token_access
from services.accounts.people import get_person
from services.audit.append import Author
from services.cli.base import (
    CommandGroup,
    add_options,
    dry_run_option,
    json_option,
    limit_option,
    new_request_id,
    one_shop_option,
)
from services.cli.output import (
    Columns,
    print_fields,
    print_json,
    print_lines,
    print_list,
    to_document,
    warn_if_cut,
)
from services.cli.params import PERSON
from services.core.clock import utc_now
from services.core.db import transaction, transaction_or_plan
from services.core.errors import InputInvalid
from services.core.times import format_time
from services.shopfloor.board import (
    count_stages,
    find_floor_order,
    find_order_gid,
    list_cancelled,
    list_open_orders,
    list_order_stages,
    read_stages,
)
from services.shopfloor.transitions import (
    REFUSALS,
    ScanRequest,
    StageRefused,
    describe_answer,
    raise_refused,
    record_scan,
    set_stages,
)
from services.shops.shops import Shop, get_shop

order_argument = click.argument("order")
_token_option = click.option(
    "--token-stdin", is_flag=True, help="Read the API token from standard input (default: type it)."
)
change_options = add_options(one_shop_option, _token_option, dry_run_option, json_option)


@click.group("stages", cls=CommandGroup)
def command() -> None:
    """The shop floor: which stage each order is at, and who works on it.

    Changes need an API token: it proves who acts. `fleet users token EMAIL` makes one.

    \b
    Example: fleet stages show --shop harbour
    """


@command.command("show")
@click.argument("order", default="")
@one_shop_option
@click.option("--stage", default="", help="Only orders at this stage.")
@limit_option
@json_option
def show(order: str, shop: str, stage: str, limit: int, as_json: bool) -> None:
    """Show the board of a shop, or one ORDER: its stages, who started and finished each, its notes.

    ORDER is the number on its label, its id at Shopify, or its name, such as #1001.

    \b
    Examples:
      fleet stages show --shop harbour --stage Packing
      fleet stages show 1001 --shop harbour
    """
    now = utc_now()
    with transaction() as tx:
        found = get_shop(tx, shop)
        if order:
            document = _read_order(tx, found, order)
        else:
            if stage and stage not in (stages := read_stages(tx, found.id)):
                raise click.UsageError(f"--stage={stage!r} should be one of {', '.join(stages)}")
            counts = count_stages(tx, found.id, now)
            orders = list_open_orders(tx, found.id, stage=stage, limit=limit)
            cancelled = list_cancelled(tx, found.id)
    if order:
        _print_order(document, as_json=as_json)
        return
    documents = [to_document(one) for one in orders]
    if as_json:
        stopped = [to_document(one) for one in cancelled]
        warn_if_cut(orders)
        print_json({"stages": [one._asdict() for one in counts], "orders": documents, "cancelled": stopped})
        return
    stage_columns: Columns = {
        "stage": "stage", "open": "open", "late": "late", "in work": "held", "first due": "first_due_at",
    }  # fmt: skip
    print_lines(f"Shop floor of {shop}", stage_columns, counts, "")
    columns: Columns = {
        "order": "name",
        "stage": "stage",
        "due": lambda one: format_time(one.due_at, found.zone),
        "late": lambda one: "late" if one.due_at and one.due_at < now else "",
        "assigned to": "assignee",
        "in work by": "holder",
        "storage": "storage",
        "changed": "changes",
    }
    none = f"No open orders. New ones come with `fleet shops set {shop} shop_floor=on`."
    print_list("", columns, orders, documents, none, as_json=False)
    for one in cancelled:
        click.echo(f"Order {one.name} is cancelled while {one.holder} works on it at {one.stage}.", err=True)


def _read_order(tx: Connection, shop: Shop, order: str) -> dict[str, Any]:
    gid = find_order_gid(tx, shop.id, order)
    found = find_floor_order(tx, shop.id, gid)
    if found is None:
        raise InputInvalid(f"order {order} is not on the board: the first scan puts it there")
    stages = [to_document(one) for one in list_order_stages(tx, shop.id, gid)]
    return {**to_document(found), "stages": stages, "all_stages": read_stages(tx, shop.id)}


def _print_order(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    items = ", ".join(f"{line['quantity']} x {line['title']}" for line in document["lines"])
    shown = ("stage", "holder", "assignee", "due_at", "storage", "notes", "changes", "cancelled_at")
    print_fields(f"Order {document['name']}", {name: document[name] for name in shown} | {"items": items})
    names = ("stage", "started_at", "started_by", "finished_at", "finished_by")
    columns: Columns = {name.replace("_", " "): _reader(name) for name in names}
    print_lines("", columns, document["stages"], "No stage is started.")


def _reader(name: str) -> Callable[[Any], object]:
    return lambda line: line[name]


@command.command("advance")
@order_argument
@click.option("--stage", default="", help="Refuse unless the order is at this stage.")
@click.option(
    "--action",
    type=click.Choice(("scan", "start", "finish")),
    default="scan",
    show_default=True,
    help="scan: whichever is next; finish also finishes for another person, as an operator.",
)
@change_options
def advance(order: str, action: str, stage: str, **options: Any) -> None:
    """Start the stage that an ORDER is at, or finish it if you started it.

    ORDER is the number on its label, its id at Shopify, or its name, such as #1001.

    \b
    Example: fleet stages advance 1001 --shop harbour --token-stdin < token.txt
    """
    _scan(order, action, stage, **options)


@command.command("undo")
@order_argument
@click.option("--stage", default="", help="Refuse unless the order is at this stage.")
@change_options
def undo(order: str, stage: str, **options: Any) -> None:
    """Take back the last start or finish of an ORDER. Needs the token of an admin of the shop.

    ORDER is the number on its label, its id at Shopify, or its name, such as #1001.

    \b
    Example: fleet stages undo 1001 --shop harbour
    """
    _scan(order, "undo", stage, **options)


@command.command("assign")
@order_argument
@click.option("--person", "email", type=PERSON, default="", help="Whom (an email); without it: nobody.")
@change_options
def assign(order: str, email: str, **options: Any) -> None:
    """Assign an ORDER to a person who works at the shop.

    ORDER is the number on its label, its id at Shopify, or its name, such as #1001.

    \b
    Example: fleet stages assign 1001 --shop harbour --person ada@example.com
    """
    _scan(order, "assign", "", email, **options)


@command.command("set")
@click.argument("stages", metavar="STAGE,STAGE...")
@change_options
def replace_stages(stages: str, shop: str, token_stdin: bool, dry_run: bool, as_json: bool) -> None:
    """Replace the stages of a shop, in their order. Needs the token of an admin of the shop.

    An order that finishes the one before the last is complete. A stage with open orders must stay.

    \b
    Example: fleet stages set Filling,Packing,Complete --shop harbour
    """
    wanted, token = [one.strip() for one in stages.split(",")], _read_token(is_piped=token_stdin)
    with transaction_or_plan(dry_run=dry_run) as tx:
        before = set_stages(tx, token, get_shop(tx, shop), wanted, **_author(tx, token))
    if as_json:
        print_json(
            {"shop": shop, "before": before, "stages": wanted, "changed": before != wanted and not dry_run}
        )
        return
    verb = "would have" if dry_run else "has"
    click.echo(f"{shop} {verb} the stages {', '.join(wanted)}.")


def _scan(
    order: str, action: str, stage: str, email: str = "", *, shop: str, token_stdin: bool, dry_run: bool,
    as_json: bool,
) -> None:  # fmt: skip
    token = _read_token(is_piped=token_stdin)
    with transaction_or_plan(dry_run=dry_run) as tx:
        found = get_shop(tx, shop)
        person_id = get_person(tx, email).id if email else None
        scan = ScanRequest(found, find_order_gid(tx, found.id, order), uuid4(), action, stage, person_id)
        result = record_scan(tx, token, scan, **_author(tx, token))
    if as_json:
        is_changed = result.code == "OK" and not dry_run
        print_json({**result.answer, "text": describe_answer(result.answer), "changed": is_changed})
        if result.code != "OK":
            raise click.exceptions.Exit(1)
        return
    raise_refused(result)
    click.echo(f"{'Would be: ' if dry_run else ''}{describe_answer(result.answer)}")


def _read_token(*, is_piped: bool) -> str:
    if sys.stdin.isatty():
        return str(click.prompt("API token", hide_input=True, err=True)).strip()
    if is_piped:
        return sys.stdin.read(8192).strip()
    raise click.UsageError("who acts? Add --token-stdin and pipe an API token: `fleet users token EMAIL`")


def _author(tx: Connection, token: str) -> Author:
    """Return the person of ``token`` for the audit; raise ``StageRefused`` if there is none."""
    access = find_token_access(tx, token, "", now := utc_now())
    if access is None:
        raise StageRefused("NOT_SIGNED_IN", REFUSALS["NOT_SIGNED_IN"])
    return {"by": access.email, "now": now, "request_id": new_request_id()}
