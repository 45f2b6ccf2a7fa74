"""``fleet payments``: the breaks of a day, their repair, and the trace of one payment."""

from datetime import date, timedelta
from typing import Any

import click

from services.cli.backfill import find_missing_access
from services.cli.base import (
    CommandGroup,
    json_option,
    limit_option,
    one_shop_option,
)
from services.cli.output import Columns, print_json, print_lines, print_list, safe_text, warn_if_cut
from services.cli.params import DAY
from services.cli.payments_repair import repair
from services.cli.usage import hidden_alias
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import InputInvalid
from services.jobs.schedule import find_due_day
from services.ledger.audit_text import format_money
from services.payments.breaks import (
    PaymentBreak,
    count_day_breaks,
    describe_cause,
    format_side,
    list_day_breaks,
)
from services.payments.reconcile import find_not_compared
from services.payments.trace import MAX_CHARGES, count_traceable, trace_payment
from services.shops.shops import get_shop


@click.group("payments", cls=CommandGroup)
def command() -> None:
    """List and repair the payments of a day that do not agree with Stripe.

    \b
    Examples:
      fleet payments breaks --shop harbour --day 2026-11-20
      fleet payments repair --shop harbour --day 2026-11-20 --dry-run
      fleet payments trace "#1001" --shop harbour
    """


@command.command()
@one_shop_option
@click.option(
    "--day", type=DAY, default="", help="The day in the shop's zone, such as 2026-11-20 (default: the last)."
)
@click.option("--all", "show_all", is_flag=True, help="Show closed breaks too.")
@limit_option
@json_option
def breaks(shop: str, day: str, show_all: bool, limit: int, as_json: bool) -> None:
    """List the breaks of a day with their causes and the next step.

    For a day in a closed month, lists the state at the close with the corrections found since. Exit code 0
    with or without breaks; 1 if the day was not compared with Stripe. The reason is printed.

    \b
    Examples:
      fleet payments breaks --shop harbour --day 2026-11-20
      fleet payments breaks --shop harbour --day 2026-11-20 --all --json
    """
    with transaction() as tx:
        stored = get_shop(tx, shop)
        covered = date.fromisoformat(day) if day else find_due_day(stored.zone, utc_now())
        found = list_day_breaks(tx, stored.id, covered, only_open=not show_all, limit=limit)
        counts = count_day_breaks(tx, stored.id, covered)
        not_compared = find_not_compared(tx, stored, covered)
    title = f"{shop}, {covered.isoformat()}"
    if as_json:
        compared = {"compared": not not_compared, "not_compared": not_compared or None}
        documents = [_document(each) for each in found]
        print_json({"shop": shop, "day": covered, **compared, "open": counts, "breaks": documents})
    elif not_compared:
        click.echo(f"{title}: not compared with Stripe: {safe_text(not_compared)}")
    if not as_json and (found or not not_compared):
        print_lines(title, _COLUMNS, found, f"No breaks of {covered.isoformat()}.")
    warn_if_cut(found)
    if not_compared:
        raise click.exceptions.Exit(1)


def _document(found: PaymentBreak) -> dict[str, Any]:
    cause = describe_cause(found.cause)
    age = int(_age(found).total_seconds())
    return found._asdict() | {"age_seconds": age, "says": cause.reason, "todo": cause.todo}


def _age(found: PaymentBreak) -> timedelta:
    return (found.closed_at or utc_now()) - found.found_at


def _format_age(found: PaymentBreak) -> str:
    hours = int(_age(found).total_seconds() // 3600)
    return f"{hours // 24} d" if hours >= 48 else f"{hours} h"


_COLUMNS: Columns = {
    "kind": lambda found: found.kind if found.is_open else f"{found.kind} (closed)",
    "subject": "subject",
    "id": "provider_id",
    "ours": lambda found: format_side(found.ours),
    "theirs": lambda found: format_side(
        found.theirs, "unreadable" if found.kind == "unreadable" else "nothing"
    ),
    "age": _format_age,
    "cause": "cause",
    "event": "cause_event_id",
    "what to do": lambda found: describe_cause(found.cause).todo if found.is_open else "",
}


@command.command()
@click.argument("reference", metavar="ORDER|CHARGE|PAYOUT")
@one_shop_option
@json_option
def trace(reference: str, shop: str, as_json: bool) -> None:
    """Show one payment from its order to its payout, at Shopify and at Stripe.

    The argument is the number, id or gid of an order, or Stripe's id of a charge, payment intent, refund,
    dispute or payout. Exit code 2 if there is none.

    \b
    Examples:
      fleet payments trace "#1001" --shop harbour
      fleet payments trace ch_3QK8fT2eZvKYlo2C1gX0aTnq --shop harbour --json
    """
    with transaction() as tx:
        stored = get_shop(tx, shop)
        steps = trace_payment(tx, stored.id, reference)
        counts = {} if steps else count_traceable(tx, stored.id)
        missing = find_missing_access(tx, stored)
    if not steps:
        searched = " and ".join(format_count(count, noun) for noun, count in counts.items())
        hints = [f"{provider}: {lack}" for provider, lack in missing.items()] or [
            f"`fleet backfill run --shop {shop} --since 30d` reads what is missing from their lists"
        ]
        raise InputInvalid(
            f"{shop} has no payment {reference!r} among {searched}. It should be an order's number such as "
            f"'#1001', or an id from Stripe. {'; '.join(hints)}"
        )
    documents = [dict(step._mapping) for step in steps]
    columns: Columns = {
        "what": "what", "id": "id", "whose": "source", "status": "status",
        "amount": lambda s: "-" if s.amount_cents is None else format_money(s.amount_cents, s.currency),
        "at": "at", "more": "detail",
    }  # fmt: skip
    print_list(f"{reference} at {shop}", columns, steps, documents, "", as_json=as_json)
    if sum(step.what == "charge" for step in steps) >= MAX_CHARGES:
        click.echo(f"The first {MAX_CHARGES} charges are shown: trace one of the others by its id.", err=True)


command.add_command(repair)
command.add_command(hidden_alias(repair, "heal"))
command.add_command(hidden_alias(trace, "trail"))
books = hidden_alias(command, "books")
