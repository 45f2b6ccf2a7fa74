"""``fleet payments``: the breaks of a day, their repair, and the trace of one payment."""

import time
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

import click

from services.cli.backfill import find_missing_access
from services.cli.base import (
    CommandGroup,
    actor_option,
    audit_author,
    dry_run_option,
    hidden_alias,
    json_option,
    limit_option,
    notify_workers,
    one_shop_option,
)
from services.cli.output import Columns, print_json, print_lines, safe_text, warn_if_cut
from services.cli.params import DAY
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import InputInvalid
from services.core.settings import get_settings
from services.jobs.runs import trigger_job
from services.jobs.schedule import find_due_day
from services.jobs.store import get_job
from services.ledger.audit_text import format_money
from services.payments.break_repair import RepairPlan, count_unfinished_work, plan_repair, repair_day
from services.payments.breaks import (
    PaymentBreak,
    count_day_breaks,
    describe_cause,
    format_side,
    list_day_breaks,
)
from services.payments.reconcile import JOB, find_not_compared
from services.payments.stripe_key import get_stripe_key
from services.payments.trace import MAX_CHARGES, count_traceable, trace_payment
from services.shops.connections import recorded_calls
from services.shops.shops import get_shop

POLL_SECONDS = 0.2
MAX_BREAKS = 5_000
"""Breaks of one repair; the next repair continues."""


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
@one_shop_option
@click.option("--day", type=DAY, required=True, help="The day in the shop's zone, such as 2026-11-20.")
@click.option("--reason", default="", help="Why, for the audit.")
@click.option("--rerun", is_flag=True, help="Reconcile the day again afterwards, so that its breaks close.")
@click.option("--wait/--no-wait", "waits", default=True, help="Wait until the work is done.")
@click.option(
    "--timeout", type=click.FloatRange(0, 3600), default=120, show_default=True, help="Most seconds to wait."
)
@dry_run_option
@json_option
@actor_option
def repair(
    shop: str,
    day: str,
    reason: str,
    rerun: bool,
    waits: bool,
    timeout: float,
    dry_run: bool,
    as_json: bool,
    actor: str,
) -> None:
    """Fetch the lost events and objects of a day's breaks from Stripe, and requeue dead work.

    Events and objects are recorded like webhooks. The breaks close at the next reconciliation of the day. A
    second run records nothing twice. Exit code 1 if some of the work is not done in time, or is dead.

    \b
    Examples:
      fleet payments repair --shop harbour --day 2026-11-20 --dry-run
      fleet payments repair --shop harbour --day 2026-11-20 --rerun
    """
    parsed_day = date.fromisoformat(day)
    with transaction() as tx:
        shop_id = get_shop(tx, shop).id
        plan = plan_repair(list_day_breaks(tx, shop_id, parsed_day, limit=MAX_BREAKS))
        key = get_stripe_key(tx, shop_id) if plan.events or plan.objects else ""
    if dry_run:
        _print_plan(plan, as_json=as_json)
        return
    author = audit_author(actor)
    reported = -1

    def report(text: str) -> None:
        if not as_json:
            click.echo(text, err=True)

    with recorded_calls(shop_id):
        result = repair_day(
            shop_id,
            plan,
            key,
            get_settings().stripe_api_base,
            reason=reason or f"breaks of {day}",
            report=report,
            **author,
        )
    notice = notify_workers(result.work)
    until = time.monotonic() + (timeout if waits else 0)
    while True:
        with transaction() as tx:
            left, counts = count_unfinished_work(tx, result.work, utc_now())
        if left != reported:
            report(f"{len(result.work) - left} of {len(result.work)} items of work done")
            reported = left
        if not left or time.monotonic() >= until:
            break
        time.sleep(POLL_SECONDS)
    run = _rerun(shop, day, author) if rerun and not left else ""
    if as_json:
        print_json(
            {"entered": result.recorded, "requeued": result.requeued, "gone": result.gone, "work": counts,
             "waiting": left, "left_to_you": len(plan.left), "rerun": run}
        )  # fmt: skip
    else:
        click.echo(f"{result.recorded} events entered, {result.requeued} items of work requeued")
        if notice:
            click.echo(notice)
        if result.gone:
            click.echo(f"Stripe does not have: {_first_ten(result.gone)}")
        _print_left(plan)
        if left:
            todo = "`fleet work list --status pending,error` lists them"
            click.echo(f"{left} items of work are not done: {todo}")
        if run:
            click.echo(f"{run} has started: `fleet jobs history` shows its result")
        else:
            command = f"fleet jobs run {JOB} --shop {shop} --period {day} --force"
            click.echo(f"run `{command}`: it closes the breaks that are repaired")
    if (waits and left) or counts.get("dead"):
        raise click.exceptions.Exit(1)


def _rerun(shop: str, day: str, author: dict[str, str]) -> str:
    """Trigger another reconciliation of the day; return a text with the run's id."""
    with transaction() as tx:
        runs = trigger_job(tx, get_job(tx, JOB), shop, day, origin="cli", now=utc_now(), force=True, **author)
    notify_workers([ref for run in runs for ref in (run.ref, *run.checkins) if ref])
    return f"run {runs[0].run_id} of {JOB}"


def _print_plan(plan: RepairPlan, *, as_json: bool) -> None:
    if as_json:
        left = [{"kind": b.kind, "id": b.provider_id, "cause": b.cause} for b in plan.left]
        objects = [{"subject": subject, "id": provider_id} for subject, provider_id in plan.objects]
        print_json({"events": plan.events, "work": plan.work_ids, "objects": objects, "left_to_you": left})
        return
    click.echo(f"would fetch {len(plan.events)} lost events: {_first_ten(plan.events)}")
    click.echo(f"would requeue {len(plan.work_ids)} items of work: {_first_ten(plan.work_ids)}")
    click.echo(f"would fetch {len(plan.objects)} objects: {_first_ten(i for _, i in plan.objects)}")
    _print_left(plan)


def _print_left(plan: RepairPlan) -> None:
    for found in plan.left[:20]:
        cause = describe_cause(found.cause)
        click.echo(f"left to you: {found.provider_id} ({found.kind}): {cause.reason}; {cause.todo}")
    if len(plan.left) > 20:
        click.echo(f"and {len(plan.left) - 20} more: `fleet payments breaks` lists them")


def _first_ten(ids: Iterable[object]) -> str:
    listed = [str(each) for each in ids]
    more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    return (", ".join(listed[:10]) or "none") + more


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
        searched = " and ".join(f"{count:,} {name}" for name, count in counts.items())
        hints = [f"{provider}: {lack}" for provider, lack in missing.items()] or [
            f"`fleet backfill run --shop {shop} --since 30d` reads what is missing from their lists"
        ]
        raise InputInvalid(
            f"{shop} has no payment {reference!r} among {searched}. It should be an order's number such as "
            f"'#1001', or an id from Stripe. {'; '.join(hints)}"
        )
    if as_json:
        print_json([dict(step._mapping) for step in steps])
        return
    columns: Columns = {
        "what": "what", "id": "id", "whose": "source", "status": "status",
        "amount": lambda s: "-" if s.amount_cents is None else format_money(s.amount_cents, s.currency),
        "at": "at", "more": "detail",
    }  # fmt: skip
    print_lines(f"{reference} at {shop}", columns, steps, "")
    if sum(step.what == "charge" for step in steps) >= MAX_CHARGES:
        click.echo(f"The first {MAX_CHARGES} charges are shown: trace one of the others by its id.", err=True)


command.add_command(hidden_alias(repair, "heal"))
command.add_command(hidden_alias(trace, "trail"))
books = hidden_alias(command, "books")
