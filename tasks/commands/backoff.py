"""``celery -A tasks backoff``: retries of a topic wait longer."""

from typing import Any

import click

from services.cli.base import audit_author, confirm
from services.cli.incident_link import incident_option, link_incident
from services.cli.output import print_json
from services.cli.params import TOPIC
from services.core.clock import utc_now
from services.core.db import transaction, transaction_or_plan
from services.ledger.backoff import MAX_FACTOR, format_factor, list_backoffs, set_backoff
from services.ledger.filters import WorkFilter
from services.ledger.queries import count_work
from tasks.commands.options import act_options, celery_command, reason_option


@celery_command(
    click.option("--topic", type=TOPIC, required=True, help="The topic, such as inventory_push."),
    click.option(
        "--factor",
        type=click.FloatRange(1, MAX_FACTOR),
        required=True,
        help="How many times longer retries wait; 1 is normal.",
    ),
    reason_option,
    incident_option,
    act_options,
)
def backoff(
    _ctx: click.Context,
    topic: str,
    factor: float,
    reason: str,
    incident: int | None,
    actor: str,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Let the retries of a topic wait longer, while its provider is slow or limits calls; 1 is normal again.

    It applies to tries that fail from now on, in all workers. What waits already keeps its time: to try it
    now, use requeue.

    \b
    Example: celery -A tasks backoff --topic inventory_push --factor 4 --reason "Shopify is slow"
    """
    with transaction() as tx:
        before = next((one.factor for one in list_backoffs(tx) if one.topic == topic), 1.0)
        retrying = count_work(tx, WorkFilter(topic=topic, statuses=("error",)))
    what = f"retries of {topic} wait {format_factor(factor)}"
    fields = {"topic": topic, "factor": factor, "before": before, "retrying": retrying}
    if before == factor:
        _report(f"Nothing was changed: {what}.", fields, as_json=as_json)
        return
    if not dry_run:
        confirm(f"Make {what} (now {before:g})? {retrying} wait for a retry", force=force)
    author: dict[str, Any] = {"now": utc_now(), "reason": reason, **audit_author(actor)}
    with transaction_or_plan(dry_run=dry_run) as tx:
        set_backoff(tx, topic, factor, **author)
        link_incident(tx, incident, what, **author)
    text = f"{'Would make' if dry_run else 'Done:'} {what} (before: {before:g})."
    _report(text, fields | {"changed": not dry_run}, as_json=as_json)


def _report(text: str, fields: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({"changed": False, **fields, "note": text})
    else:
        click.echo(text)
