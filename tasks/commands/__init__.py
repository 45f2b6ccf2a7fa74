"""Subcommands that the project adds to ``celery``, such as ``celery -A tasks backlog``.

Each is an entry point of ``celery.commands`` in ``pyproject.toml``.
"""

from typing import Any

import click
from click_didyoumean import DYMGroup

from services.cli.unknown_commands import describe_no_command
from services.cli.usage import HELP_NAMES
from tasks.commands.backlog import backlog
from tasks.commands.backoff import backoff
from tasks.commands.pause import pause, resume
from tasks.commands.requeue import discard, requeue, unlock

__all__ = ["backlog", "backoff", "discard", "pause", "requeue", "resume", "unlock"]

_resolve = DYMGroup.resolve_command


def _suggest(group: Any, ctx: click.Context, args: list[str]) -> Any:
    """Find a command; for ``-A tasks`` the error for an unknown one is that of ``fleet``."""
    try:
        return _resolve(group, ctx, args)
    except click.UsageError:
        if ctx.parent is not None or str(ctx.params.get("app") or "").partition(".")[0] != "tasks":
            raise
        names = group.list_commands(ctx)
        raise click.UsageError(describe_no_command(args[0], names, is_root=True), ctx) from None


def _make_context(group: Any, name: str | None, args: list[str], **more: Any) -> click.Context:
    """Return the context of ``group``, with -h for ``celery`` and all its commands, and -A in their usage."""
    if more.get("parent") is None:
        more = {**HELP_NAMES, **more}
        if args[:2] in (["-A", "tasks"], ["--app", "tasks"]):
            name = " ".join([name or "celery", *args[:2]])
    return click.Group.make_context(group, name, args, **more)


# Celery finds the command before it loads the app of -A, so no code of the app can change its group.
DYMGroup.resolve_command, DYMGroup.make_context = _suggest, _make_context
