"""``fleet work``: the rows of the queue, as they are."""

from collections.abc import Sequence
from typing import Any

import click

from services.cli.base import (
    find_shop_id,
    json_option,
    limit_option,
    report_errors,
    split_list,
)
from services.cli.output import print_fields, print_json, print_table, to_document
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.durations import parse_moment
from services.ledger.filters import WorkFilter
from services.ledger.queries import WorkLine, find_work, get_work
from services.shops.shops import find_slugs


@click.group()
def command() -> None:
    """List and show work. To move it: celery -A tasks requeue, discard or unlock.

    \b
    Example: fleet work list --status dead
    """


@command.command("list")
@click.option("-Q", "--queue", default="", help="Only this queue, such as inventory.")
@click.option("--topic", default="", help="Only this topic, such as inventory_push.")
@click.option("--shop", default="", help="Only this shop (its slug).")
@click.option("--status", default="", help="Comma-separated: pending, error, dead, done, discarded.")
@click.option("--since", default="", help="Created since: 24h, 2026-11-20 or 2026-11-20T08:00Z.")
@limit_option
@json_option
@report_errors
def list_work(queue: str, topic: str, shop: str, status: str, since: str, limit: int, as_json: bool) -> None:
    """List work, newest first.

    \b
    Example: fleet work list --shop harbour --status dead,error
    """
    with transaction() as tx:
        wanted = WorkFilter(
            queue=queue,
            topic=topic,
            shop_id=find_shop_id(tx, shop),
            statuses=split_list(status),
            since=parse_moment(since, utc_now()) if since else None,
        )
        lines = find_work(tx, wanted, limit=limit)
        slugs = find_slugs(tx)
    if as_json:
        print_json([_document(line, slugs) for line in lines])
    else:
        print_work("", lines, slugs, "No work matches.")


@command.command("show")
@click.argument("work_id", type=int)
@json_option
@report_errors
def show(work_id: int, as_json: bool) -> None:
    """Show a row of work with all it has.

    \b
    Example: fleet work show 1042
    """
    with transaction() as tx:
        line = get_work(tx, work_id)
        slugs = find_slugs(tx)
    if as_json:
        print_json(_document(line, slugs))
        return
    fields = {name: value for name, value in to_document(line).items() if name != "shop_id"}
    print_fields(f"Work {line.id}", {"shop": slugs.get(line.shop_id, line.shop_id), **fields})
    if line.event_id is not None:
        click.echo(f"Its event: fleet events show {line.event_id}")


def print_work(title: str, lines: Sequence[WorkLine], slugs: dict[int, str], empty: str) -> None:
    """Print rows of work as a table; the last column says how each ended, or why it has not."""
    print_table(
        title,
        ("id", "shop", "topic", "key", "status", "tries", "next try", "created", "outcome"),
        [
            (
                line.id,
                slugs.get(line.shop_id, line.shop_id),
                line.topic,
                line.key,
                f"{line.status}, locked by {line.locked_by}" if line.locked_at else line.status,
                line.retry_count,
                line.next_retry_at,
                line.created_at,
                _outcome(line),
            )
            for line in lines
        ],
        empty,
    )


def _outcome(line: WorkLine) -> str:
    if line.status in ("done", "discarded"):
        return line.result or ""
    return f"{line.error_code}: {line.last_error}"[:120] if line.error_code else ""


def _document(line: WorkLine, slugs: dict[int, str]) -> dict[str, Any]:
    # ``verdict`` is the former name of ``result``: readable until 0.2.
    return to_document(line) | {"shop": slugs.get(line.shop_id), "verdict": line.result}
