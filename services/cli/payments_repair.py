"""``fleet books heal``: what explains a day's breaks is fetched or taken up again, and waited for."""

import time
from datetime import date
from typing import Any

import click

from services.cli.base import (
    actor_option,
    dry_run_option,
    json_option,
    new_request_id,
    notify_workers,
    operator_label,
    report_errors,
)
from services.cli.output import print_json
from services.core.clock import FIRST_YEAR, LAST_YEAR, is_plausible, utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.jobs.store import get_job
from services.jobs.trigger import trigger_job
from services.payments.break_queries import list_day_breaks
from services.payments.break_repair import RepairPlan, RepairResult, find_progress, plan_repair, repair_day
from services.payments.cause_texts import describe_cause
from services.payments.reconcile import JOB
from services.payments.stripe_key import get_stripe_key
from services.shops.connections import recorded_calls
from services.shops.shops import get_shop

POLL_SECONDS = 0.2
SHOWN_AT_MOST = 5_000
"""Breaks of one day that are healed at a time; running it again goes on."""


@click.command()
@click.option("--shop", required=True, help="The shop (its slug).")
@click.option("--day", required=True, help="The day in the shop's zone, such as 2026-11-20.")
@click.option("--reason", default="", help="Why, for the audit.")
@click.option("--rerun", is_flag=True, help="Reconcile the day again afterwards, so that its breaks close.")
@click.option("--wait/--no-wait", "waits", default=True, help="Wait until what was entered is worked off.")
@click.option(
    "--timeout", type=click.IntRange(1, 3600), default=120, show_default=True, help="Most seconds to wait."
)
@dry_run_option
@json_option
@actor_option
@report_errors
def heal(
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
    """Bring in what explains a day's breaks: lost events, dead work, objects that no event tells of.

    Events and objects are fetched from Stripe and enter as webhooks do; dead work is requeued. The breaks
    close at the day's next reconciliation. Run twice it enters nothing twice. Exit code 1 where some of the
    work did not come to an end in time, or died.

    \b
    Examples:
      fleet books heal --shop harbour --day 2026-11-20 --dry-run
      fleet books heal --shop harbour --day 2026-11-20 --rerun
    """
    wanted = parse_day(day)
    with transaction() as tx:
        shop_id = get_shop(tx, shop).id
        plan = plan_repair(list_day_breaks(tx, shop_id, wanted, limit=SHOWN_AT_MOST))
        key = get_stripe_key(tx, shop_id) if plan.events or plan.objects else ""
    if dry_run:
        _tell_plan(plan, as_json=as_json)
        return
    by, request_id = operator_label(actor), new_request_id()
    say = _quiet if as_json else _progress
    with recorded_calls(shop_id):
        healed = repair_day(
            shop_id,
            plan,
            key,
            get_settings().stripe_api_base,
            by=by,
            reason=reason or f"breaks of {wanted.isoformat()}",
            request_id=request_id,
            tell=say,
        )
    said = notify_workers(healed.work)
    left, fates = _await(healed, timeout if waits else 0, say)
    asked = _rerun(shop, wanted, by, request_id) if rerun and not left else ""
    result = {
        "entered": healed.entered,
        "requeued": healed.requeued,
        "gone": healed.gone,
        "work": fates,
        "waiting": left,
        "left_to_you": len(plan.left),
        "rerun": asked,
    }
    if as_json:
        print_json(result)
    else:
        _tell_end(shop, wanted, healed, plan, said, asked, left)
    if (waits and left) or fates.get("dead"):
        raise click.exceptions.Exit(1)


def _await(healed: RepairResult, timeout: int, say: Any) -> tuple[int, dict[str, int]]:
    """Return how much is not done when all of it is, or the time is up, and all of it by status."""
    until, told = time.monotonic() + timeout, -1
    while True:
        with transaction() as tx:
            left, fates = find_progress(tx, healed.work, utc_now())
        if left != told:
            say(f"{len(healed.work) - left} of {len(healed.work)} items of work done")
            told = left
        if not left or time.monotonic() >= until:
            return left, fates
        time.sleep(POLL_SECONDS)


def _rerun(shop: str, day: date, by: str, request_id: str) -> str:
    """Reconcile the day again, by a worker; return what was asked."""
    with transaction() as tx:
        asked = trigger_job(
            tx,
            get_job(tx, JOB),
            shop,
            day.isoformat(),
            origin="cli",
            by=by,
            now=utc_now(),
            force=True,
            request_id=request_id,
        )
    refs = [ref for one in asked for ref in (one.start.ref, *one.start.told) if ref]
    notify_workers(refs)
    return f"run {asked[0].start.run_id} of {JOB}"


def _tell_plan(plan: RepairPlan, *, as_json: bool) -> None:
    if as_json:
        left = [{"kind": b.kind, "id": b.provider_id, "cause": b.cause} for b in plan.left]
        objects = [{"subject": subject, "id": provider_id} for subject, provider_id in plan.objects]
        print_json({"events": plan.events, "work": plan.work_ids, "objects": objects, "left_to_you": left})
        return
    click.echo(f"would fetch {len(plan.events)} lost events: {_some(plan.events)}")
    click.echo(f"would requeue {len(plan.work_ids)} items of work: {_some(plan.work_ids)}")
    click.echo(f"would look at {len(plan.objects)} objects: {_some([i for _, i in plan.objects])}")
    _tell_left(plan)


def _tell_end(
    shop: str, day: date, healed: RepairResult, plan: RepairPlan, said: str, asked: str, left: int
) -> None:
    click.echo(f"{healed.entered} events entered, {healed.requeued} items of work requeued")
    for word in (said, f"Stripe does not have: {_some(healed.gone)}" if healed.gone else ""):
        if word:
            click.echo(word)
    _tell_left(plan)
    if left:
        click.echo(
            f"{left} items of work are not done yet: `fleet work list --status pending,error` shows them"
        )
    if asked:
        click.echo(f"{asked} is under way: `fleet jobs history` shows what it comes to")
    else:
        click.echo(
            f"run `fleet jobs run {JOB} --shop {shop} --period {day.isoformat()} --force`: "
            "what is mended closes"
        )


def _tell_left(plan: RepairPlan) -> None:
    for found in plan.left[:20]:
        cause = describe_cause(found.cause)
        click.echo(f"left to you: {found.provider_id} ({found.kind}): {cause.says}; {cause.todo}")
    if len(plan.left) > 20:
        click.echo(f"and {len(plan.left) - 20} more: `fleet books breaks` shows them")


def _some(ids: Any) -> str:
    listed = [str(each) for each in ids]
    more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    return (", ".join(listed[:10]) or "none") + more


def parse_day(text: str) -> date:
    """Return the day that ``text`` names; another spelling than ``2026-11-20`` is wrong usage."""
    try:
        if is_plausible(day := date.fromisoformat(text)):
            return day
    except ValueError:
        pass
    years = f"of the years {FIRST_YEAR} to {LAST_YEAR}"
    raise click.UsageError(f"day={text!r} should be a day such as 2026-11-20, {years}")


def _progress(text: str) -> None:
    click.echo(text, err=True)


def _quiet(text: str) -> None:
    del text
