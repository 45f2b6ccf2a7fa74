"""``celery -A tasks requeue | discard | unlock``: changes rows of ``work_queue``.

Each command shows the number of rows and asks for confirmation, changes and audits them in one transaction,
and then notifies the workers.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from operator import itemgetter
from typing import Any

import click
from sqlalchemy import Connection

from services.cli.base import (
    audit_author,
    confirm,
    find_shop_id,
    notify_workers,
)
from services.cli.incident_link import incident_option, link_incident
from services.cli.output import Columns, print_json, print_lines
from services.cli.params import DURATION
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.durations import format_seconds
from services.ledger import requeue as ledger
from services.ledger.accept import WorkRef
from services.ledger.filters import WorkFilter
from services.ledger.queries import list_work
from services.ledger.requeue import AffectedRows
from services.shops.shops import find_slugs
from tasks.commands.options import (
    act_options,
    celery_command,
    filter_options,
    reason_option,
    scope_options,
)


def _read_filter(tx: Connection, options: dict[str, Any]) -> WorkFilter:
    return WorkFilter(
        queue=options["queue"],
        topic=options["topic"],
        shop_id=find_shop_id(tx, options["shop"]),
        statuses=options.get("status") or (),
        **{name: options[name] for name in ("error_code", "key", "origin") if name in options},
        since=options.get("since"),
        until=options.get("until"),
        ids=options.get("ids", ()),
    )


@celery_command(filter_options, reason_option, incident_option, act_options)
def requeue(_ctx: click.Context, **options: Any) -> None:
    """Set work to pending, due now, with its full number of tries.

    Changes dead and error rows unless --status says otherwise; never a row that a worker has locked.

    \b
    Example: celery -A tasks requeue -Q inventory --error-code shopify.throttled --since 24h
    """
    _run("requeue", "requeued", options, ledger.find_requeueable, ledger.requeue)


@celery_command(
    filter_options,
    click.option("--reason", required=True, help="Why this work should not be done, for the audit."),
    incident_option,
    act_options,
)
def discard(_ctx: click.Context, **options: Any) -> None:
    """Drop work permanently: the ledger never sends it again. The rows and the reason stay.

    \b
    Example: celery -A tasks discard --topic mail_send --shop harbour --reason "shop closed"
    """
    _run("discard", "discarded", options, ledger.find_discardable, _discard)


def _discard(tx: Connection, wanted: WorkFilter, **author: Any) -> int:
    return len(ledger.discard(tx, wanted, **author))


@celery_command(
    scope_options,
    click.option(
        "--older-than",
        type=DURATION,
        default="15m",
        show_default=True,
        help="Only locks older than this: 15m, 2h.",
    ),
    reason_option,
    incident_option,
    act_options,
)
def unlock(_ctx: click.Context, older_than: timedelta, **options: Any) -> None:
    """Unlock rows with an old lock, so that another worker takes them.

    The sweep unlocks the rows of a dead worker; this command is for a worker that hangs. That worker cannot
    settle the rows afterwards.

    \b
    Example: celery -A tasks unlock --older-than 30m
    """
    find = partial(ledger.find_stuck, older_than=older_than, now=utc_now())
    age = f" (locked for more than {format_seconds(older_than.total_seconds())})"
    _run("unlock", "unlocked", options, find, partial(ledger.unlock, older_than=older_than), age)


def _run(
    verb: str,
    done: str,
    options: dict[str, Any],
    find: Callable[[Connection, WorkFilter], AffectedRows],
    change: Callable[..., tuple[WorkRef, ...] | int],
    which: str = "",
) -> None:
    """Show the rows of ``find``, ask for confirmation, ``change`` them, and notify the workers."""
    as_json = options["as_json"]
    with transaction() as tx:
        wanted = _read_filter(tx, options)
        found = find(tx, wanted)
        slugs = find_slugs(tx)
        why_none = "" if found.count else _explain_none(tx, wanted)
    if options["dry_run"]:
        _print_found(f"would be {done}{which}", found, slugs, as_json=as_json, why_none=why_none)
        return
    if not found.count:
        _print_done(f"{done}{which}", 0, as_json=as_json, note=why_none)
        return
    if not options["force"]:
        if not as_json:
            _print_found(f"to {verb}{which}", found, slugs, as_json=False, why_none="")
        confirm(f"{verb} {format_count(found.count, 'item')}{which}?", force=False)
    author: dict[str, Any] = {"now": utc_now(), "reason": options["reason"], **audit_author(options["actor"])}
    with transaction() as tx:
        changed = change(tx, wanted, **author)
        count, work = (changed, ()) if isinstance(changed, int) else (len(changed), changed)
        if count:
            text = f"{done} {format_count(count, 'item')}{_describe_scope(options)}"
            link_incident(tx, options["incident"], text, **author)
    _print_done(done, count, as_json=as_json, note=notify_workers(work))


def _describe_scope(options: dict[str, Any]) -> str:
    """Return the filters but those of status and time as text; empty without one."""
    names = ("queue", "topic", "shop", "error_code", "key", "origin")
    parts = [f"{name.replace('_', ' ')} {options[name]}" for name in names if options.get(name)]
    parts += [f"id {row_id}" for row_id in options.get("ids", ())]
    return f" ({', '.join(parts)})" if parts else ""


def _explain_none(tx: Connection, wanted: WorkFilter) -> str:
    """Return the status of the rows named by id, which explains why they do not change."""
    if not wanted.ids:
        return ""
    states = {line.id: line for line in list_work(tx, WorkFilter(ids=wanted.ids), limit=10)}
    notes = []
    for row_id in wanted.ids[:10]:
        line = states.get(row_id)
        lock = f", locked by {line.locked_by}" if line and line.locked_at else ""
        notes.append(f"work {row_id} is {line.status}{lock}" if line else f"work {row_id} was deleted")
    return ("; ".join(notes) + ".").capitalize()


def _print_found(
    title: str, found: AffectedRows, slugs: dict[int, str], *, as_json: bool, why_none: str
) -> None:
    groups = [{**group, "shop": slugs.get(group["shop_id"])} for group in found.groups]
    if as_json:
        counts = {"count": found.count, "groups": groups, "left_out": found.left_out}
        print_json({**counts, "examples": found.examples, "changed": 0})
        return
    common: Columns = {
        "shop": lambda row: slugs.get(row["shop_id"], row["shop_id"]),
        "topic": itemgetter("topic"),
    }
    columns = {**common, "status": itemgetter("status"), "items": itemgetter("count")}
    title = f"{format_count(found.count, 'item')} {title}"
    print_lines(title, columns, groups, f"Nothing matches. {why_none}".strip())
    columns = {
        "id": itemgetter("id"),
        **common,
        "key": itemgetter("key"),
        "status": itemgetter("status"),
        "tries": itemgetter("retry_count"),
        "locked since": itemgetter("locked_at"),
        "code": itemgetter("error_code"),
        "created": itemgetter("created_at"),
    }
    more = f"The first {len(found.examples)}" if found.count > len(found.examples) else ""
    print_lines(more, columns, found.examples, "")
    if found.left_out:
        why = "locked by a worker for a shorter time" if "unlock" in title else "locked by a worker"
        click.echo(f"Left out: {format_count(found.left_out, 'item')}, {why}.")


def _print_done(done: str, count: int, *, as_json: bool, note: str) -> None:
    if as_json:
        print_json({"count": count, "changed": count, "note": note})
    elif count:
        click.echo(f"{format_count(count, 'item')} {done}. {note}".strip())
    else:
        click.echo(f"Nothing matches: no work was {done}. {note}".strip())
