"""``celery -A tasks backlog``: the work in the ledger and the messages in the broker, side by side."""

from typing import Any

import click
from celery.bin.base import CeleryCommand, handle_preload_options
from sqlalchemy import Row

from services.cli.base import json_option, report_errors
from services.cli.output import Columns, print_json, print_lines, to_document
from services.core.broker import queue_depths
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.durations import format_seconds
from services.jobs.conditions import ConditionLine, list_conditions
from services.ledger.figures import QueueDrift, measure_drift, read_backlog
from services.ledger.pause import Pause, find_pauses
from services.shops.shops import find_slugs

PAUSE_KINDS = ("pauses", "draining")
"""Conditions that are shown in the table of pauses."""


@click.command(cls=CeleryCommand)
@json_option
@click.option("--all", "show_all", is_flag=True, help="Also list the topics that have nothing to do.")
@click.pass_context
@handle_preload_options
@report_errors
def backlog(_ctx: click.Context, as_json: bool, show_all: bool) -> None:
    """Show waiting work per queue and topic, the drift between ledger and broker, and pauses.

    Then it shows, with shop and reason, everything else that makes /health degraded: open P1 incidents,
    broken connections, failed and overdue runs. Changes nothing.

    \b
    Example: celery -A tasks backlog --json
    """
    now = utc_now()
    with transaction() as tx:
        rows = read_backlog(tx, now)
        paused = find_pauses(tx)
        slugs = find_slugs(tx) if paused else {}
        conditions = [line for line in list_conditions(tx, now) if line.kind not in PAUSE_KINDS]
    drifts = measure_drift(rows, queue_depths(sorted({row.queue for row in rows})))
    if as_json:
        print_json(
            {
                "at": now,
                "topics": [row._asdict() for row in rows],
                "queues": [to_document(drift) | {"drift": drift.drift} for drift in drifts],
                "pauses": [to_document(pause) for pause in paused],
                "conditions": [line._asdict() for line in conditions],
            }
        )
        return
    _print_topics([row for row in rows if show_all or _has_any(row)])
    _print_drifts(drifts)
    _print_pauses(paused, slugs)
    _print_conditions(conditions)


def _has_any(row: Row[Any]) -> bool:
    return bool(row.waiting or row.locked or row.error or row.dead)


def _print_topics(rows: list[Row[Any]]) -> None:
    columns: Columns = {
        "queue": "queue",
        "topic": "topic",
        "waiting": "waiting",
        "locked": "locked",
        "error": "error",
        "dead": "dead",
        "oldest waiting": lambda row: format_seconds(row.oldest_waiting_seconds),
    }
    print_lines("Ledger", columns, rows, "Ledger: nothing waits, nothing is dead.")


def _print_drifts(drifts: list[QueueDrift]) -> None:
    if all(drift.messages is None for drift in drifts):
        click.echo("Broker: away. Nothing is lost: the sweep sends what is due once it is back.")
    columns = {"queue": "queue", "due rows": "due", "messages": "messages", "drift": "drift"}
    print_lines("Ledger and broker", columns, drifts, "")


def _print_pauses(pauses: list[Pause], slugs: dict[int, str]) -> None:
    columns: Columns = {
        "what": lambda pause: str(pause.scope),
        "shop": lambda pause: slugs.get(pause.scope.shop_id or 0, ""),
        "mode": "mode",
        "rate/s": "rate_per_second",
        "since": "created_at",
        "until": lambda pause: pause.ends_at or "resumed",
        "by": "created_by",
        "why": "reason",
    }
    if pauses:
        print_lines("Paused", columns, pauses, "")


def _print_conditions(lines: list[ConditionLine]) -> None:
    columns: Columns = {
        "what": lambda line: line.kind.replace("_", " "),
        "name": "name",
        "shop": "shop",
        "since": "since",
        "by": "by",
        "why": "why",
    }
    if lines:
        print_lines("Needs a person", columns, lines, "")
