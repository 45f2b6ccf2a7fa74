"""Options of the ``celery`` commands that choose rows and change them."""

import click

from services.cli.base import actor_option, add_options, dry_run_option, force_option, json_option

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
    click.option("--id", "ids", type=int, multiple=True, help="Only this row; may be repeated."),
)
act_options = add_options(actor_option, dry_run_option, force_option, json_option)
