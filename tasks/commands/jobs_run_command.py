"""``fleet jobs run``: runs a job now, in this process."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
import orjson

from services.cli import retention
from services.cli.base import (
    ReportingCommand,
    actor_option,
    dry_run_option,
    json_option,
    new_request_id,
    operator_label,
)
from services.cli.incident_link import incident_option
from services.cli.output import print_json
from services.cli.params import SHOP
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.log import STDERR_FD, STDOUT_FD
from services.jobs.definition import Job
from services.jobs.history import find_failed_shops
from services.jobs.runs import StartResult, list_scope_shops
from services.jobs.store import get_job
from tasks.commands.jobs_plan import JOB

if TYPE_CHECKING:
    from tasks.commands.jobs_run import RunResult


@click.command("run", cls=ReportingCommand)
@click.argument("job", type=JOB)
@click.option("--shop", "shops", type=SHOP, multiple=True, help="Only this shop (its slug); repeatable.")
@click.option("--failed", is_flag=True, help="Only where the run of --period failed.")
@click.option("--period", default="", help="Such as 2026-11-20; default: the newest complete one.")
@click.option("--max-runs", type=click.IntRange(1, 1000), help="With --failed: at most so many runs.")
@click.option("--again", is_flag=True, help="Run again if that period is done.")
@incident_option
@dry_run_option
@actor_option
@json_option
@click.pass_context
def run(
    ctx: click.Context,
    job: str,
    shops: tuple[str, ...],
    failed: bool,
    period: str,
    max_runs: int | None,
    again: bool,
    incident: int | None,
    dry_run: bool,
    actor: str,
    as_json: bool,
) -> None:
    """Run JOB now, in this process, one shop after the other. Exit code 0: done now or before; 1: not done.

    Log lines go to standard output; the last line is one JSON object with the result, or on a terminal its
    text. With --json standard output has one JSON object with all runs, and the log lines go to standard
    error. After a temporary failure a worker retries the run. A run that a worker has locked is not run here.

    \b
    Example: fleet jobs run daily-reconciliation --shop harbour --period 2026-11-20
             fleet jobs run daily-reconciliation --failed --period 2026-11-20 --max-runs 20
    """
    if failed != bool(failed and period and not shops) or (max_runs and not failed):
        raise click.UsageError("--failed needs --period and no --shop; --max-runs belongs to --failed")
    # Imported here, because it loads every handler and no other command needs them.
    from tasks.commands import jobs_run

    by = operator_label(actor)
    with transaction() as tx:
        wanted = get_job(tx, job)
        for shop in shops or ("",):
            list_scope_shops(tx, wanted, shop)
        if failed:
            found = find_failed_shops(tx, job, period)
            shops = (*found[:max_runs],)
            click.echo(f"{format_count(len(found), 'run')} of {job} for {period} failed.", err=True)
    if failed and not shops:
        if as_json:
            print_json(jobs_run.summarize(wanted, []))
        return
    if dry_run:
        plans = jobs_run.plan_here(wanted, shops, period or None, force=again, by=by, incident=incident)
        _print_plans(job, plans, as_json=as_json)
        if wanted.topic == "retention" and not as_json:
            ctx.invoke(retention.show, as_json=False)
        return
    results = jobs_run.run_here(
        wanted,
        shops,
        period or None,
        force=again,
        by=by,
        request_id=new_request_id(),
        log_fd=STDERR_FD if as_json else STDOUT_FD,
        incident=incident,
    )
    _print_results(wanted, results, is_one=bool(shops) or not wanted.per_shop, as_json=as_json)
    ctx.exit(0 if all(result.is_good for result in results) else 1)


def _print_plans(job: str, plans: Sequence[StartResult], *, as_json: bool) -> None:
    from tasks.commands.jobs_run import PLANS

    if as_json:
        runs = [
            {"shop": one.shop and one.shop.slug, "period": one.period, "plan": one.found.value}
            for one in plans
        ]
        print_json({"job": job, "runs": runs})
        return
    for one in plans:
        where = f" at {one.shop.slug}" if one.shop else ""
        click.echo(f"Would run {job} for {one.period}{where}: {PLANS[one.found]}.")


def _print_results(job: Job, results: "Sequence[RunResult]", *, is_one: bool, as_json: bool) -> None:
    from tasks.commands.jobs_run import describe_result, summarize

    if as_json:
        print_json(summarize(job, results))
        return
    document = results[0].document() if len(results) == 1 and is_one else summarize(job, results)
    for result in results:
        if not result.is_good or sys.stdout.isatty():
            click.echo(describe_result(result, utc_now()), err=not result.is_good)
    if not sys.stdout.isatty():
        click.echo(orjson.dumps(document, option=orjson.OPT_UTC_Z).decode())
