"""``fleet events``: list, show and replay webhook events."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from sqlalchemy import Connection

from services.cli.base import (
    CommandGroup,
    actor_option,
    add_options,
    audit_author,
    confirm,
    dry_run_option,
    find_shop_id,
    force_option,
    format_count,
    json_option,
    limit_option,
    notify_workers,
    shop_option,
    since_option,
)
from services.cli.output import Columns, print_fields, print_json, print_list, safe_text
from services.cli.params import EVENT, EVENT_TOPIC, PROVIDER, UNTIL
from services.cli.work import print_work
from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.filters import EventFilter
from services.ledger.queries import EventLine, get_event, list_events
from services.ledger.replay import count_replayable, replay_events
from services.providers.registry import WEBHOOK_PROVIDERS
from services.shops.shops import find_slugs

_filter_options = add_options(
    shop_option,
    click.option(
        "--provider", type=PROVIDER, default="", help=f"Only {', '.join(WEBHOOK_PROVIDERS)}:<source>."
    ),
    click.option(
        "--topic", type=EVENT_TOPIC, default="", help="The provider's topic, such as orders/create."
    ),
    since_option("received"),
    click.option("--until", type=UNTIL, help="Received before, likewise."),
)


def _read_filter(tx: Connection, options: dict[str, Any], ids: tuple[int, ...] = ()) -> EventFilter:
    return EventFilter(
        ids=ids,
        shop_id=find_shop_id(tx, options["shop"]),
        provider=options["provider"],
        topic=options["topic"],
        since=options["since"],
        until=options["until"],
    )


@click.group(cls=CommandGroup)
def command() -> None:
    """List, show and replay webhook events.

    \b
    Example: fleet events list --shop harbour --since 24h
    """


@command.command("list")
@_filter_options
@limit_option
@json_option
def print_events(limit: int, as_json: bool, **options: Any) -> None:
    """List events, newest first.

    \b
    Example: fleet events list --provider stripe --since 2h
    """
    with transaction() as tx:
        events = list_events(tx, _read_filter(tx, options), limit=limit)
        slugs = find_slugs(tx)
    columns: Columns = {
        "id": "id",
        "received": "received_at",
        "shop": lambda event: slugs.get(event.shop_id, event.shop_id),
        "provider": "provider",
        "topic": "topic",
        "delivery": "delivery_key",
        "origin": lambda event: f"replay of {event.replay_of}" if event.replay_of else event.origin,
        "dup": "duplicate_count",
        "work": lambda event: (
            ", ".join(f"{count} {status}" for status, count in event.work.items()) or "none planned"
        ),
    }
    documents = [_document(event, slugs) for event in events]
    print_list("", columns, events, documents, "No events match.", as_json=as_json)


@command.command("show")
@click.argument("event_id", type=EVENT)
@click.option("--raw", is_flag=True, help="Print only the bytes of the body, unchanged.")
@json_option
def show(event_id: int, raw: bool, as_json: bool) -> None:
    """Show an event: its headers, its body, and its work.

    \b
    Example: fleet events show 1042
    """
    with transaction() as tx:
        event, headers, body, work = get_event(tx, event_id)
        slugs = find_slugs(tx)
    if raw:
        sys.stdout.buffer.write(body)
        return
    if as_json:
        more = {"headers": headers, "body": _read_body(body), "rows": [line._asdict() for line in work]}
        print_json(_document(event, slugs) | more)
        return
    fields = {name: value for name, value in event._asdict().items() if name not in ("shop_id", "work")}
    print_fields(f"Event {event.id}", {"shop": slugs.get(event.shop_id, event.shop_id), **fields})
    print_fields("Headers", headers)
    click.echo(click.style("Body", bold=True))
    click.echo(safe_text(_pretty(body)))
    print_work("Work", work, slugs, "No work: this topic has no handler.")


@command.command("replay")
@click.argument("event_ids", type=EVENT, nargs=-1, metavar="[EVENT_ID]...")
@_filter_options
@click.option("--reason", default="", help="Why, for the audit.")
@actor_option
@dry_run_option
@force_option
@json_option
def replay(
    event_ids: tuple[int, ...],
    reason: str,
    actor: str,
    dry_run: bool,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Record events again: one by id, or all that match the filters.

    Effects that an event already had are not repeated.

    \b
    Example: fleet events replay --shop harbour --since 2h
    """
    with transaction() as tx:
        wanted = _read_filter(tx, options, event_ids)
        count = count_replayable(tx, wanted)
    replayed_ids: Sequence[int] = ()
    if dry_run or not count:
        note = f"{format_count(count, 'event')} would be replayed." if count else "No events match."
    else:
        confirm(f"replay {format_count(count, 'event')}?", force=force)
        with transaction() as tx:
            replayed = replay_events(tx, wanted, now=utc_now(), reason=reason, **audit_author(actor))
        replayed_ids, planned = replayed.event_ids, len(replayed.work)
        note = f"{format_count(len(replayed_ids), 'event')} replayed, work planned: {planned}."
        note = f"{note} {notify_workers(replayed.work)}".strip()
    if as_json:
        print_json({"count": count, "replayed": replayed_ids, "note": note})
    else:
        click.echo(note)


def _document(event: EventLine, slugs: dict[int, str]) -> dict[str, Any]:
    return event._asdict() | {"shop": slugs.get(event.shop_id)}


def _read_body(body: bytes) -> Any:
    """Return the parsed body, or its text if it is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "backslashreplace")


def _pretty(body: bytes) -> str:
    """Return a JSON body indented, or other text; numbers may lose trailing zeros (see ``--raw``)."""
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "backslashreplace")
