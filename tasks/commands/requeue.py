"""``celery -A tasks requeue | discard | unlock``: a person moves rows of the ledger.

Each shows how many rows it is about, asks, acts and audits in one transaction, and then rings the workers.
"""

from collections.abc import Callable
from typing import Any

import click
from celery.bin.base import CeleryCommand, handle_preload_options
from sqlalchemy import Connection

from services.cli.base import (
    confirm,
    find_shop_id,
    new_request_id,
    notify_workers,
    operator_label,
    report_errors,
    split_list,
)
from services.cli.output import print_json, print_table
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.durations import parse_duration, parse_moment
from services.ledger.accept import WorkRef
from services.ledger.filters import WorkFilter
from services.ledger.queries import find_work
from services.ledger.requeue import (
    AffectedRows,
    find_discardable,
    find_requeueable,
    find_stuck,
)
from services.ledger.requeue import (
    discard as discard_rows,
)
from services.ledger.requeue import (
    requeue as requeue_rows,
)
from services.ledger.requeue import (
    unlock as unlock_rows,
)
from services.shops.shops import find_slugs
from tasks.commands.options import act_options, filter_options, scope_options


def _read_filter(tx: Connection, options: dict[str, Any]) -> WorkFilter:
    return WorkFilter(
        queue=options["queue"],
        topic=options["topic"],
        shop_id=find_shop_id(tx, options["shop"]),
        statuses=split_list(options.get("status", "")),
        since=parse_moment(options["since"], utc_now()) if options.get("since") else None,
        ids=tuple(options.get("ids", ())),
    )


@click.command(cls=CeleryCommand)
@filter_options
@click.option("--reason", default="", help="Why, for the audit.")
@act_options
@click.pass_context
@handle_preload_options
@report_errors
def requeue(_ctx: click.Context, reason: str, actor: str, **options: Any) -> None:
    """Put work back to pending, due now, with all its tries ahead.

    Touches dead and error rows unless --status says otherwise; never a row that a worker has in hand.

    \b
    Example: celery -A tasks requeue -Q inventory --status dead --since 24h
    """

    def act(tx: Connection, wanted: WorkFilter) -> tuple[int, tuple[WorkRef, ...]]:
        by = operator_label(actor)
        work = requeue_rows(tx, wanted, now=utc_now(), by=by, reason=reason, request_id=new_request_id())
        return len(work), work

    _run("requeue", "requeued", options, find_requeueable, act)


@click.command(cls=CeleryCommand)
@filter_options
@click.option("--reason", required=True, help="Why this work is not to be done, for the audit.")
@act_options
@click.pass_context
@handle_preload_options
@report_errors
def discard(_ctx: click.Context, reason: str, actor: str, **options: Any) -> None:
    """Drop work for good: the ledger never sends it again. The rows and the reason stay.

    \b
    Example: celery -A tasks discard --topic mail_send --shop harbour --reason "shop closed"
    """

    def act(tx: Connection, wanted: WorkFilter) -> tuple[int, tuple[WorkRef, ...]]:
        by = operator_label(actor)
        return discard_rows(tx, wanted, now=utc_now(), by=by, reason=reason, request_id=new_request_id()), ()

    _run("discard", "discarded", options, find_discardable, act)


@click.command(cls=CeleryCommand)
@scope_options
@click.option("--older-than", default="15m", show_default=True, help="Only locks older than this: 15m, 2h.")
@click.option("--reason", default="", help="Why, for the audit.")
@act_options
@click.pass_context
@handle_preload_options
@report_errors
def unlock(_ctx: click.Context, older_than: str, reason: str, actor: str, **options: Any) -> None:
    """Free rows whose lock is old, so that another worker takes them.

    The sweep frees a dead worker's rows by itself; this is for a worker that hangs. Should it wake up, it
    can no longer settle what it lost.

    \b
    Example: celery -A tasks unlock --older-than 30m
    """
    age = parse_duration(older_than)

    def look(tx: Connection, wanted: WorkFilter) -> AffectedRows:
        return find_stuck(tx, wanted, older_than=age, now=utc_now())

    def act(tx: Connection, wanted: WorkFilter) -> tuple[int, tuple[WorkRef, ...]]:
        by = operator_label(actor)
        work = unlock_rows(
            tx, wanted, older_than=age, now=utc_now(), by=by, reason=reason, request_id=new_request_id()
        )
        return len(work), work

    _run("unlock", "unlocked", options, look, act)


def _run(
    verb: str,
    done: str,
    options: dict[str, Any],
    look: Callable[[Connection, WorkFilter], AffectedRows],
    act: Callable[[Connection, WorkFilter], tuple[int, tuple[WorkRef, ...]]],
) -> None:
    as_json = options["as_json"]
    with transaction() as tx:
        wanted = _read_filter(tx, options)
        found = look(tx, wanted)
        slugs = find_slugs(tx)
        why_none = "" if found.count else _explain_none(tx, wanted)
    if options["dry_run"]:
        _print_found(f"would be {done}", found, slugs, as_json=as_json, why_none=why_none)
        return
    if not found.count:
        _print_done(done, 0, as_json=as_json, word=why_none)
        return
    if not options["force"]:
        if not as_json:
            _print_found(f"to {verb}", found, slugs, as_json=False, why_none="")
        confirm(f"{verb} {_items(found.count)}?", force=False)
    with transaction() as tx:
        count, work = act(tx, wanted)
    _print_done(done, count, as_json=as_json, word=notify_workers(work))


def _explain_none(tx: Connection, wanted: WorkFilter) -> str:
    """Say what state the rows named by id are in, since a person who names a row expects it to move."""
    if not wanted.ids:
        return ""
    states = {line.id: line for line in find_work(tx, WorkFilter(ids=wanted.ids), limit=10)}
    said = []
    for row_id in wanted.ids[:10]:
        line = states.get(row_id)
        held = f", in the hand of {line.locked_by}" if line and line.locked_at else ""
        said.append(f"{row_id} is {line.status}{held}" if line else f"{row_id} does not exist")
    return "; ".join(said) + "."


def _items(count: int) -> str:
    return f"{count} item" if count == 1 else f"{count} items"


def _print_found(
    title: str, found: AffectedRows, slugs: dict[int, str], *, as_json: bool, why_none: str
) -> None:
    if as_json:
        print_json({"count": found.count, "examples": found.examples, "changed": 0})
        return
    columns = ("id", "shop", "topic", "key", "status", "tries", "locked since", "code", "created")
    rows = [
        (
            row["id"],
            slugs.get(row["shop_id"], row["shop_id"]),
            row["topic"],
            row["key"],
            row["status"],
            row["retry_count"],
            row["locked_at"],
            row["error_code"],
            row["created_at"],
        )
        for row in found.examples
    ]
    more = f", the first {len(rows)}" if found.count > len(rows) else ""
    print_table(f"{_items(found.count)} {title}{more}", columns, rows, f"Nothing matches. {why_none}".strip())


def _print_done(done: str, count: int, *, as_json: bool, word: str) -> None:
    if as_json:
        print_json({"count": count, "changed": count, "note": word})
    elif count:
        click.echo(f"{_items(count)} {done}. {word}".strip())
    else:
        click.echo(f"Nothing matches: nothing was {done}. {word}".strip())
