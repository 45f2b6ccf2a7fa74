"""``fleet privacy``: list the requests of customers, and decide whether a shop is erased."""

from typing import Any

import click
from sqlalchemy import Row

from services.cli.base import (
    CommandGroup,
    actor_option,
    add_options,
    confirm,
    dry_run_option,
    find_shop_id,
    force_option,
    json_option,
    limit_option,
    new_request_id,
    operator_label,
    shop_option,
)
from services.cli.incident_link import incident_option, link_incident
from services.cli.output import Columns, print_json, print_list
from services.cli.params import PRIVACY_REQUEST
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction, transaction_or_plan
from services.privacy.store import list_requests, record_decision
from services.shops.shops import find_slugs


@click.group(cls=CommandGroup)
def command() -> None:
    """List privacy requests (exports and redactions) and decide about erasing a shop.

    \b
    Example:  fleet privacy list
    """


@command.command("list")
@shop_option
@limit_option
@json_option
def print_requests(shop: str, limit: int, as_json: bool) -> None:
    """List requests, open ones first, by due date. Customers are shown by number.

    \b
    Example: fleet privacy list --shop harbour --json
    """
    with transaction() as tx:
        lines = list_requests(tx, find_shop_id(tx, shop), limit)
        slugs = find_slugs(tx)
    columns: Columns = {
        "id": "id",
        "shop": lambda line: slugs.get(line.shop_id, str(line.shop_id)),
        "asks for": "kind",
        "customer": "customer_id",
        "status": lambda line: f"open, work is {line.work_status}" if line.status == "open" else line.status,
        "received": "received_at",
        "due": "due_at",
        "done": "done_at",
        "event": "event_id",
        "work": "work_id",
        "came to": _result,
    }
    documents = [line._asdict() | {"shop": slugs.get(line.shop_id, "")} for line in lines]
    print_list("", columns, lines, documents, "No privacy requests.", as_json=as_json)


_decision_options = add_options(
    click.argument("request_id", type=PRIVACY_REQUEST, metavar="ID"),
    click.option("--reason", required=True, help="Why, for the audit."),
    incident_option,
    actor_option,
    dry_run_option,
    force_option,
    json_option,
)


@command.command("confirm")
@_decision_options
def confirm_request(**options: Any) -> None:
    """Confirm that a shop is erased: its customers' data at once, its secrets some days later.

    ID is that of an open request shop_redact in `fleet privacy list`. No decision is needed if Shopify
    confirms the uninstall by refusing the token.

    \b
    Example: fleet privacy confirm 12 --reason "Ada closed her shop, mail of 2026-11-20" -f
    """
    _decide(**options, erase=True)


@command.command("reject")
@_decision_options
def reject_request(**options: Any) -> None:
    """Reject a request to erase a shop that did not leave: nothing is erased, and its incident is resolved.

    \b
    Example: fleet privacy reject 12 --reason "the shop is open and pays: a forged request" -f
    """
    _decide(**options, erase=False)


def _decide(
    request_id: int,
    reason: str,
    incident: int | None,
    actor: str,
    dry_run: bool,
    force: bool,
    as_json: bool,
    *,
    erase: bool,
) -> None:
    confirm(f"{'Erase' if erase else 'Keep'} the shop of request {request_id}?", force=force or dry_run)
    by, request, now = operator_label(actor), new_request_id(), utc_now()
    with transaction_or_plan(dry_run=dry_run) as tx:
        what = f"{'confirmed' if erase else 'rejected'} the privacy request {request_id}"
        link_incident(tx, incident, what, now=now, by=by, request_id=request, reason=reason)
        shop_id = record_decision(tx, request_id, erase=erase, by=by, reason=reason, now=now, request=request)
        if shop_id is None:
            raise click.UsageError(
                f"ID={request_id} should be an open request shop_redact: see `fleet privacy list`"
            )
        slug = find_slugs(tx)[shop_id]
    verb = "would be" if dry_run else "is"
    text = f"{slug}: the shop {verb} {'erased within minutes' if erase else 'kept'}."
    document = {"id": request_id, "shop": slug, "changed": not dry_run, "note": text}
    print_json(document) if as_json else click.echo(text)


def _result(line: Row[Any]) -> str:
    if "key" in line.result:
        return f"{format_count(line.result['records'], 'record')} at {line.result['key']}"
    return format_count(sum(line.result["rows"].values()), "row") if "rows" in line.result else ""
