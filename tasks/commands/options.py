"""Shared options of the subcommands of ``celery``."""

from collections.abc import Callable
from typing import Any

import click
from celery.bin.base import CeleryCommand, handle_preload_options

from services.cli.base import (
    ReportingCommand,
    actor_option,
    add_options,
    dry_run_option,
    force_option,
    json_option,
    shop_option,
)
from services.cli.params import QUEUE, TOPIC, WORK, WORK_STATUSES
from services.cli.work import work_options

scope_options = add_options(
    click.option("-Q", "--queue", type=QUEUE, default="", help="Only this queue, such as inventory."),
    click.option("--topic", type=TOPIC, default="", help="Only this topic, such as inventory_push."),
    shop_option,
)
filter_options = add_options(
    scope_options,
    click.option(
        "--status", type=WORK_STATUSES, default="", help="Statuses, comma-separated (default: dead,error)."
    ),
    work_options,
    click.option("--id", "ids", type=WORK, multiple=True, help="Only this row; may be repeated."),
)
act_options = add_options(actor_option, dry_run_option, force_option, json_option)
reason_option = click.option("--reason", default="", help="Why, for the audit.")


class OperatorCommand(ReportingCommand, CeleryCommand):
    """A subcommand of ``celery`` with the checks of the ``fleet`` commands."""


def celery_command(*options: Callable[[Any], Any]) -> Callable[[Any], click.Command]:
    """Return a decorator that makes a subcommand of ``celery`` with ``options``."""
    click_command = click.command(cls=OperatorCommand)
    return add_options(click_command, *options, click.pass_context, handle_preload_options)
