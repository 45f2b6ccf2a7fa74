"""``fleet completion``: shell completion for the fleet command."""

import click
from click.shell_completion import get_completion_class

from services.cli.usage import PlainCommand


@click.command(cls=PlainCommand)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Example: eval "$(fleet completion bash)"
    """
    completion = get_completion_class(shell)
    if completion is None:
        raise click.UsageError(f"{shell!r} should be bash, zsh or fish")
    click.echo(completion(ctx.find_root().command, {}, "fleet", "_FLEET_COMPLETE").source())
