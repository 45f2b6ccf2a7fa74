"""``fleet events edit``: records a changed body of an event as a new event, as the console does."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from services.cli.base import (
    ReportingCommand,
    actor_option,
    audit_author,
    confirm,
    dry_run_option,
    force_option,
    json_option,
    notify_workers,
)
from services.cli.output import Columns, print_json, print_lines
from services.cli.params import EVENT, INPUT_FILE
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import rolled_back, transaction
from services.ledger.event_edit import check_edit, find_edit_kind, hash_body, record_edit
from services.ledger.queries import get_event
from services.providers.provider import MONEY


@click.command("edit", cls=ReportingCommand)
@click.argument("event_id", type=EVENT)
@click.option(
    "--original", type=INPUT_FILE, required=True, help="The body that was edited: what show --raw printed."
)
@click.option("--file", type=INPUT_FILE, required=True, help="The edited body; - reads standard input.")
@click.option("--reason", required=True, help="Why it is edited, for the audit.")
@actor_option
@dry_run_option
@force_option
@json_option
def edit(
    event_id: int,
    original: Path,
    file: Path,
    reason: str,
    actor: str,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Record a changed body of an event as a new event, with new work; the original stays.

    The same edit is recorded once. A body that was redacted since it was printed is refused, and so are
    topics of privacy, deletion and uninstall. The command has no roles: whoever has the settings of the fleet
    can edit payments too.

    \b
    Example: fleet events edit 1042 --original body.json --file edited.json --reason "wrong sku" --dry-run
    """
    edited = _read(file)
    text = edited.decode("utf-8", "surrogateescape")
    values: dict[str, Any] = {
        "opened": hash_body(_read(original)),
        "token": sha256(b"%d\0" % event_id + edited).hexdigest()[:32],
        "now": utc_now(),
        "reason": reason,
        **audit_author(actor),
    }
    with transaction() as tx:
        event, _, body, _ = get_event(tx, event_id)
        with rolled_back(tx):
            result = record_edit(tx, event_id, text, **values)
    changes = check_edit(body, text)
    if not as_json:
        columns: Columns = {name: name for name in ("path", "before", "after")}
        print_lines("Changes", columns, changes, "")
    if not dry_run:
        money = ", which is about money" if find_edit_kind(event.provider, event.topic) == MONEY else ""
        confirm(f"record this edit of event {event_id} ({event.topic}{money})?", force=force)
        with transaction() as tx:
            result = record_edit(tx, event_id, text, **values)
    _print_result(event_id, result, changes, is_planned=dry_run, as_json=as_json)


def _read(file: Path) -> bytes:
    with click.open_file(str(file), "rb") as content:
        return bytes(content.read())


def _print_result(event_id: int, result: Any, changes: Any, *, is_planned: bool, as_json: bool) -> None:
    """Print the new event, and notify the workers of its work unless the edit ``is_planned``."""
    count = format_count(len(result.work), "item")
    if is_planned:
        note = f"The edit of event {event_id} would be recorded, with {count} of work."
    else:
        (new,) = result.event_ids
        note = f"The edit of event {event_id} is event {new}, with {count} of work."
        note = f"{note} {notify_workers(result.work)}".strip()
    if as_json:
        new_id = None if is_planned else result.event_ids[0]
        lines = [one._asdict() for one in changes]
        print_json({"event": new_id, "changes": lines, "dry_run": is_planned, "note": note})
    else:
        click.echo(note)
