"""Shared options of the subcommands of ``celery``."""

from collections.abc import Callable
from typing import Any

import click
from celery.bin.base import CeleryCommand, handle_preload_options

from services.cli.base import (
    ID,
    actor_option,
    add_options,
    dry_run_option,
    force_option,
    json_option,
    report_errors,
)

scope_options = add_options(
    click.option("-Q", "--queue", default="", help="Only this queue, such as inventory."),
    click.option("--topic", default="", help="Only this topic, such as inventory_push."),
    click.option("--shop", default="", help="Only this shop (its slug)."),
)
filter_options = add_options(
    scope_options,
    click.option("--status", default="", help="Statuses, comma-separated (default: dead,error)."),
    click.option(
        "--since", default="", help="Only rows created since: 24h, 2026-11-20 or 2026-11-20T08:00Z."
    ),
    click.option("--id", "ids", type=ID, multiple=True, help="Only this row; may be repeated."),
)
act_options = add_options(actor_option, dry_run_option, force_option, json_option)
reason_option = click.option("--reason", default="", help="Why, for the audit.")


def celery_command(*options: Callable[[Any], Any]) -> Callable[[Any], click.Command]:
    """Return a decorator that makes a subcommand of ``celery`` with ``options``."""
    click_command = click.command(cls=CeleryCommand)
    return add_options(click_command, *options, click.pass_context, handle_preload_options, report_errors)
