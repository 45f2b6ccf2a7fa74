"""``fleet demo``: a complete fleet with sample shops, in two minutes."""

import signal
from pathlib import Path
from types import FrameType

import click

from services.cli.base import report_errors
from services.cli.params import OUTPUT_FOLDER
from services.cli.usage import PlainCommand


@click.command(cls=PlainCommand)
@click.option("--exit", "exits", is_flag=True, help="Stop after the checks; exit code 1 if one fails.")
@click.option("--seed", type=int, default=2026, show_default=True, help="Seed of the simulated day.")
@click.option(
    "--events",
    type=click.IntRange(60, 100_000),
    default=900,
    show_default=True,
    help="Approximate number of webhooks.",
)
@click.option(
    "--home",
    type=OUTPUT_FOLDER,
    help="Folder of the demo's fleet, emptied each time (default: demo under FLEET_HOME).",
)
@click.option(
    "--auto-ports/--usual-ports",
    default=True,
    help="Use free ports where the usual ones are taken (default).",
)
@report_errors
def command(exits: bool, seed: int, events: int, home: Path | None, auto_ports: bool) -> None:
    """Simulate a day of four shops in a complete fleet, with faults, and check the result.

    The demo has its own fleet, with simulated providers. It does not touch another fleet or a real
    account.

    \b
    Example:     fleet demo --exit
    """
    from services.demo.play import run_demo
    from services.demo.report import make_console
    from services.fleet.envfile import find_home

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    failed = None
    try:
        failed = run_demo(
            make_console(), home or find_home() / "demo", seed=seed, events=events, auto_ports=auto_ports,
            stays_up=not exits,
        )  # fmt: skip
    except KeyboardInterrupt:
        click.echo("stopped")
    if failed:
        raise click.ClickException(f"failed checks: {'; '.join(check.name for check in failed)}")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
