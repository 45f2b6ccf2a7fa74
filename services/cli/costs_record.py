"""``fleet shops record-cost``: adds what one call of a model or one SMS cost a shop."""

from datetime import date

import click

from services.audit.append import Mutation, append_change
from services.cli.base import (
    ReportingCommand,
    actor_option,
    audit_author,
    dry_run_option,
    json_option,
    shop_argument,
)
from services.cli.costs import make_cost_document
from services.cli.output import print_json
from services.cli.params import COST, DAY
from services.core.clock import utc_now
from services.core.db import transaction_or_plan
from services.core.errors import InputInvalid
from services.core.money import to_micros
from services.costs.store import Cost, list_month_costs, record_cost
from services.shops.shops import get_shop


@click.command("record-cost", cls=ReportingCommand)
@shop_argument
@click.option("--kind", type=COST, required=True, help="What it is for: ai or sms.")
@click.option("--amount", required=True, help="In units of the currency, such as 1.25 or 0.0004.")
@click.option("--currency", required=True, help="Three capital letters, such as USD.")
@click.option("--source", required=True, help="Who bills it, such as openai.")
@click.option(
    "--reference",
    required=True,
    help="Identifies the call. The same reference replaces the amount, so a repeat counts once.",
)
@click.option("--day", type=DAY, default="", help="The day in the shop's zone (default: today).")
@dry_run_option
@actor_option
@json_option
def record_shop_cost(
    slug: str,
    kind: str,
    amount: str,
    currency: str,
    source: str,
    reference: str,
    day: str,
    dry_run: bool,
    actor: str,
    as_json: bool,
) -> None:
    """Record what a call of a model, or an SMS, cost a shop; it counts against the shop's limit.

    A cost of the same shop, kind, day, source and reference replaces the recorded one. Another reference is
    another cost.

    \b
    Example: fleet shops record-cost harbour --kind ai --amount 1.25 --currency USD --source openai --reference r-812
    """  # noqa: E501 - an example is one line
    if to_micros(amount) < 0:
        raise InputInvalid(
            f"amount={amount!r} should be 0 or more: the same reference with a lower amount corrects a cost"
        )
    now, on = utc_now(), date.fromisoformat(day) if day else None
    with transaction_or_plan(dry_run=dry_run) as tx:
        shop = get_shop(tx, slug)
        changed = record_cost(tx, Cost(shop.id, kind, source, reference, amount, currency, on), now=now)
        if changed:
            after = {"amount": f"{amount} {currency}", "source": source, "reference": reference, "day": day}
            summary = f"recorded {amount} {currency} of {kind} costs: {source} {reference}"
            mutation = Mutation("metered_costs", kind, summary, None, after)
            append_change(tx, "cost.record", {shop.id: [mutation]}, now=now, **audit_author(actor))
        month = on.replace(day=1) if on else None
        found = list_month_costs(tx, now, shop_id=shop.id, month=month, kinds=(kind,))
    if as_json:
        documents = [make_cost_document(one) for one in found]
        print_json({"shop": slug, "costs": documents, "changed": bool(changed) and not dry_run})
        return
    if not changed:
        click.echo(f"{reference} is recorded with this amount already: nothing was changed.")
        return
    click.echo(f"{'Would record' if dry_run else 'Recorded'} {amount} {currency} of {kind} costs of {slug}.")
    for one in found:
        limit = f", {one.counted} of {one.limit} count" if one.limit else ""
        click.echo(f"Costs of {one.month}: {one.spent}{limit}.")
