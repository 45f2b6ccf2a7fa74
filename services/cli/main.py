"""The ``fleet`` command. Exit codes: 0 done, 1 failed, 2 wrong usage.

Commands are loaded when they are asked for: ``fleet env`` should not wait for SQLAlchemy.
"""

import json
import os
import shlex
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from services.core.errors import ShopfleetError

COMMANDS = MappingProxyType(
    {
        "shops": "services.cli.shops",
        "events": "services.cli.events",
        "work": "services.cli.work",
        "stock": "services.cli.stock",
        "jobs": "tasks.commands.jobs",
        "incidents": "services.cli.incidents",
        "mail": "services.cli.mail.group",
        "audit": "services.cli.audit",
        "books": "services.cli.payments",
        "close": "services.cli.month_close",
        "privacy": "services.cli.privacy",
        "heal": "services.cli.backfill",
        "send": "services.cli.send",
        "demo": "services.cli.demo",
        "completion": "services.cli.completion",
    }
)
"""Commands of their own modules; each exposes a click command named ``command``."""


class FleetGroup(click.Group):
    """Loads a command's module at its first use, and turns what a person can mend into one clear line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands of this file, and those whose modules are there."""
        return sorted(
            [*super().list_commands(ctx), *(n for n, module in COMMANDS.items() if find_spec(module))]
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a command, importing its module if it has one."""
        if (found := super().get_command(ctx, cmd_name)) is not None:
            return found
        module = COMMANDS.get(cmd_name)
        if module is None or find_spec(module) is None:
            return None
        command: click.Command = import_module(module).command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of ours ends it with exit code 1 and its message."""
        try:
            return super().invoke(ctx)
        except ShopfleetError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=FleetGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="shopfleet", prog_name="fleet")
def main() -> None:
    """Run and look after a fleet of queues.

    \b
    Start one:   fleet up
    Join it:     eval "$(fleet env)"
    Check it:    fleet doctor
    """


def fleet_home() -> Path:
    """Return where the embedded fleet lives, as the environment or ``.env`` says."""
    from services.fleet.envfile import read_merged

    return Path(read_merged(os.environ, Path.cwd()).get("FLEET_HOME") or ".fleet").resolve()


@main.command()
@click.option("--auto-ports", is_flag=True, help="Take free ports where the usual ones are taken.")
@click.option("--sandbox", is_flag=True, help="Add stand-ins for the providers; never for production.")
def up(auto_ports: bool, sandbox: bool) -> None:
    """Run the whole fleet until Ctrl-C.

    PostgreSQL and Valkey are embedded unless DATABASE_URL or BROKER_URL name others. Everything
    listens on loopback. State is kept in FLEET_HOME (default ./.fleet).

    \b
    Example:     fleet up --auto-ports
    """
    from services.fleet.up import run_up

    run_up(fleet_home(), auto_ports=auto_ports, sandbox=sandbox)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def env(as_json: bool) -> None:
    """Print the running fleet's settings as shell assignments, secrets included.

    \b
    Example:     eval "$(fleet env)" && celery -A tasks inspect ping
    """
    from services.fleet.embedded.state import find_owner
    from services.fleet.envfile import read_effective, read_env
    from services.fleet.errors import NotRunning

    home = fleet_home()
    if find_owner(home) is None:
        raise NotRunning(
            f"no fleet runs on {home}: start one with fleet up, or set FLEET_HOME to where it runs"
        )
    effective = read_effective(home, os.environ, Path.cwd())
    values = {name: effective[name] for name in read_env(home)}
    if "DATABASE_URL" not in values:
        raise NotRunning(f"the fleet on {home} is still starting: ask again in a moment")
    if as_json:
        click.echo(json.dumps(values, indent=1, sort_keys=True))
        return
    for name, value in sorted(values.items()):
        click.echo(f"export {name}={shlex.quote(value)}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check versions, settings, connections, migrations, clock, ports and disk.

    Each fault says how to mend it. Exit code 1 if there is any.

    \b
    Example:     fleet doctor --json
    """
    from dataclasses import asdict

    from services.fleet.doctor import examine
    from services.fleet.envfile import read_effective

    home = fleet_home()
    findings = examine(read_effective(home, os.environ, Path.cwd()), home)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            mark = click.style("ok   ", fg="green") if finding.ok else click.style("fault", fg="red")
            click.echo(f"{mark} {finding.check:<13} {finding.seen}")
            if not finding.ok:
                click.echo(f"      {'':<13} mend: {finding.mend}")
    ctx.exit(0 if all(finding.ok for finding in findings) else 1)


@main.command()
@click.option("--dry-run", is_flag=True, help="Only say which migrations would run.")
def migrate(dry_run: bool) -> None:
    """Bring the database to the newest shape, as the role of MIGRATE_DATABASE_URL.

    \b
    Example:     fleet migrate --dry-run
    """
    from services.fleet.migrations import find_pending, migrate_database

    if not dry_run:
        before, after = migrate_database()
        click.echo(f"at {after}, as before" if before == after else f"from {before or 'nothing'} to {after}")
        return
    pending = find_pending()
    for revision, title in pending:
        click.echo(f"would run {revision}: {title}")
    if not pending:
        click.echo("nothing to run: the database is at the newest revision")


if __name__ == "__main__":
    main(prog_name="fleet")
