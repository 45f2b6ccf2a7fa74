"""``fleet alerts test``: sends a test message through the channels and prints the result of each."""

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import click

from services.alerts.channels import CHANNELS, Channel, list_channels
from services.alerts.messages import make_test_notice
from services.cli.base import (
    ReportingCommand,
    actor_option,
    dry_run_option,
    json_option,
    notify_workers,
    operator_label,
)
from services.cli.output import print_json, safe_text
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.core.times import format_time
from services.ledger.accept import record_work
from services.ledger.queries import WorkLine, get_work

POLL_SECONDS = 0.1


@click.command("test", cls=ReportingCommand)
@click.option("--channel", "names", type=click.Choice([*CHANNELS]), multiple=True, help="Only this channel.")
@click.option(
    "--timeout",
    "wait_seconds",
    type=click.FloatRange(0, 600),
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

    Workers send it, as they send alerts, to the addresses in their own settings: restart them after a
    change. Which channels are set up is read from the settings of this command. Exit code 0: it got
    through every channel. 1: it did not, or not in time; then it is still sent later.

    \b
    Example: fleet alerts test --channel slack
    """
    channels = [channel for channel in list_channels() if channel.name in names or not names]
    missing = [CHANNELS[name] for name in names if not CHANNELS[name].is_set(get_settings())]
    if missing or not channels:
        settings = ", ".join(channel.setting for channel in missing or CHANNELS.values())
        raise click.ClickException(
            f"{settings} is empty in the settings of this command, which may differ from those of the "
            "workers: set it here too (docs/alerts.md#channels)"
        )
    if dry_run:
        would = {"status": "planned", "message": "would be sent"}
        results = [{"channel": channel.name, **would} for channel in channels]
    else:
        work = _send(channels, operator_label(actor), is_silent=as_json)
        results = _wait(work, timedelta(seconds=wait_seconds))
    if as_json:
        print_json(results)
    else:
        for one in results:
            click.echo(safe_text(f"{one['channel']}: {one['message']}"))
        click.echo(
            "Workers send to the addresses in their own settings: restart them after a change.", err=True
        )
    ctx.exit(0 if all(one["status"] in ("done", "planned") for one in results) else 1)


def _send(channels: Sequence[Channel], by: str, *, is_silent: bool) -> dict[str, int]:
    """Return the id of the work of each channel."""
    with transaction() as tx:
        now = utc_now()
        notice = make_test_notice(by, now)
        work = {channel.name: record_work(tx, channel.plan(tx, [notice], now), now) for channel in channels}
    note = notify_workers([ref for refs in work.values() for ref in refs])
    if note and not is_silent:
        click.echo(note, err=True)
    if any(not refs for refs in work.values()):
        raise click.ClickException("a test mail has the same second: try again")
    return {name: refs[0].id for name, refs in work.items()}


def _wait(work: Mapping[str, int], longest: timedelta) -> list[dict[str, Any]]:
    until = utc_now() + longest
    while True:
        with transaction() as tx:
            lines = {name: get_work(tx, work_id) for name, work_id in work.items()}
        is_final = all(line.status != "pending" and line.locked_at is None for line in lines.values())
        if is_final or utc_now() >= until:
            return [_describe(name, line) for name, line in lines.items()]
        time.sleep(POLL_SECONDS)


def _describe(channel: str, line: WorkLine) -> dict[str, Any]:
    reason = f"{line.error_code}: {line.last_error}" if line.error_code else ""
    if line.status == "done":
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
        "status": line.status,
        "message": message,
        "code": line.error_code or "",
        "work_id": line.id,
    }
