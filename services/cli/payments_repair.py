"""``fleet payments repair``: fetch what the breaks of a day lack from Stripe, and requeue dead work."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date

import click

from services.cli.base import (
    ReportingCommand,
    actor_option,
    audit_author,
    dry_run_option,
    json_option,
    notify_workers,
    one_shop_option,
)
from services.cli.incident_link import incident_option, link_incident
from services.cli.output import print_json, safe_text
from services.cli.params import DAY
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.settings import get_settings
from services.jobs.runs import trigger_job
from services.jobs.store import get_job
from services.ledger.accept import WorkRef
from services.payments.break_repair import RepairPlan, count_unfinished_work, plan_repair, repair_day
from services.payments.breaks import describe_cause, list_day_breaks
from services.payments.reconcile import JOB, find_not_compared
from services.payments.stripe_key import get_stripe_key
from services.shops.connections import recorded_calls
from services.shops.shops import get_shop

POLL_SECONDS = 0.2
MAX_BREAKS = 5_000
"""Breaks of one repair; the next repair continues."""


@click.command("repair", cls=ReportingCommand)
@one_shop_option
@click.option("--day", type=DAY, required=True, help="The day in the shop's zone, such as 2026-11-20.")
@click.option("--reason", default="", help="Why, for the audit.")
@click.option("--rerun", is_flag=True, help="Reconcile the day again afterwards, so that its breaks close.")
@click.option("--wait/--no-wait", "waits", default=True, help="Wait until the work is done.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, 3600, min_open=True),
    default=120,
    show_default=True,
    help="Most seconds to wait.",
)
@incident_option
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
    incident: int | None,
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
        stored = get_shop(tx, shop)
        shop_id = stored.id
        found = list_day_breaks(tx, shop_id, parsed_day, limit=MAX_BREAKS)
        plan = plan_repair(found)
        not_compared = find_not_compared(tx, stored, parsed_day)
        key = get_stripe_key(tx, shop_id) if plan.events or plan.objects else ""
    if not (found or rerun or as_json):
        click.echo(f"nothing to repair of {day}: {safe_text(not_compared or 'it has no open breaks')}")
        return
    if dry_run:
        _print_plan(plan, as_json=as_json)
        return
    author = audit_author(actor)
    with transaction() as tx:
        link_incident(tx, incident, f"repairs payments of {day} at {shop}", now=utc_now(), **author)

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
    left, counts = _wait(result.work, timeout if waits else 0, report)
    run = _rerun(shop, day, author) if rerun and not left else ""
    if as_json:
        print_json(
            {"entered": result.recorded, "requeued": result.requeued, "gone": result.gone, "work": counts,
             "waiting": left, "left_to_you": len(plan.left), "rerun": run}
        )  # fmt: skip
    else:
        requeued = format_count(result.requeued, "item of work")
        click.echo(f"{format_count(result.recorded, 'event')} entered, {requeued} requeued")
        if notice:
            click.echo(notice)
        if result.gone:
            click.echo(f"Stripe does not have: {_first_ten(result.gone)}")
        _print_left(plan)
        if left:
            todo = "`fleet work list --status pending,error` lists them"
            click.echo(f"not done: {format_count(left, 'item of work')}: {todo}")
        if run:
            click.echo(f"{run} has started: `fleet jobs history` shows its result")
        else:
            command = f"fleet jobs run {JOB} --shop {shop} --period {day} --again"
            click.echo(f"run `{command}`: it closes the breaks that are repaired")
    if (waits and left) or counts.get("dead"):
        raise click.exceptions.Exit(1)


def _wait(
    work: Sequence[WorkRef], seconds: float, report: Callable[[str], None]
) -> tuple[int, Mapping[str, int]]:
    """Wait until the work is done, at most ``seconds``; return how many are left, and counts by status."""
    until, reported = time.monotonic() + seconds, -1
    while True:
        with transaction() as tx:
            left, counts = count_unfinished_work(tx, work, utc_now())
        if left != reported:
            report(f"{len(work) - left} of {format_count(len(work), 'item of work')} done")
            reported = left
        if not left or time.monotonic() >= until:
            return left, counts
        time.sleep(POLL_SECONDS)


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
    click.echo(f"would fetch {format_count(len(plan.events), 'lost event')}: {_first_ten(plan.events)}")
    click.echo(
        f"would requeue {format_count(len(plan.work_ids), 'item of work')}: {_first_ten(plan.work_ids)}"
    )
    click.echo(
        f"would fetch {format_count(len(plan.objects), 'object')}: {_first_ten(i for _, i in plan.objects)}"
    )
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
