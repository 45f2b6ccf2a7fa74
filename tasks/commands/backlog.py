"""``celery -A tasks backlog``: what waits in the ledger, beside what the broker holds."""

import click
from celery.bin.base import CeleryCommand, handle_preload_options

from services.cli.base import json_option, report_errors
from services.cli.output import format_time, print_json, print_table, to_document
from services.core.broker import queue_depths
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.durations import format_seconds
from services.jobs.conditions import ConditionLine, list_conditions
from services.ledger.backlog import QueueDrift, TopicBacklog, read_backlog, with_broker
from services.ledger.pause import Pause, find_pauses
from services.shops.shops import find_slugs

PAUSE_KINDS = ("pauses", "draining")
"""The conditions that have a table of their own."""


@click.command(cls=CeleryCommand)
@json_option
@click.option("--all", "show_all", is_flag=True, help="Also list the topics that have nothing to do.")
@click.pass_context
@handle_preload_options
@report_errors
def backlog(_ctx: click.Context, as_json: bool, show_all: bool) -> None:
    """Show per queue and topic what waits, how far ledger and broker are apart, and what is paused.

    Below that, with shop and reason, all else that makes /health degraded: open P1 incidents, broken
    connections, failed and overdue runs. Changes nothing.

    \b
    Example: celery -A tasks backlog --json
    """
    now = utc_now()
    with transaction() as tx:
        rows = read_backlog(tx, now)
        paused = find_pauses(tx)
        slugs = find_slugs(tx) if paused else {}
        conditions = [line for line in list_conditions(tx, now) if line.kind not in PAUSE_KINDS]
    drifts = with_broker(rows, queue_depths(sorted({row.queue for row in rows})))
    if as_json:
        print_json(
            {
                "at": now,
                "topics": [to_document(row) for row in rows],
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


def _has_any(row: TopicBacklog) -> bool:
    return bool(row.waiting or row.locked or row.error or row.dead)


def _print_topics(rows: list[TopicBacklog]) -> None:
    print_table(
        "Ledger",
        ("queue", "topic", "waiting", "locked", "error", "dead", "oldest waiting"),
        [
            (
                row.queue,
                row.topic,
                row.waiting,
                row.locked,
                row.error,
                row.dead,
                format_seconds(row.oldest_waiting_seconds),
            )
            for row in rows
        ],
        "Ledger: nothing waits, nothing is dead.",
    )


def _print_drifts(drifts: list[QueueDrift]) -> None:
    if all(drift.messages is None for drift in drifts):
        click.echo("Broker: away. Nothing is lost: the sweep sends what is due once it is back.")
    print_table(
        "Ledger and broker",
        ("queue", "due rows", "messages", "drift"),
        [(drift.queue, drift.due, drift.messages, drift.drift) for drift in drifts],
        "",
    )


def _print_pauses(paused: list[Pause], slugs: dict[int, str]) -> None:
    if paused:
        print_table(
            "Paused",
            ("what", "shop", "mode", "rate/s", "since", "until", "by", "why"),
            [
                (
                    str(pause.scope),
                    slugs.get(pause.scope.shop_id or 0, ""),
                    pause.mode,
                    pause.rate_per_second,
                    format_time(pause.created_at),
                    format_time(pause.ends_at) if pause.ends_at else "resumed",
                    pause.created_by,
                    pause.reason,
                )
                for pause in paused
            ],
            "",
        )


def _print_conditions(lines: list[ConditionLine]) -> None:
    if lines:
        print_table(
            "Needs a person",
            ("what", "name", "shop", "since", "by", "why"),
            [
                (
                    line.kind.replace("_", " "),
                    line.name,
                    line.shop,
                    format_time(line.since),
                    line.by,
                    line.why,
                )
                for line in lines
            ],
            "",
        )
