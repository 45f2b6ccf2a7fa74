"""``fleet up``, ``env``, ``doctor`` and ``migrate``: the fleet's servers and processes on this machine.

They import little, because ``fleet up`` runs for weeks and ``fleet env`` in every new shell.
"""

import json
import os
import shlex
import sys
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

import click

from services.cli.usage import PlainCommand
from services.core.settings import EXPORTED
from services.fleet.envfile import find_home, read_effective, read_env, read_merged


@click.command(cls=PlainCommand)
@click.option("--auto-ports", is_flag=True, help="Use free ports where the usual ones are taken.")
@click.option("--sandbox", is_flag=True, help="Also start simulated providers; never in production.")
def up(auto_ports: bool, sandbox: bool) -> None:
    """Run the complete fleet until Ctrl-C.

    PostgreSQL and Valkey are embedded unless DATABASE_URL or BROKER_URL is set. All servers listen on
    loopback. State is stored in FLEET_HOME (default ./.fleet).

    \b
    Example:     fleet up --auto-ports
    """
    from services.fleet.up import run_up

    if EXPORTED in os.environ:
        click.echo(
            "This shell has the settings of an earlier fleet (from `fleet env`). They are not used, except "
            f"FLEET_HOME: `unset {EXPORTED}` to use them.",
            err=True,
        )
    run_up(find_home(), auto_ports=auto_ports, sandbox=sandbox)


@click.command(cls=PlainCommand)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def env(as_json: bool) -> None:
    """Print the running fleet's settings as shell assignments, secrets included.

    They also put its programs on PATH, so that `fleet` and `celery -A tasks` work from every folder.

    \b
    Example:     eval "$(fleet env)" && celery -A tasks inspect ping
    """
    from services.fleet.embedded.state import find_owner
    from services.fleet.errors import NotRunning

    home = find_home()
    if find_owner(home) is None:
        raise NotRunning(f"no fleet runs on {home}: start one with fleet up, or set FLEET_HOME to its folder")
    effective = read_effective(home, os.environ, Path.cwd())
    values = {name: effective[name] for name in read_env(home)}
    if "DATABASE_URL" not in values:
        raise NotRunning(f"the fleet on {home} is still starting: try again in a moment")
    if as_json:
        click.echo(json.dumps(values, indent=1, sort_keys=True))
        return
    for name, value in sorted(values.items()):
        click.echo(f"export {name}={shlex.quote(value)}")
    programs = str(Path(sys.executable).parent)
    if programs not in os.environ.get("PATH", "").split(os.pathsep):
        click.echo(f'export PATH={shlex.quote(programs)}:"$PATH"')


@click.command(cls=PlainCommand)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check this machine, the settings, and everything the fleet connects to.

    Database, roles, clock, broker, archive, mail, the shops' credentials, ports, the certificates of
    PUBLIC_URL and PUBLIC_CONSOLE_URL, the channels of alerts, and who can sign in. It sends nothing, and the
    only thing that it writes is a probe object in the archive. Each fault and each note is printed with its
    remedy. Exit code 1 if there is any fault; a note, such as a shop that is not connected, does
    not change it. It ends within 40 seconds.

    \b
    Example:     fleet doctor --json
    """
    from services.fleet.doctor import examine

    home = find_home()
    shown: set[str] = set()

    def show_waiting(names: Collection[str]) -> None:
        if shown != (now := set(names)):
            click.echo(f"waiting for: {', '.join(names)}", err=True)
        shown.clear()
        shown.update(now)

    findings = examine(read_merged(os.environ, Path.cwd()), home, show_waiting)
    if as_json:
        click.echo(json.dumps([asdict(one) | {"mend": one.remedy} for one in findings], indent=1))
    else:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            mark, color = ("note ", "yellow") if finding.is_note else ("ok   ", "green")
            mark, color = (mark, color) if finding.ok else ("fault", "red")
            seen = finding.seen.replace("\n", f"\n      {'':<{width}} ")
            click.echo(f"{click.style(mark, fg=color)} {finding.check:<{width}} {seen}")
            if finding.is_note or not finding.ok:
                click.echo(f"      {'':<{width}} remedy: {finding.remedy}")
    ctx.exit(0 if all(finding.ok for finding in findings) else 1)


@click.command(cls=PlainCommand)
@click.option("--dry-run", is_flag=True, help="List the migrations that would run; change nothing.")
def migrate(dry_run: bool) -> None:
    """Apply pending migrations to the database, as the role of MIGRATE_DATABASE_URL.

    \b
    Example:     fleet migrate --dry-run
    """
    from services.fleet.migrations import list_pending_migrations, migrate_database

    if not dry_run:
        before, after = migrate_database()
        click.echo(f"at {after}, as before" if before == after else f"from {before or 'nothing'} to {after}")
        return
    pending = list_pending_migrations()
    for revision, title in pending:
        click.echo(f"would run {revision}: {title}")
    if not pending:
        click.echo("nothing to run: the database is at the newest revision")
