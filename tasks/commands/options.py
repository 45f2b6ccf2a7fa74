"""The options that the operators' commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from services.cli.base import actor_option, dry_run_option, force_option, json_option

F = TypeVar("F", bound=Callable[..., Any])


def scope_options(command: F) -> F:
    """Add the options that say which queue, topic and shop are meant."""
    return _add(
        command,
        click.option("-Q", "--queue", default="", help="Only this queue, such as inventory."),
        click.option("--topic", default="", help="Only this topic, such as inventory_push."),
        click.option("--shop", default="", help="Only this shop (its slug)."),
    )


def filter_options(command: F) -> F:
    """Add the options that choose rows of ``work_queue``."""
    moments = "24h, 2026-11-20 or 2026-11-20T08:00Z"
    narrowed = _add(
        command,
        click.option("--status", default="", help="Statuses, comma-separated (default: dead,error)."),
        click.option("--since", default="", help=f"Only rows created since: {moments}."),
        click.option("--id", "ids", type=int, multiple=True, help="Only this row; may be repeated."),
    )
    return scope_options(narrowed)


def act_options(command: F) -> F:
    """Add the options of every command that changes something."""
    return _add(command, actor_option, dry_run_option, force_option, json_option)


def _add(command: F, *options: Callable[[F], F]) -> F:
    for option in reversed(options):
        command = option(command)
    return command
