"""What the commands about an incident share: act on incidents in one transaction, and print them."""

from collections.abc import Callable, Sequence
from typing import Any

import click
from sqlalchemy import Engine, Row

from services.alerts.incidents import get_incident
from services.cli.base import actor_option, add_options, audit_author, dry_run_option, json_option
from services.cli.output import print_json, to_document
from services.core.clock import utc_now
from services.core.db import transaction_or_plan
from services.core.errors import NothingToDo
from services.core.times import format_time
from services.ledger.work import FLEET
from services.shops.shops import find_slugs

act_options = add_options(dry_run_option, actor_option, json_option)


def act_on(
    act: Callable[..., Row[Any] | None],
    incident_ids: Sequence[int],
    actor: str,
    verbs: tuple[str, str],
    *,
    dry_run: bool,
    as_json: bool,
    engine: Engine | None = None,
) -> None:
    """Do ``act`` with all or none; print the incidents. ``verbs``: what would be done, and what was done."""
    with transaction_or_plan(engine, dry_run=dry_run) as tx:
        before = []
        for one in incident_ids:
            try:
                before.append(act(tx, one, now=utc_now(), **audit_author(actor)))
            except NothingToDo:
                if len(incident_ids) == 1:
                    raise
                before.append(get_incident(tx, one))
        lines, slugs = [get_incident(tx, one) for one in incident_ids], find_slugs(tx)
    if as_json:
        documents = [
            make_document(line, slugs) | {"changed": not dry_run and line != was}
            for line, was in zip(lines, before, strict=True)
        ]
        print_json(documents if len(documents) > 1 else documents[0])
        return
    done = f"Would {verbs[0]}" if dry_run else verbs[1]
    for line, was in zip(lines, before, strict=True):
        name = f"incident {line.id} of {format_shop(line, slugs)}: {line.rule} for {line.period}"
        if line == was:
            by, at = line.acknowledged_by, line.acknowledged_at
            is_resolved = line.state == "resolved"
            state = "resolved" if is_resolved else f"acknowledged by you, {by}, since {format_time(at)}"
            click.echo(f"{name} is already {state}.")
            continue
        holder = was and was.acknowledged_by
        more = f", taken over from {holder}" if holder and holder != line.acknowledged_by else ""
        click.echo(f"{done} {name}{more}.")


def format_shop(line: Row[Any], slugs: dict[int, str]) -> str:
    """Return the slug of an incident's shop, or ``fleet``."""
    shop_id = FLEET if line.shop_id is None else line.shop_id
    return slugs.get(shop_id, str(shop_id))


def make_document(line: Row[Any], slugs: dict[int, str]) -> dict[str, Any]:
    """Return an incident as JSON values."""
    document = to_document(line)
    return document | {
        "status": document.pop("state"),
        "shop": None if line.shop_id is None else format_shop(line, slugs),
    }
