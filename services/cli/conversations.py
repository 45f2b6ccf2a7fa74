"""``fleet conversations``: calls and messages of Quo, and the pages at Notion that they are on."""

import time
from datetime import datetime, timedelta
from typing import Any

import click
from sqlalchemy import Connection

from services.audit.append import append_change
from services.cli.base import (
    CommandGroup,
    actor_option,
    audit_author,
    dry_run_option,
    json_option,
    shop_option,
)
from services.cli.conversations_ai import check_uses, plan_use
from services.cli.conversations_cache import cache
from services.cli.conversations_health import health
from services.cli.conversations_search import search
from services.cli.output import print_json, print_table
from services.cli.progress import ListProgress
from services.conversations.access import find_quo_key
from services.conversations.ai_steps import SUMMARIES, VECTORS
from services.conversations.backfill import BATCH_SIZE, BackfillCounts, backfill_conversations
from services.conversations.backfill_job import describe_backfill
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import InputInvalid, Misconfigured, WorkError
from services.core.times import format_time
from services.shops.connections import recorded_calls
from services.shops.shops import Shop, list_shops


@click.group(cls=CommandGroup)
def command() -> None:
    """Read calls and messages from Quo, and see where they are at Notion.

    \b
    Example: fleet conversations backfill --shop harbour --days 30 --dry-run
    """


@command.command("backfill")
@shop_option
@click.option(
    "--days", type=click.IntRange(1, 3650), default=30, show_default=True, help="How far back to begin."
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 500),
    default=BATCH_SIZE,
    show_default=True,
    help="Calls and messages that are recorded together.",
)
@click.option("--again", is_flag=True, help="Also read the days that an earlier run has read.")
@click.option("--ai", is_flag=True, help="Also plan the summaries by AI that calls of these days lack.")
@click.option("--vectors", is_flag=True, help="Also plan the vectors that conversations of these days lack.")
@dry_run_option
@actor_option
@json_option
def backfill(
    shop: str,
    days: int,
    batch_size: int,
    again: bool,
    ai: bool,
    vectors: bool,
    dry_run: bool,
    actor: str,
    as_json: bool,
) -> None:
    """Record the calls and messages in Quo's lists that no webhook delivered.

    Reads each shop with a quo-key, or one. The job conversations-backfill does the same every night. An
    interrupted run continues at the day where it stopped; a run that begins as far back as an earlier one
    reads only what is new since, and prints so; with --again it reads all days. Workers process these events
    like others, so a call has the same row and the same place on its page however it came. Waits as long as
    Quo's rate limit demands. Exit code 1 if Quo cannot be read, or an object cannot.

    \b
    Examples:
      fleet conversations backfill --days 30 --batch-size 5
      fleet conversations backfill --shop harbour --days 30 --again
      fleet conversations backfill --shop harbour --days 30 --ai --vectors
      fleet conversations backfill --shop harbour --days 90 --dry-run
    """
    now = utc_now()
    documents: list[dict[str, Any]] = []
    notes: list[str] = []
    faults: list[WorkError] = []
    uses = [use for use, is_wanted in ((SUMMARIES, ai), (VECTORS, vectors)) if is_wanted]
    shops = _list_shops_with_quo(shop)
    for stored in shops:
        check_uses(stored, uses)
    for stored in shops:
        counts = BackfillCounts()
        since, options = now - timedelta(days=days), {"is_dry": dry_run, "is_again": again}
        fault = _backfill_shop(stored, counts, since, batch_size, actor, **options)
        numbers = {"synced": counts.synced, "skipped": counts.skipped, "failed": counts.failed}
        numbers |= {use: plan_use(stored, since, use, is_dry=dry_run) for use in uses}
        state = fault.code if fault else "complete"
        times = {"read_from": counts.read_from, "earlier_run_until": counts.earlier_until}
        events = dict(counts.topics)
        documents.append({"shop": stored.slug, "state": state, **numbers, "events": events, **times})
        if counts.read_from and counts.earlier_until:
            begins, until = (format_time(at, stored.zone) for at in (counts.read_from, counts.earlier_until))
            read = f"read from {begins}; an earlier run read up to {until}"
            notes.append(f"{stored.slug}: {read}, `--again` reads those days too")
        faults += [fault] if fault else []
    if as_json:
        print_json({"at": now, "dry_run": dry_run, "shops": documents})
    else:
        title = "Would be recorded" if dry_run else ""
        columns = ("shop", "state", "synced", "skipped", "failed", *uses)
        print_table(title, columns, [[one[name] for name in columns] for one in documents], "")
        for note in notes:
            click.echo(note)
    if faults:
        raise faults[0]
    if any(one["failed"] for one in documents):
        raise click.exceptions.Exit(1)


command.add_command(cache)


def _list_shops_with_quo(slug: str) -> list[Shop]:
    """Return the shop ``slug``, or every shop with a quo-key; raise ``InputInvalid`` if there is none."""
    with transaction() as tx:
        wanted = [shop for shop in list_shops(tx) if slug in ("", shop.slug)]
        found = [shop for shop in wanted if _has_key(tx, shop.id)]
    if not found:
        who = f"the shop {slug} has no quo-key" if slug else "no shop has a quo-key"
        raise InputInvalid(f"{who}: record it with fleet shops secret {slug or 'SHOP'} quo-key --stdin")
    return found


def _has_key(tx: Connection, shop_id: int) -> bool:
    try:
        return bool(find_quo_key(tx, shop_id))
    except Misconfigured:
        return True  # the backfill of this shop reports it


def _backfill_shop(
    shop: Shop, counts: BackfillCounts, since: datetime, batch_size: int, actor: str, *, is_dry: bool,
    is_again: bool,
) -> WorkError | None:  # fmt: skip
    """Fill ``counts``; return the error that ended the reading, if any. What was recorded is in the audit."""
    author, fault = audit_author(actor), None
    with ListProgress() as progress:

        def pause(length: timedelta) -> None:
            progress.note(f"waits {length.total_seconds():.0f} s for Quo's rate limit")
            time.sleep(length.total_seconds())

        try:
            with recorded_calls(shop.id):
                backfill_conversations(
                    shop.id, since, utc_now(), author["request_id"], batch_size=batch_size, is_dry=is_dry,
                    is_again=is_again, counts=counts, progress=progress, pause=pause,
                )  # fmt: skip
        except WorkError as raised:
            fault = raised
    if counts.topics and not is_dry:
        with transaction() as tx:
            found = describe_backfill(counts)
            append_change(tx, "conversations.backfill", {shop.id: [found]}, now=utc_now(), **author)
    return fault


for each in (health, search):
    command.add_command(each)
