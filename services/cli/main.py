"""The ``fleet`` command. Exit codes: 0 done, or true already; 1 refused, failed or not fine; 2 wrong input.

Its subcommands are the entry points of the group ``fleet.commands`` in ``pyproject.toml``. Each is imported
when it is used, so that ``fleet env`` and ``fleet up`` do not load SQLAlchemy.
"""

from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from services.cli.usage import HELP_NAMES, SuggestingGroup
from services.core.errors import ShopfleetError

GROUP = "fleet.commands"


class FleetGroup(SuggestingGroup):
    """A group that imports a subcommand at its first use, and prints errors of the project in one line."""

    @cached_property
    def installed(self) -> Mapping[str, EntryPoint]:
        found = {entry.name: entry for entry in entry_points(group=GROUP)}
        if not found:
            raise click.ClickException(f"no entry points of {GROUP} are installed: run `make setup`")
        return found

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self.installed])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (own := super().get_command(ctx, cmd_name)) is not None:
            return own
        entry = self.installed.get(cmd_name)
        try:
            command: click.Command | None = entry.load() if entry else None
        except (ImportError, AttributeError) as fault:  # installed before a module was moved
            raise click.ClickException(f"{cmd_name} cannot be loaded ({fault}): run `make setup`") from fault
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; a ``ShopfleetError`` ends it with exit code 1 and the error's message."""
        try:
            return super().invoke(ctx)
        except ShopfleetError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=FleetGroup, context_settings=HELP_NAMES)
@click.version_option(package_name="shopfleet", prog_name="fleet")
def main() -> None:
    """Run and operate a fleet of queues.

    \b
    Start one:   fleet up
    Join it:     eval "$(fleet env)"
    Check it:    fleet doctor
    """


if __name__ == "__main__":
    main(prog_name="fleet")
