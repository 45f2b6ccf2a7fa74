"""``fleet mail suppressions``: the addresses to which no mail, or no commercial mail, is sent."""

from typing import Any

import click
from sqlalchemy import Row

from services.cli.base import (
    CommandGroup,
    actor_option,
    add_options,
    audit_author,
    dry_run_option,
    find_shop_id,
    json_option,
    limit_option,
    shop_option,
)
from services.cli.mail.send_test import ADDRESS
from services.cli.output import Columns, print_json, print_list
from services.cli.params import SHOP, KnownType
from services.core.clock import utc_now
from services.core.db import transaction, transaction_or_plan
from services.core.errors import NothingToDo
from services.mail.suppressions import (
    BLOCKED,
    REASONS,
    Suppression,
    list_suppressions,
    record_suppressions,
    unsuppress,
)
from services.providers.outgoing_mail import mask_address
from services.shops.shops import find_slugs

CAUSE = KnownType("reason", lambda: REASONS)
_sender_option = click.option(
    "--shop", type=SHOP, default="", help="Mail of this shop (default: the fleet's own mail)."
)
_change_options = add_options(
    click.argument("address", type=ADDRESS),
    _sender_option,
    click.option("--reason", required=True, help="Why, for the audit."),
    dry_run_option,
    actor_option,
    json_option,
)


@click.group("suppressions", cls=CommandGroup)
def suppressions() -> None:
    """List and change the addresses to which no mail, or no commercial mail, is sent.

    \b
    Examples: fleet mail suppressions list --shop harbour
              fleet mail suppressions remove ada@example.com --reason "her mailbox exists again"
    """


@suppressions.command("list")
@shop_option
@click.option("--address", type=ADDRESS, help="Only this address.")
@click.option("--cause", type=CAUSE, default="", help=f"One of {', '.join(REASONS)}.")
@limit_option
@json_option
def list_all(shop: str, address: str | None, cause: str, limit: int, as_json: bool) -> None:
    """List suppressed addresses, newest first; addresses are masked.

    \b
    Example: fleet mail suppressions list --cause bounced
    """
    with transaction() as tx:
        shop_id = find_shop_id(tx, shop)
        rows = list_suppressions(tx, shop_id=shop_id, reason=cause, address=address or "", limit=limit)
        slugs = find_slugs(tx)
    columns: Columns = {
        "shop": lambda row: _sender(row, slugs),
        "address": lambda row: mask_address(row.address),
        "cause": "reason",
        "source": "source",
        "mail": "mail_id",
        "since": "created_at",
    }
    documents = [_document(row, slugs) for row in rows]
    print_list("", columns, rows, documents, "No address is suppressed.", as_json=as_json)


@suppressions.command()
@_change_options
def add(address: str, shop: str, reason: str, dry_run: bool, actor: str, as_json: bool) -> None:
    """Stop every mail of a shop, or the fleet's own mail, to ADDRESS.

    \b
    Example: fleet mail suppressions add ada@example.com --shop harbour --reason "she wrote that it is wrong"
    """
    with transaction_or_plan(dry_run=dry_run) as tx:
        author = audit_author(actor)
        source = f"fleet mail suppressions add: {reason}"
        shop_id = find_shop_id(tx, shop)
        new = Suppression(shop_id, address, BLOCKED, source)
        if not record_suppressions(tx, [new], utc_now(), **author):
            raise NothingToDo(f"mail to {mask_address(address)} is blocked by a person already")
    _print(address, shop, "stopped", [BLOCKED], dry_run=dry_run, as_json=as_json)


@suppressions.command()
@click.option("--cause", type=CAUSE, default="", help="Only the suppression of this cause (default: all).")
@_change_options
def remove(
    address: str, shop: str, cause: str, reason: str, dry_run: bool, actor: str, as_json: bool
) -> None:
    """Allow mail of a shop, or the fleet's own mail, to ADDRESS again.

    Mail that was refused meanwhile is not sent by this: see fleet mail resend. An address that unsubscribed
    or complained gets commercial mail again: its owner must have agreed.

    \b
    Example: fleet mail suppressions remove ada@example.com --cause bounced --reason "her mailbox works again"
    """
    with transaction_or_plan(dry_run=dry_run) as tx:
        shop_id = find_shop_id(tx, shop)
        reasons = (cause,) if cause else REASONS
        author = audit_author(actor)
        gone = unsuppress(tx, shop_id, address, utc_now(), why=reason, reasons=reasons, **author)
    _print(address, shop, "allowed again", gone, dry_run=dry_run, as_json=as_json)


def _print(address: str, shop: str, state: str, causes: list[str], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        facts = {"shop": shop or "fleet", "address": mask_address(address), "causes": causes}
        print_json(facts | {"state": state, "changed": not dry_run})
        return
    verb = "would be" if dry_run else "is"
    sender = shop or "the fleet itself"
    click.echo(f"Mail of {sender} to {mask_address(address)} {verb} {state} ({', '.join(causes)}).")


def _sender(row: Row[Any], slugs: dict[int, str]) -> str:
    return "fleet" if row.shop_id is None else slugs.get(row.shop_id, str(row.shop_id))


def _document(row: Row[Any], slugs: dict[int, str]) -> dict[str, Any]:
    document = row._asdict() | {"shop": _sender(row, slugs), "address": mask_address(row.address)}
    document["cause"] = document.pop("reason")
    return document
