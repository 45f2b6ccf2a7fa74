"""``fleet payments``: the breaks of a day, their repair, and the trace of one payment."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import click
from sqlalchemy import Row

from services.cli.base import hidden_alias, json_option, limit_option, report_errors
from services.cli.output import Columns, print_json, print_lines, print_table, safe_text
from services.cli.payments_repair import parse_day, repair
from services.core.clock import utc_now
from services.core.db import transaction
from services.jobs.schedule import find_due_day
from services.ledger.describe import format_money
from services.payments.breaks import (
    PaymentBreak,
    count_day_breaks,
    describe_cause,
    format_side,
    list_day_breaks,
)
from services.payments.reconcile import find_not_compared
from services.payments.trace import trace_payment
from services.shops.shops import get_shop


@click.group("payments")
def command() -> None:
    """List and repair the payments of a day that do not agree with Stripe.

    \b
    Examples:
      fleet payments breaks --shop harbour --day 2026-11-20
      fleet payments repair --shop harbour --day 2026-11-20 --dry-run
      fleet payments trace "#1001" --shop harbour
    """


@command.command()
@click.option("--shop", required=True, help="The shop (its slug).")
@click.option("--day", default="", help="The day in the shop's zone, such as 2026-11-20 (default: its last).")
@click.option("--all", "show_all", is_flag=True, help="Show closed breaks too.")
@limit_option
@json_option
@report_errors
def breaks(shop: str, day: str, show_all: bool, limit: int, as_json: bool) -> None:
    """List the breaks of a day with their causes and the next step.

    For a day in a closed month this is the day as it was closed, with the corrections found since. Exit code
    0 with or without breaks; 1 if the day was not compared with Stripe. The reason is printed.

    \b
    Examples:
      fleet payments breaks --shop harbour --day 2026-11-20
      fleet payments breaks --shop harbour --day 2026-11-20 --all --json
    """
    with transaction() as tx:
        its_shop = get_shop(tx, shop)
        its_day = parse_day(day) if day else find_due_day(its_shop.zone, utc_now())
        found = list_day_breaks(tx, its_shop.id, its_day, only_open=not show_all, limit=limit)
        counts = count_day_breaks(tx, its_shop.id, its_day)
        not_compared = find_not_compared(tx, its_shop, its_day)
    if as_json:
        compared = {"compared": not not_compared, "not_compared": not_compared or None}
        documents = [_document(each) for each in found]
        print_json({"shop": shop, "day": its_day, **compared, "open": counts, "breaks": documents})
    else:
        _print_breaks(f"{shop}, {its_day.isoformat()}", its_day.isoformat(), found, counts, not_compared)
    if not_compared:
        raise click.exceptions.Exit(1)


def _print_breaks(
    title: str, day: str, found: Sequence[PaymentBreak], counts: Mapping[str, int], not_compared: str
) -> None:
    """Print the breaks. "No breaks" is printed only for a day that was compared."""
    if not_compared:
        click.echo(f"{title}: not compared with Stripe: {safe_text(not_compared)}")
        if not found:
            return
    print_table(
        title,
        ("kind", "subject", "id", "ours", "theirs", "age", "cause", "event", "what to do"),
        [
            (
                each.kind if each.is_open else f"{each.kind} (closed)",
                each.subject,
                each.provider_id,
                format_side(each.ours),
                format_side(each.theirs, "unreadable" if each.kind == "unreadable" else "nothing"),
                _format_age(each),
                each.cause,
                each.cause_event_id,
                describe_cause(each.cause).todo if each.is_open else "",
            )
            for each in found
        ],
        f"No breaks of {day}.",
    )
    if (more := sum(counts.values()) - sum(each.is_open for each in found)) > 0:
        click.echo(f"and {more} more: --limit shows them")


@command.command()
@click.argument("named", metavar="ORDER|CHARGE|PAYOUT")
@click.option("--shop", required=True, help="The shop (its slug).")
@json_option
@report_errors
def trace(named: str, shop: str, as_json: bool) -> None:
    """Show one payment from its order to its payout, at Shopify and at Stripe.

    The argument is the number, id or gid of an order, or Stripe's id of a charge, payment intent, refund,
    dispute or payout. Exit code 1 if nothing has that name.

    \b
    Examples:
      fleet payments trace "#1001" --shop harbour
      fleet payments trace ch_3QK8fT2eZvKYlo2C1gX0aTnq --shop harbour --json
    """
    with transaction() as tx:
        steps = trace_payment(tx, get_shop(tx, shop).id, named)
    if not steps:
        raise click.ClickException(
            f"{shop} has no payment named {named!r}: name an order's number such as '#1001', or an id of "
            "Stripe's"
        )
    if as_json:
        print_json([dict(step._mapping) for step in steps])
        return
    columns: Columns = {
        "what": "what",
        "id": "id",
        "whose": "source",
        "status": "status",
        "amount": _format_amount,
        "at": "at",
        "more": "detail",
    }
    print_lines(f"{named} at {shop}", columns, steps, "")


command.add_command(repair)
command.add_command(hidden_alias(repair, "heal"))
command.add_command(hidden_alias(trace, "trail"))
books = hidden_alias(command, "books")


def _document(found: PaymentBreak) -> dict[str, Any]:
    cause = describe_cause(found.cause)
    age = int(_age(found).total_seconds())
    return found._asdict() | {"age_seconds": age, "says": cause.says, "todo": cause.todo}


def _age(found: PaymentBreak) -> timedelta:
    return (found.closed_at or utc_now()) - found.found_at


def _format_age(found: PaymentBreak) -> str:
    hours = int(_age(found).total_seconds() // 3600)
    return f"{hours // 24} d" if hours >= 48 else f"{hours} h"


def _format_amount(step: Row[Any]) -> str:
    return "-" if step.amount_cents is None else format_money(step.amount_cents, step.currency)
