"""``fleet payments repair``: fetch or requeue what explains the breaks of a day, and wait for the work."""

import time
from collections.abc import Callable, Iterable
from datetime import date

import click

from services.cli.base import (
    actor_option,
    audit_author,
    dry_run_option,
    json_option,
    notify_workers,
    report_errors,
)
from services.cli.output import print_json
from services.core.clock import FIRST_YEAR, LAST_YEAR, is_plausible, utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.jobs.runs import trigger_job
from services.jobs.store import get_job
from services.payments.break_repair import RepairPlan, RepairResult, find_progress, plan_repair, repair_day
from services.payments.breaks import describe_cause, list_day_breaks
from services.payments.reconcile import JOB
from services.payments.stripe_key import get_stripe_key
from services.shops.connections import recorded_calls
from services.shops.shops import get_shop

POLL_SECONDS = 0.2
MAX_BREAKS = 5_000
"""Breaks that one run repairs; the next run goes on."""


@click.command()
@click.option("--shop", required=True, help="The shop (its slug).")
@click.option("--day", required=True, help="The day in the shop's zone, such as 2026-11-20.")
@click.option("--reason", default="", help="Why, for the audit.")
@click.option("--rerun", is_flag=True, help="Reconcile the day again afterwards, so that its breaks close.")
@click.option("--wait/--no-wait", "waits", default=True, help="Wait until the work is done.")
@click.option(
    "--timeout", type=click.IntRange(1, 3600), default=120, show_default=True, help="Most seconds to wait."
)
@dry_run_option
@json_option
@actor_option
@report_errors
def repair(
    shop: str,
    day: str,
    reason: str,
    rerun: bool,
    waits: bool,
    timeout: int,
    dry_run: bool,
    as_json: bool,
    actor: str,
) -> None:
    """Fetch the lost events and objects of a day's breaks from Stripe, and requeue dead work.

    Events and objects enter as webhooks do. The breaks close at the next reconciliation of the day. A second
    run enters nothing twice. Exit code 1 if some of the work is not done in time, or is dead.

    \b
    Examples:
      fleet payments repair --shop harbour --day 2026-11-20 --dry-run
      fleet payments repair --shop harbour --day 2026-11-20 --rerun
    """
    its_day = parse_day(day)
    with transaction() as tx:
        shop_id = get_shop(tx, shop).id
        plan = plan_repair(list_day_breaks(tx, shop_id, its_day, limit=MAX_BREAKS))
        key = get_stripe_key(tx, shop_id) if plan.events or plan.objects else ""
    if dry_run:
        _print_plan(plan, as_json=as_json)
        return
    author = audit_author(actor)

    def report(text: str) -> None:
        if not as_json:
            click.echo(text, err=True)

    with recorded_calls(shop_id):
        result = repair_day(
            shop_id,
            plan,
            key,
            get_settings().stripe_api_base,
            by=author["by"],
            request_id=author["request_id"],
            reason=reason or f"breaks of {its_day.isoformat()}",
            report=report,
        )
    notice = notify_workers(result.work)
    left, counts = _wait_for_work(result, timeout if waits else 0, report)
    run = _rerun(shop, its_day, author) if rerun and not left else ""
    if as_json:
        print_json(
            {"entered": result.entered, "requeued": result.requeued, "gone": result.gone, "work": counts,
             "waiting": left, "left_to_you": len(plan.left), "rerun": run}
        )  # fmt: skip
    else:
        _print_result(shop, its_day, result, plan, notice, run, left)
    if (waits and left) or counts.get("dead"):
        raise click.exceptions.Exit(1)


def _wait_for_work(
    result: RepairResult, timeout: int, report: Callable[[str], None]
) -> tuple[int, dict[str, int]]:
    """Return how many work items are not done at the end, and the count of all by status."""
    until, reported = time.monotonic() + timeout, -1
    while True:
        with transaction() as tx:
            left, counts = find_progress(tx, result.work, utc_now())
        if left != reported:
            report(f"{len(result.work) - left} of {len(result.work)} items of work done")
            reported = left
        if not left or time.monotonic() >= until:
            return left, counts
        time.sleep(POLL_SECONDS)


def _rerun(shop: str, day: date, author: dict[str, str]) -> str:
    """Start the reconciliation of the day again by a worker; return the run's name."""
    with transaction() as tx:
        runs = trigger_job(
            tx, get_job(tx, JOB), shop, day.isoformat(), origin="cli", now=utc_now(), force=True, **author
        )
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
    click.echo(f"would look at {len(plan.objects)} objects: {_first_ten(i for _, i in plan.objects)}")
    _print_left(plan)


def _print_result(
    shop: str, day: date, result: RepairResult, plan: RepairPlan, notice: str, run: str, left: int
) -> None:
    click.echo(f"{result.entered} events entered, {result.requeued} items of work requeued")
    if notice:
        click.echo(notice)
    if result.gone:
        click.echo(f"Stripe does not have: {_first_ten(result.gone)}")
    _print_left(plan)
    if left:
        click.echo(f"{left} items of work are not done: `fleet work list --status pending,error` lists them")
    if run:
        click.echo(f"{run} has started: `fleet jobs history` shows its result")
    else:
        rerun = f"fleet jobs run {JOB} --shop {shop} --period {day.isoformat()} --force"
        click.echo(f"run `{rerun}`: it closes the breaks that are repaired")


def _print_left(plan: RepairPlan) -> None:
    for found in plan.left[:20]:
        cause = describe_cause(found.cause)
        click.echo(f"left to you: {found.provider_id} ({found.kind}): {cause.says}; {cause.todo}")
    if len(plan.left) > 20:
        click.echo(f"and {len(plan.left) - 20} more: `fleet payments breaks` lists them")


def _first_ten(ids: Iterable[object]) -> str:
    listed = [str(each) for each in ids]
    more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    return (", ".join(listed[:10]) or "none") + more


def parse_day(text: str) -> date:
    """Return the day ``text``, such as ``2026-11-20``; raise ``UsageError`` for anything else."""
    try:
        if is_plausible(day := date.fromisoformat(text)):
            return day
    except ValueError:
        pass
    years = f"of the years {FIRST_YEAR} to {LAST_YEAR}"
    raise click.UsageError(f"day={text!r} should be a day such as 2026-11-20, {years}")
