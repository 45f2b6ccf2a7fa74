"""``fleet books``: a day's breaks and why, mending what can be mended, and one payment from end to end."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import click

from services.cli.base import json_option, limit_option, report_errors
from services.cli.output import print_json, print_table, safe_text
from services.cli.payments_repair import heal, parse_day
from services.core.clock import utc_now
from services.core.db import transaction
from services.jobs.schedule import find_due_day
from services.ledger.describe import format_money
from services.payments.break_queries import PaymentBreak, count_day_breaks, list_day_breaks
from services.payments.cause_texts import describe_cause
from services.payments.comparison_state import find_not_compared
from services.payments.trace import trace_payment
from services.shops.shops import get_shop


@click.group()
def command() -> None:
    """Look at the days of payments that do not agree with Stripe, and mend what can be mended.

    \b
    Examples:
      fleet books breaks --shop harbour --day 2026-11-20
      fleet books heal --shop harbour --day 2026-11-20 --dry-run
      fleet books trail "#1001" --shop harbour
    """


@command.command()
@click.option("--shop", required=True, help="The shop (its slug).")
@click.option("--day", default="", help="The day in the shop's zone, such as 2026-11-20 (default: its last).")
@click.option("--all", "all_of_them", is_flag=True, help="Those that have closed, too.")
@limit_option
@json_option
@report_errors
def breaks(shop: str, day: str, all_of_them: bool, limit: int, as_json: bool) -> None:
    """Show what of a day does not agree with Stripe, why, and what to do about it.

    Of a closed month this is the day as it was closed, with the corrections found since. Exit code 0 also
    where there are breaks, 1 where the day was not compared with Stripe: its run waits, failed or never took
    place. The reason is printed.

    \b
    Examples:
      fleet books breaks --shop harbour --day 2026-11-20
      fleet books breaks --shop harbour --day 2026-11-20 --all --json
    """
    with transaction() as tx:
        found_shop = get_shop(tx, shop)
        wanted = parse_day(day) if day else find_due_day(found_shop.zone, utc_now())
        found = list_day_breaks(tx, found_shop.id, wanted, only_open=not all_of_them, limit=limit)
        counts = count_day_breaks(tx, found_shop.id, wanted)
        not_compared = find_not_compared(tx, found_shop, wanted)
    if as_json:
        documents = [_document(each) for each in found]
        compared = {"compared": not not_compared, "not_compared": not_compared or None}
        print_json({"shop": shop, "day": wanted, **compared, "open": counts, "breaks": documents})
    else:
        _print_breaks(
            f"{shop}, {wanted.isoformat()}",
            found,
            counts,
            f"No breaks of {wanted.isoformat()}.",
            not_compared,
        )
    if not_compared:
        raise click.exceptions.Exit(1)


def _print_breaks(
    title: str, found: Sequence[PaymentBreak], counts: Mapping[str, int], empty: str, not_compared: str
) -> None:
    """Print the breaks; "no breaks" only of a day that was compared, else that it was not, and why."""
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
                _say_side(each.ours),
                "unreadable" if each.kind == "unreadable" and each.theirs is None else _say_side(each.theirs),
                _say_age(each),
                each.cause,
                each.cause_event_id,
                describe_cause(each.cause).todo if each.is_open else "",
            )
            for each in found
        ],
        empty,
    )
    if (more := sum(counts.values()) - sum(each.is_open for each in found)) > 0:
        click.echo(f"and {more} more: --limit shows them")


@command.command()
@click.argument("named", metavar="ORDER|CHARGE|PAYOUT")
@click.option("--shop", required=True, help="The shop (its slug).")
@json_option
@report_errors
def trail(named: str, shop: str, as_json: bool) -> None:
    """Show one payment from its order to its payout, as each book has it.

    NAMED is an order's number, id or gid, or Stripe's id of a charge, payment intent, refund, dispute or
    payout. Exit code 1 where nothing has that name.

    \b
    Examples:
      fleet books trail "#1001" --shop harbour
      fleet books trail ch_3QK8fT2eZvKYlo2C1gX0aTnq --shop harbour --json
    """
    with transaction() as tx:
        steps = trace_payment(tx, get_shop(tx, shop).id, named)
    if not steps:
        raise click.ClickException(
            f"{shop} has nothing that is named {named!r}: name an order's number such as '#1001', "
            "or an id of Stripe's"
        )
    if as_json:
        print_json([step._asdict() for step in steps])
        return
    print_table(
        f"{named} at {shop}",
        ("what", "id", "whose", "status", "amount", "at", "more"),
        [
            (
                step.what,
                step.id,
                step.source,
                step.status,
                "-" if step.amount_cents is None else format_money(step.amount_cents, step.currency),
                step.at,
                step.detail,
            )
            for step in steps
        ],
        "",
    )


command.add_command(heal)


def _document(found: PaymentBreak) -> dict[str, Any]:
    cause = describe_cause(found.cause)
    return found._asdict() | {
        "age_seconds": int(_age(found).total_seconds()),
        "says": cause.says,
        "todo": cause.todo,
    }


def _age(found: PaymentBreak) -> timedelta:
    return (found.closed_at or utc_now()) - found.found_at


def _say_age(found: PaymentBreak) -> str:
    hours = int(_age(found).total_seconds() // 3600)
    return f"{hours // 24} d" if hours >= 48 else f"{hours} h"


def _say_side(side: Mapping[str, Any] | None) -> str:
    if side is None:
        return "nothing"
    fee = f", fee {format_money(side['fee_cents'], side['currency'])}" if "fee_cents" in side else ""
    return f"{format_money(side['amount_cents'], side['currency'])} {side['status']}{fee}"
