"""``fleet alerts test``: sends a test message through the channels and prints the result of each."""

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import click
from sqlalchemy import Connection, select

from services.alerts.channels import CHANNELS, DISABLED, MAILED, plan_tests
from services.cli.base import (
    ReportingCommand,
    actor_option,
    dry_run_option,
    json_option,
    new_request_id,
    notify_workers,
    operator_label,
)
from services.cli.output import print_json, safe_text
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.times import format_time
from services.ledger.accept import record_work
from services.ledger.queries import WorkLine, get_work
from services.ledger.tables import work_queue
from services.mail.outbox import TOPIC as MAIL_SEND

POLL_SECONDS = 0.1
NOTE_SECONDS = 5.0
NOT_SET = "not_set"
"""The status of a channel that is not set up in the settings of the worker."""


@click.command("test", cls=ReportingCommand)
@click.option("--channel", "names", type=click.Choice([*CHANNELS]), multiple=True, help="Only this channel.")
@click.option(
    "--timeout",
    "wait_seconds",
    type=click.FloatRange(0, 600, min_open=True),
    default=30,
    show_default=True,
    help="Most seconds to wait.",
)
@dry_run_option
@actor_option
@json_option
@click.pass_context
def test(
    ctx: click.Context, names: Sequence[str], wait_seconds: float, dry_run: bool, actor: str, as_json: bool
) -> None:
    """Send a test message through every channel that is set up, wait, and print the results.

    Workers send it, as they send alerts: their settings decide which channels are set up, and the addresses.
    Exit code 0: it got through every channel that is set up, and through each of --channel. 1: it did not, or
    not in time (then it is still sent later), or no channel is set up.

    \b
    Example: fleet alerts test --channel slack
    """
    wanted = names or [*CHANNELS]
    if dry_run:
        results = [_plan(name) for name in wanted]
    else:
        work = send_tests(wanted, operator_label(actor), is_silent=as_json)
        results = wait_for_tests(work, timedelta(seconds=wait_seconds), is_silent=as_json)
    if as_json:
        print_json(results)
    else:
        for one in results:
            click.echo(safe_text(f"{one['channel']}: {one['message']}"))
    statuses = [one["status"] for one in results]
    is_good = all(one in ("done", "planned") or (one == NOT_SET and not names) for one in statuses)
    ctx.exit(0 if is_good and {*statuses} != {NOT_SET} else 1)


def _plan(name: str) -> dict[str, Any]:
    message = f"would be sent, if {CHANNELS[name].setting} is set in the settings of the workers"
    return {"channel": name, "status": "planned", "message": message}


def send_tests(names: Sequence[str], by: str, *, is_silent: bool) -> dict[str, int]:
    """Return the id of the work of each channel."""
    with transaction() as tx:
        now = utc_now()
        planned = plan_tests(names, by, new_request_id(), now)
        refs = record_work(tx, [*planned.values()], now)
    note = notify_workers(refs)
    if note and not is_silent:
        click.echo(note, err=True)
    return dict(zip(planned, sorted(ref.id for ref in refs), strict=True))


def wait_for_tests(work: Mapping[str, int], longest: timedelta, *, is_silent: bool) -> list[dict[str, Any]]:
    """Return the results once all are final, or after ``longest``; meanwhile print what is waited for."""
    begun = noted = utc_now()
    until = begun + longest
    while True:
        with transaction() as tx:
            lines = {name: _find_last(tx, work_id) for name, work_id in work.items()}
        is_final = all(line.status != "pending" and line.locked_at is None for line in lines.values())
        if is_final or utc_now() >= until:
            return [_describe(name, line) for name, line in lines.items()]
        if not is_silent and utc_now() >= noted + timedelta(seconds=NOTE_SECONDS):
            noted = utc_now()
            waited = f"waited {(noted - begun).seconds} s of {longest.total_seconds():g} s"
            for one in (_describe(name, line) for name, line in lines.items()):
                if one["status"] not in ("done", NOT_SET):
                    click.echo(safe_text(f"{waited}: {one['channel']}: {one['message']}"), err=True)
        time.sleep(POLL_SECONDS)


def _find_last(tx: Connection, work_id: int) -> WorkLine:
    """Return the work with this id, or that of the mail which it stored."""
    line = get_work(tx, work_id)
    if line.result != MAILED:
        return line
    column = work_queue.c
    wanted = select(work_queue).where(column.id > work_id, column.request_id == line.request_id)
    return tx.execute(wanted.where(column.topic == MAIL_SEND)).first() or line


def _describe(channel: str, line: WorkLine) -> dict[str, Any]:
    reason = f"{line.error_code}: {line.last_error}" if line.error_code else ""
    status = line.status
    if line.result == DISABLED:
        status = NOT_SET
        message = f"not set up: {CHANNELS[channel].setting} is empty in the settings of the workers"
    elif status == "done":
        message = "sent"
    elif line.status in ("dead", "discarded"):
        message = f"not sent: {reason}"
    elif line.next_retry_at is not None:
        message = f"not sent yet, retried at {format_time(line.next_retry_at)}: {reason}"
    elif line.locked_at is not None:
        message = "not sent yet: a worker waits for the answer of the channel; it sends again by itself"
    else:
        message = f"not sent yet: no worker of queue {line.queue} took it; see `fleet doctor`"
    return {
        "channel": channel,
        "status": status,
        "message": message,
        "code": line.error_code or "",
        "work_id": line.id,
    }
