"""``fleet work``: list and show rows of the queue."""

from collections.abc import Sequence
from typing import Any

import click

from services.cli.base import (
    CommandGroup,
    add_options,
    find_shop_id,
    json_option,
    limit_option,
    shop_option,
    since_option,
)
from services.cli.output import Columns, print_fields, print_json, print_list, print_table
from services.cli.params import QUEUE, TOPIC, UNTIL, WORK, WORK_STATUSES
from services.core.db import transaction
from services.ledger.filters import WorkFilter
from services.ledger.queries import WorkLine, get_work, list_work
from services.ledger.steps import list_steps
from services.shops.shops import find_slugs

work_options = add_options(
    click.option("--error-code", default="", help="Only this error code, such as shopify.throttled."),
    click.option("--key", default="", help="Only this key, such as an order number."),
    click.option("--origin", default="", help="Only this origin, such as webhook, beat or replay."),
    since_option("created"),
    click.option("--until", type=UNTIL, help="Created before, likewise."),
)
"""Filters of rows of work that the console's list has too."""


@click.group(cls=CommandGroup)
def command() -> None:
    """List and show work. To change it: celery -A tasks requeue, discard or unlock.

    \b
    Example: fleet work list --status dead
    """


@command.command("list")
@click.option("-Q", "--queue", type=QUEUE, default="", help="Only this queue, such as inventory.")
@click.option("--topic", type=TOPIC, default="", help="Only this topic, such as inventory_push.")
@shop_option
@click.option(
    "--status", type=WORK_STATUSES, default="", help="Comma-separated: pending, error, dead, done, discarded."
)
@work_options
@limit_option
@json_option
def work_list(shop: str, status: tuple[str, ...], limit: int, as_json: bool, **options: Any) -> None:
    """List work, newest first.

    \b
    Example: fleet work list --shop harbour --status dead,error
    """
    with transaction() as tx:
        wanted = WorkFilter(shop_id=find_shop_id(tx, shop), statuses=status, **options)
        lines = list_work(tx, wanted, limit=limit)
        slugs = find_slugs(tx)
    print_work("", lines, slugs, "No work matches.", as_json=as_json)


@command.command("show")
@click.argument("work_id", type=WORK)
@json_option
def show(work_id: int, as_json: bool) -> None:
    """Show all fields of a row of work, and the steps of its workflow.

    \b
    Example: fleet work show 1042
    """
    with transaction() as tx:
        line = get_work(tx, work_id)
        slugs, steps = find_slugs(tx), list_steps(tx, line)
    if as_json:
        print_json(_document(line, slugs) | {"steps": [step._asdict() for step in steps]})
        return
    fields = {name: value for name, value in _fields(line).items() if name != "shop_id"}
    print_fields(f"Work {line.id}", {"shop": slugs.get(line.shop_id, line.shop_id), **fields})
    if steps:
        names = ("work", "step", "status", "start", "end", "error")
        print_table("Steps of its workflow", names, steps, "")
    if line.event_id is not None:
        click.echo(f"Its event: fleet events show {line.event_id}")


def print_work(
    title: str, lines: Sequence[WorkLine], slugs: dict[int, str], empty: str, *, as_json: bool = False
) -> None:
    """Print rows of work; the last column is the result or the error."""
    columns: Columns = {
        "id": "id",
        "shop": lambda line: slugs.get(line.shop_id, line.shop_id),
        "topic": "topic",
        "key": "key",
        "status": lambda line: (
            f"{line.status}, locked by {line.locked_by}" if line.locked_at else line.status
        ),
        "retry_count": "retry_count",
        "next try": "next_retry_at",
        "created": "created_at",
        "origin": "origin",
        "outcome": _outcome,
    }
    documents = [_document(line, slugs) for line in lines] if as_json else ()
    print_list(title, columns, lines, documents, empty, as_json=as_json)


def _outcome(line: WorkLine) -> str:
    if line.status in ("done", "discarded"):
        return line.result or ""
    return f"{line.error_code}: {line.last_error}" if line.error_code else ""


def _fields(line: WorkLine) -> dict[str, Any]:
    # Its own column is set when dead work is requeued: until then it is the time at which it finished.
    return line._asdict() | ({"died_at": line.finished_at} if line.status == "dead" else {})


def _document(line: WorkLine, slugs: dict[int, str]) -> dict[str, Any]:
    # ``verdict`` is the former name of ``result``: readable until 0.2.
    return _fields(line) | {"shop": slugs.get(line.shop_id), "verdict": line.result}
