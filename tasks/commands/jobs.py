"""``fleet jobs``: lists jobs and runs, changes schedules, and runs a job now.

It is in ``tasks`` because ``run`` needs the handlers.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click
from sqlalchemy import Connection

from services.cli.base import (
    CommandGroup,
    actor_option,
    audit_author,
    dry_run_option,
    find_shop_id,
    json_option,
    limit_option,
    shop_option,
)
from services.cli.output import Columns, print_json, print_list
from services.cli.params import KnownType
from services.core.clock import utc_now
from services.core.db import transaction, transaction_or_plan
from services.core.times import format_time
from services.jobs.complete_run import format_stats
from services.jobs.definition import Job
from services.jobs.history import STATUSES, RunLine, find_history
from services.jobs.runs import list_scope_shops
from services.jobs.store import (
    change_job,
    get_job,
    list_schedules,
    resume_job,
)
from services.ledger.work import FLEET
from services.shops.shops import Shop, find_slugs
from tasks.commands.jobs_plan import (
    JOB,
    JOB_COLUMNS,
    PLANNED_COLUMNS,
    describe_schedules,
    ensure_jobs,
    find_job_lines,
    find_planned,
)
from tasks.commands.jobs_run_command import run

reason_option = click.option("--reason", default="", help="Why, for the audit.")


@click.group(cls=CommandGroup)
def command() -> None:
    """List jobs and runs, change schedules, and run a job now.

    \b
    Example: fleet jobs list
    """


command.add_command(run)


@command.command("list")
@shop_option
@json_option
def list_jobs(shop: str, as_json: bool) -> None:
    """List every job: schedule, period, grace, next run and last result.

    \b
    Example: fleet jobs list --shop harbour
    """
    now = utc_now()
    with transaction() as tx:
        ensure_jobs(tx)
        lines = find_job_lines(tx, find_shop_id(tx, shop), now)
    documents, empty = [line.document() for line in lines], "No jobs: beat_schedule.JOBS is empty."
    print_list("", JOB_COLUMNS, lines, documents, empty, as_json=as_json)


@command.command("next")
@click.argument("job", type=JOB, required=False, default="")
@shop_option
@click.option(
    "--limit",
    "--count",
    "count",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="How many.",
)
@json_option
def show_next(job: str, shop: str, count: int, as_json: bool) -> None:
    """List the next runs: of JOB in each of its time zones, or of all jobs.

    \b
    Example: fleet jobs next daily-reconciliation --shop harbour
    """
    with transaction() as tx:
        ensure_jobs(tx)
        shop_id = find_shop_id(tx, shop)
        planned = find_planned(tx, job or None, shop_id, utc_now(), count)
    documents = [one.document() for one in planned]
    empty = f"No runs ahead: {job or 'every job'} is paused, or there are no shops."
    print_list("", PLANNED_COLUMNS, planned, documents, empty, as_json=as_json)


@command.command("history")
@click.argument("job", type=JOB, required=False, default="")
@shop_option
@click.option(
    "--status",
    type=KnownType("statuses", lambda: STATUSES, is_list=True),
    default="",
    help=f"Comma-separated: {', '.join(STATUSES)}.",
)
@limit_option
@json_option
def history(job: str, shop: str, status: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List runs, newest first: result, duration and who started them.

    \b
    Example: fleet jobs history daily-reconciliation --status failed
    """
    with transaction() as tx:
        shop_id = find_shop_id(tx, shop)
        lines = find_history(tx, job=job or None, shop_id=shop_id, statuses=status, limit=limit)
        slugs = find_slugs(tx)

    def shop_of(line: RunLine) -> str:
        return slugs.get(FLEET if line.shop_id is None else line.shop_id, str(line.shop_id))

    columns: Columns = {
        "run": "id",
        "job": "job",
        "shop": shop_of,
        "period": "period",
        "due": "due_at",
        "started": "started_at",
        "took": lambda line: "" if line.duration_seconds is None else f"{line.duration_seconds:.1f} s",
        "status": "status",
        "stats": lambda line: format_stats(line.stats) if line.stats else "",
        "by": lambda line: (
            line.origin if line.started_by == line.origin else f"{line.started_by} ({line.origin})"
        ),
        "error": _describe_error,
    }
    documents = [line._asdict() | {"shop": shop_of(line)} for line in lines]
    print_list("", columns, lines, documents, "No run matches.", as_json=as_json)


def _describe_error(line: RunLine) -> str:
    next_try = f"next try {format_time(line.next_try_at)}: " if line.next_try_at is not None else ""
    return f"{next_try}{line.error or ''}"


def _changes_job(change: Callable[..., bool]) -> Callable[..., Any]:
    """Return a command that applies ``change`` to a job, everywhere or at one shop, and prints the result."""

    @click.argument("job", type=JOB)
    @shop_option
    @reason_option
    @dry_run_option
    @actor_option
    @json_option
    @wraps(change)
    def run_change(
        job: str, shop: str, reason: str, dry_run: bool, actor: str, as_json: bool, **options: Any
    ) -> None:
        with transaction_or_plan(dry_run=dry_run) as tx:
            wanted = get_job(tx, job)
            (at,) = list_scope_shops(tx, wanted, shop) if shop else (None,)
            is_changed = change(
                tx, wanted, at, **options, reason=reason, now=utc_now(), **audit_author(actor)
            )
            schedules = [one for one in list_schedules(tx, job) if at is None or one.shop_id == at.id]
            planned = find_planned(tx, job, at.id if at else None, utc_now(), 1)
        if as_json:
            places = [{"shop": s.slug, "schedule": s.schedule, "enabled": s.enabled} for s in schedules]
            figures = {"schedules": places, "next": [one.document() for one in planned]}
            print_json({"job": job, "changed": is_changed and not dry_run, **figures})
            return
        where = f" at {shop}" if shop else ""
        verb = "would be" if dry_run else "is" if is_changed else "was not changed: it is"
        click.echo(f"{job}{where} {verb} {describe_schedules(schedules)}.")
        for one in planned:
            click.echo(f"Next: {one.local} for {one.period} ({one.where})")

    return run_change


@command.command("set")
@click.option("--at", "schedule", default="", metavar="CRON", help='Five cron fields, such as "30 0 * * *".')
@click.option("--default", "as_table", is_flag=True, help="Back to the schedule in beat_schedule.py.")
@_changes_job
def set_schedule(
    tx: Connection, job: Job, shop: Shop | None, *, schedule: str, as_table: bool, **author: Any
) -> bool:
    """Change the schedule of JOB, everywhere or at one shop, from now on and without a restart.

    Runs that are already due keep the old schedule.

    \b
    Example: fleet jobs set daily-reconciliation --shop harbour --at "30 0 * * *"
    """
    if bool(schedule) == as_table:
        raise click.UsageError('give either --at "30 0 * * *" or --default')
    return change_job(tx, job, shop, {"schedule": schedule or None}, **author)


@command.command("pause")
@_changes_job
def pause(tx: Connection, job: Job, shop: Shop | None, **author: Any) -> bool:
    """Start no runs of JOB, everywhere or at one shop. Runs that are due in the pause do not run later.

    \b
    Example: fleet jobs pause weekly-audit-archive --reason "the bucket moves"
    """
    return change_job(tx, job, shop, {"enabled": False}, **author)


@command.command("resume")
@_changes_job
def resume(tx: Connection, job: Job, shop: Shop | None, **author: Any) -> bool:
    """Start runs of JOB again. A shop with its own pause stays paused until you resume it with --shop.

    \b
    Example: fleet jobs resume weekly-audit-archive
    """
    return resume_job(tx, job, shop, **author)
