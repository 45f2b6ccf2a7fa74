"""``fleet jobs``: what runs when, what became of it, change it, and run one now.

It lives with the tasks because ``run`` needs what they do; everything else knows only the database.
"""

import click
import orjson
from sqlalchemy import Connection

from services.cli.base import (
    actor_option,
    dry_run_option,
    json_option,
    limit_option,
    new_request_id,
    operator_label,
    report_errors,
)
from services.cli.output import print_json, print_table
from services.core.clock import utc_now
from services.core.db import transaction
from services.jobs.definition import Job
from services.jobs.history import STATUSES, find_history
from services.jobs.overrides import change_schedule, is_off, switch_job
from services.jobs.store import find_jobs, get_job, record_jobs
from services.jobs.trigger import find_scope
from services.shops.shops import Shop, find_slugs, get_shop
from tasks.commands.jobs_change import Change, make_change
from tasks.commands.jobs_history import COLUMNS, run_cells, run_document
from tasks.commands.jobs_plan import JobLine, PlannedRun, find_job_lines, find_planned

shop_option = click.option("--shop", default="", help="Only at this shop (its slug).")
reason_option = click.option("--reason", default="", help="Why, for the audit and for whoever wonders.")


@click.group()
def command() -> None:
    """Show what runs when, change it, run one now, and see what became of runs.

    \b
    Example: fleet jobs list
    """


@command.command("list")
@shop_option
@json_option
@report_errors
def list_jobs(shop: str, as_json: bool) -> None:
    """List every job: when it runs, what it covers, when it is late, and how it last went.

    \b
    Example: fleet jobs list --shop harbour
    """
    now = utc_now()
    with transaction() as tx:
        _know_jobs(tx)
        lines = find_job_lines(tx, get_shop(tx, shop).id if shop else None, now)
    if as_json:
        print_json([line.document() for line in lines])
        return
    print_table(
        "", JobLine.COLUMNS, [line.cells() for line in lines], "No jobs: beat_schedule.JOBS is empty."
    )


@command.command("next")
@click.argument("job", required=False, default="")
@shop_option
@click.option("--count", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many.")
@json_option
@report_errors
def show_next(job: str, shop: str, count: int, as_json: bool) -> None:
    """Show the next runs: of JOB, in each zone it runs in, or of all jobs together.

    \b
    Example: fleet jobs next daily-reconciliation --shop harbour
    """
    with transaction() as tx:
        _know_jobs(tx, job)
        if job:
            get_job(tx, job)
        shop_id = get_shop(tx, shop).id if shop else None
        planned = find_planned(tx, job or None, shop_id, utc_now(), count)
    if as_json:
        print_json([one.document() for one in planned])
        return
    empty = f"No runs ahead: {job or 'everything'} is paused, or there are no shops."
    print_table("", PlannedRun.COLUMNS, [one.cells() for one in planned], empty)


@command.command("run")
@click.argument("job")
@click.option("--shop", default="", help="Only this shop; without it, every shop, one after the other.")
@click.option("--period", default="", help="Such as 2026-11-20; default: the newest that is over.")
@click.option("--force", is_flag=True, help="Also if that period is done already.")
@dry_run_option
@actor_option
@click.pass_context
@report_errors
def run(ctx: click.Context, job: str, shop: str, period: str, force: bool, dry_run: bool, actor: str) -> None:
    """Do a run of JOB now, in this process. Exit code 0: done, or done before; 1: not done.

    Log lines go to standard output; the last line is one JSON object with the figures. A run that fails
    for the moment is tried again by a worker, and one that a worker has in hand is left to it.

    \b
    Example: fleet jobs run daily-reconciliation --shop harbour --period 2026-11-20
    """
    # Loaded here: it brings every effect with it, and no other command needs them.
    from tasks.commands import jobs_run as here

    by = operator_label(actor)
    with transaction() as tx:
        _know_jobs(tx, job)
        wanted = get_job(tx, job)
        find_scope(tx, wanted, shop)
    if dry_run:
        for asked in here.plan_here(wanted, shop, period or None, force=force, by=by):
            where = f" at {asked.shop.slug}" if asked.shop else ""
            click.echo(f"Would run {job} for {asked.start.period}{where}: {here.SAID[asked.start.found]}.")
        return
    results = here.run_here(wanted, shop, period or None, force=force, by=by, request_id=new_request_id())
    one_only = bool(shop) or not wanted.per_shop
    document = results[0].document() if one_only else here.sum_up(wanted, results)
    for result in results:
        if not result.is_good:
            click.echo(here.say_not_done(result, utc_now()), err=True)
    click.echo(orjson.dumps(document, option=orjson.OPT_UTC_Z).decode())
    ctx.exit(0 if all(result.is_good for result in results) else 1)


@command.command("history")
@click.argument("job", required=False, default="")
@shop_option
@click.option("--status", type=click.Choice(STATUSES), help="Only runs that are this.")
@limit_option
@json_option
@report_errors
def history(job: str, shop: str, status: str | None, limit: int, as_json: bool) -> None:
    """Show runs, the newest first: what they came to, how long they took, and who began them.

    \b
    Example: fleet jobs history daily-reconciliation --status failed
    """
    with transaction() as tx:
        if job:
            _know_jobs(tx, job)
            get_job(tx, job)
        shop_id = get_shop(tx, shop).id if shop else None
        lines = find_history(tx, job=job or None, shop_id=shop_id, status=status, limit=limit)
        slugs = find_slugs(tx)
    if as_json:
        print_json([run_document(line, slugs) for line in lines])
        return
    print_table("", COLUMNS, [run_cells(line, slugs) for line in lines], "No runs match.")


@command.command("set")
@click.argument("job")
@shop_option
@click.option("--at", "schedule", default="", metavar="CRON", help='Five cron fields, such as "30 0 * * *".')
@click.option(
    "--default", "as_table", is_flag=True, help="As beat_schedule.py (or the whole job) has it again."
)
@reason_option
@dry_run_option
@actor_option
@report_errors
def set_schedule(
    job: str, shop: str, schedule: str, as_table: bool, reason: str, dry_run: bool, actor: str
) -> None:
    """Let JOB run at other times, everywhere or at one shop, from now on and without a restart.

    What was due before still runs by the old times.

    \b
    Example: fleet jobs set daily-reconciliation --shop harbour --at "30 0 * * *"
    """
    if bool(schedule) == as_table:
        raise click.UsageError('say when: --at "30 0 * * *", or --default for its own times again')

    def change(tx: Connection, found: Job, at: Shop | None) -> None:
        wanted = schedule if schedule else None
        change_schedule(tx, found, at, wanted, reason=reason, now=utc_now(), **_who(actor))

    _change(job, shop, change, dry_run=dry_run)


@command.command("pause")
@click.argument("job")
@shop_option
@reason_option
@dry_run_option
@actor_option
@report_errors
def pause(job: str, shop: str, reason: str, dry_run: bool, actor: str) -> None:
    """Let JOB begin no runs, everywhere or at one shop. What falls into that time does not run later.

    \b
    Example: fleet jobs pause weekly-audit-archive --reason "the bucket moves"
    """

    def change(tx: Connection, found: Job, at: Shop | None) -> None:
        switch_job(tx, found, at, False, reason=reason, now=utc_now(), **_who(actor))

    _change(job, shop, change, dry_run=dry_run)


@command.command("resume")
@click.argument("job")
@shop_option
@reason_option
@dry_run_option
@actor_option
@report_errors
def resume(job: str, shop: str, reason: str, dry_run: bool, actor: str) -> None:
    """Let JOB begin runs again. A shop where it is paused by itself stays paused until it is named.

    \b
    Example: fleet jobs resume weekly-audit-archive
    """

    def change(tx: Connection, found: Job, at: Shop | None) -> None:
        # A shop goes with the whole again, unless the whole is off and this shop alone is to run.
        wanted = None if at is not None and not is_off(tx, found) else True
        switch_job(tx, found, at, wanted, reason=reason, now=utc_now(), **_who(actor))

    _change(job, shop, change, dry_run=dry_run)


def _change(job: str, slug: str, change: Change, *, dry_run: bool) -> None:
    with transaction() as tx:
        _know_jobs(tx, job)
        said = make_change(tx, get_job(tx, job), slug, change, dry_run=dry_run)
    click.echo(said)


def _know_jobs(tx: Connection, name: str = "") -> None:
    """The database knows the jobs, before any beat ran, and one that only ``beat_schedule`` has."""
    known = find_jobs(tx)
    if known and (not name or name in known):
        return
    # Loaded here: it brings Celery with it, and almost never is it needed.
    from beat_schedule import JOBS

    if not known or name in {job.name for job in JOBS}:
        record_jobs(tx, JOBS, utc_now())


def _who(actor: str) -> dict[str, str]:
    return {"by": operator_label(actor), "request_id": new_request_id()}
