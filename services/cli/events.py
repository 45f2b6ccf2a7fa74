"""``fleet events``: list, show, replay and edit webhook events."""

import json
import sys
from collections.abc import Sequence
from operator import itemgetter
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
    json_option,
    limit_option,
    notify_workers,
    shop_option,
    since_option,
)
from services.cli.events_edit import edit
from services.cli.output import Columns, print_fields, print_json, print_lines, print_list, safe_text
from services.cli.params import EVENT, EVENT_TOPIC, PROVIDER, UNTIL
from services.cli.work import print_work
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.settings import get_settings
from services.core.times import format_time
from services.ledger.event_archive import ArchivedEvent, SealedEvent, list_archives
from services.ledger.filters import EventFilter
from services.ledger.queries import EventLine, RowUnknown, describe_origin, get_event, list_events
from services.ledger.replay import ORIGINS, count_copies, count_replayable, replay_events
from services.ledger.replay_archived import find_archived_event, read_archived, replay_archived
from services.ledger.topics import plan_topic
from services.providers.object_store import open_store
from services.providers.registry import SENDERS, list_routes
from services.shops.shops import find_slugs

_filter_options = add_options(
    shop_option,
    click.option("--provider", type=PROVIDER, default="", help=f"Only {', '.join(list_routes(SENDERS))}."),
    click.option(
        "--topic", type=EVENT_TOPIC, default="", help="The provider's topic, such as orders/create."
    ),
    click.option("--delivery-key", default="", help="Only this delivery, the provider's id of a webhook."),
    click.option("--origin", default="", help=f"Only this origin: {', '.join(ORIGINS)}."),
    click.option("--request-id", default="", help="Only what this request recorded."),
    since_option("received"),
    click.option("--until", type=UNTIL, help="Received before, likewise."),
)

_FIELDS = ("provider", "topic", "delivery_key", "origin", "request_id", "since", "until")


def _read_filter(tx: Connection, options: dict[str, Any], ids: tuple[int, ...] = ()) -> EventFilter:
    if sender := SENDERS.get(options["provider"]):
        options = {**options, "provider": sender.name}  # quo is recorded as openphone
    return EventFilter(
        ids=ids,
        shop_id=find_shop_id(tx, options["shop"]),
        **{name: options[name] for name in _FIELDS},
    )


@click.group(cls=CommandGroup)
def command() -> None:
    """List, show, replay and edit webhook events.

    \b
    Example: fleet events list --shop harbour --since 24h
    """


@command.command("list")
@_filter_options
@limit_option
@json_option
def print_events(limit: int, as_json: bool, **options: Any) -> None:
    """List events, newest first; archived events are not in the list.

    \b
    Example: fleet events list --provider stripe --since 2h
    """
    with transaction() as tx:
        wanted = _read_filter(tx, options)
        events = list_events(tx, wanted, limit=limit)
        slugs = find_slugs(tx)
        archives = list_archives(tx, wanted) if len(events) < limit else ()
    columns: Columns = {
        "id": "id",
        "received": "received_at",
        "shop": lambda event: slugs.get(event.shop_id, event.shop_id),
        "provider": "provider",
        "topic": "topic",
        "delivery": "delivery_key",
        "origin": describe_origin,
        "dup": "duplicate_count",
        "work": lambda event: (
            ", ".join(f"{count} {status}" for status, count in event.work.items()) or "none planned"
        ),
    }
    documents = [_document(event, slugs) for event in events]
    print_list("", columns, events, documents, "No event matches.", as_json=as_json)
    if archives and not as_json:
        newest = max(archive.last_received_at for archive in archives)
        click.echo(
            f"Events until {format_time(newest)} are archived: `fleet events show ID` and "
            "`fleet events replay` read them too."
        )


@command.command("show")
@click.argument("event_id", type=EVENT)
@click.option("--raw", is_flag=True, help="Print only the bytes of the body, unchanged.")
@json_option
def show(event_id: int, raw: bool, as_json: bool) -> None:
    """Show an event: its headers, its body, and its work.

    \b
    Example: fleet events show 1042
    """
    try:
        with transaction() as tx:
            slugs = find_slugs(tx)
            event, headers, body, work = get_event(tx, event_id)
    except RowUnknown:
        archived = find_archived_event(transaction, open_store(get_settings().archive_url), event_id)
        if archived is None:
            raise
        _show_archived(archived, slugs, raw=raw, as_json=as_json)
        return
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

    Effects that an event already had are not repeated. Replays and edits are left out unless --origin or an
    id names them. Archived events are read from the archive store; one whose customer was redacted cannot be
    replayed (exit code 1).

    \b
    Example: fleet events replay --shop harbour --since 2h
    """
    store = open_store(get_settings().archive_url)
    with transaction() as tx:
        wanted = _read_filter(tx, options, event_ids)
        groups, copies, slugs = count_replayable(tx, wanted), count_copies(tx, wanted), find_slugs(tx)
    sealed: list[SealedEvent] = []
    for match in read_archived(transaction, store, wanted):
        groups.update((one.shop_id, one.provider, one.topic) for one in match.events)
        sealed += match.sealed
    lines = [_describe_group(*group, count, slugs) for group, count in groups.items()]
    count = groups.total()
    replayed_ids: Sequence[int] = ()
    if not as_json and (dry_run or not force):
        columns: Columns = {
            name: itemgetter(name) for name in ("shop", "provider", "topic", "events", "work")
        }
        print_lines("", columns, lines, "")
        if copies:
            click.echo(f"Left out: {format_count(copies, 'event')} that a replay or an edit made.")
    if dry_run or not count:
        note = f"{format_count(count, 'event')} would be replayed." if count else "No event matches."
        note = "" if sealed and not count else note
    else:
        confirm(f"replay {format_count(count, 'event')}?", force=force)
        author, now = audit_author(actor), utc_now()
        with transaction() as tx:
            replayed = replay_events(tx, wanted, now=now, reason=reason, **author)
        archived = replay_archived(transaction, store, wanted, now=now, reason=reason, **author)
        replayed_ids = [*replayed.event_ids, *archived.event_ids]
        work, sealed = [*replayed.work, *archived.work], archived.sealed
        note = f"{format_count(len(replayed_ids), 'event')} replayed, work planned: {len(work)}."
        note = f"{note} {notify_workers(work)}".strip()
    if as_json:
        why = {one.id: one.why for one in sealed}
        counts = {"count": count, "groups": lines, "left_out": copies}
        print_json({**counts, "replayed": replayed_ids, "not_readable": why, "note": note})
    elif note:
        click.echo(note)
    if sealed:
        raise click.ClickException(
            "\n".join(f"event {one.id} is archived and cannot be read: {one.why}" for one in sealed)
        )


command.add_command(edit)


def _describe_group(
    shop_id: int, provider: str, topic: str, count: int, slugs: dict[int, str]
) -> dict[str, Any]:
    planned = plan_topic(provider, topic)
    work = planned.name if planned else "none: this topic has no handler"
    return {"shop": slugs.get(shop_id), "provider": provider, "topic": topic, "events": count, "work": work}


def _show_archived(
    event: ArchivedEvent | SealedEvent, slugs: dict[int, str], *, raw: bool, as_json: bool
) -> None:
    if isinstance(event, SealedEvent):
        raise click.ClickException(f"event {event.id} is archived and cannot be read: {event.why}")
    fields = event._asdict() | {"shop": slugs.get(event.shop_id, event.shop_id), "is_archived": True}
    headers, body, work = fields.pop("headers"), fields.pop("body"), fields.pop("work")
    if raw:
        sys.stdout.buffer.write(body)
    elif as_json:
        print_json(fields | {"headers": headers, "body": _read_body(body), "rows": work})
    else:
        print_fields(f"Event {event.id}", fields)
        print_fields("Headers", headers)
        click.echo(click.style("Body", bold=True))
        click.echo(safe_text(_pretty(body)))
        lines = [" ".join(f"{name}={value}" for name, value in one.items()) for one in work]
        click.echo("\n".join([click.style("Work", bold=True), *lines]))


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
