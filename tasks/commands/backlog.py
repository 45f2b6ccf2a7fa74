"""``celery -A tasks backlog``: the work in the ledger and the messages in the broker."""

import click

from services.cli.base import json_option
from services.cli.output import Columns, print_json, print_lines, to_document
from services.cli.server_errors import describe_broker_error
from services.core.broker import read_queue_depths
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.durations import format_seconds
from services.jobs.conditions import list_conditions
from services.ledger.backlog import measure_drift, read_backlog
from services.ledger.backoff import list_backoffs
from services.ledger.components import describe_components_down, read_components
from services.ledger.pause import list_pauses
from services.shops.shops import find_slugs
from tasks.commands.options import celery_command

PAUSE_KINDS = ("pauses", "draining")
"""Conditions in the table of pauses."""

BELOW_ZERO = (
    "Drift below zero: messages without a due row. Either their rows are settled already, or they are "
    "canaries that no worker of the queue has taken; a worker drops old ones. Nothing is lost."
)


@celery_command(
    json_option,
    click.option("--all", "show_all", is_flag=True, help="Also list topics without work."),
)
def backlog(_ctx: click.Context, as_json: bool, show_all: bool) -> None:
    """Show waiting work per queue and topic, the drift between ledger and broker, pauses and backoffs.

    Also name each part that does not work, such as a queue whose worker hangs, and show, with shop and
    reason, everything else that makes /health degraded: open P1 incidents, broken connections, failed and
    overdue runs. Changes nothing.

    Drift is due rows minus messages. Above zero a message stands for many rows, or the sweep sends more;
    below zero messages have no due row: canaries that no worker has taken, or messages of settled rows.

    Exit code 1: the broker cannot be reached, so no messages are counted. No work is lost: the sweep sends
    due work later.

    \b
    Example: celery -A tasks backlog --json
    """
    now = utc_now()
    with transaction() as tx:
        rows = read_backlog(tx, now)
        paused, backoffs = list_pauses(tx), list_backoffs(tx)
        slugs = find_slugs(tx) if paused else {}
        components = read_components(tx, now)
        conditions = [line for line in list_conditions(tx, now) if line.kind not in PAUSE_KINDS]
    depths, fault = None, ""
    try:
        depths = read_queue_depths(sorted({row.queue for row in rows}))
    except Exception as error:  # noqa: BLE001 - any error means that it cannot be reached
        fault = describe_broker_error(error)
    drifts = measure_drift(rows, depths)
    down = describe_components_down(components, now) | ({"broker": fault} if fault else {})
    if as_json:
        print_json(
            {
                "at": now,
                "topics": [row._asdict() for row in rows],
                "queues": [to_document(drift) | {"drift": drift.drift} for drift in drifts],
                "pauses": [to_document(pause) for pause in paused],
                "backoffs": [row._asdict() for row in backoffs],
                "conditions": [line._asdict() for line in conditions],
                "down": down,
            }
        )
        if fault:
            raise click.ClickException(fault)
        return
    columns: Columns = {
        **{name: name for name in ("queue", "topic", "waiting", "locked", "error", "dead")},
        "oldest waiting": lambda row: format_seconds(row.oldest_waiting_seconds),
    }
    busy = [row for row in rows if show_all or row.waiting or row.locked or row.error or row.dead]
    print_lines("Ledger", columns, busy, "Ledger: no work is waiting or dead.")
    for part, why in down.items():
        if why != fault:
            click.secho(f"{part}: {why}", fg="red")
    columns = {"queue": "queue", "due rows": "due", "messages": "messages", "drift": "drift"}
    print_lines("Ledger and broker", columns, drifts, "")
    if any((drift.drift or 0) < 0 for drift in drifts):
        click.echo(BELOW_ZERO)
    if paused:
        columns = {
            "what": lambda pause: str(pause.scope),
            "shop": lambda pause: slugs[pause.scope.shop_id] if pause.scope.shop_id else "all",
            "mode": "mode",
            "rate/s": "rate_per_second",
            "since": "created_at",
            "until": lambda pause: pause.ends_at or "resumed",
            "by": "created_by",
            "why": "reason",
        }
        print_lines("Paused", columns, paused, "")
        click.echo("Paused work has no messages: its rows are drift until it is resumed.")
    if backoffs:
        columns = {"topic": "topic", "times longer": "factor", "since": "created_at"}
        print_lines("Retries wait longer", columns | {"by": "created_by", "why": "reason"}, backoffs, "")
    if conditions:
        names = {name: name for name in ("name", "shop", "since", "by", "why")}
        columns = {"what": lambda line: line.kind.replace("_", " "), **names}
        print_lines("Needs a person", columns, conditions, "")
    if fault:
        raise click.ClickException(fault)
