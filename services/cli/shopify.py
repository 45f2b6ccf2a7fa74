"""``fleet shopify``: the webhook subscriptions of a shop at Shopify."""

from collections.abc import Collection

import click

from services.cli import backfill
from services.cli.base import (
    CommandGroup,
    actor_option,
    audit_author,
    dry_run_option,
    json_option,
    one_shop_option,
)
from services.cli.incident_link import incident_option, link_incident
from services.cli.output import print_json, print_table
from services.cli.usage import hidden_alias
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured
from services.core.settings import get_settings
from services.core.times import format_time
from services.shopify.shop_access import open_admin
from services.shopify.subscriptions.check import (
    create_and_record,
    fetch_subscriptions,
    find_subscription_diff,
    webhook_address,
)
from services.shopify.subscriptions.plan import Subscription, SubscriptionDiff
from services.shops.connections import recorded_calls
from services.shops.shops import get_shop


@click.group(cls=CommandGroup)
def command() -> None:
    """Show and create webhook subscriptions at Shopify.

    \b
    Example: fleet shopify subscriptions --shop harbour
    """


@command.command("subscriptions")
@one_shop_option
@click.option("--create", is_flag=True, help="Create what is missing, for the address PUBLIC_URL.")
@incident_option
@actor_option
@dry_run_option
@json_option
def subscriptions(
    shop: str, create: bool, incident: int | None, actor: str, dry_run: bool, as_json: bool
) -> None:
    """Show which webhooks Shopify sends here, and which wanted ones it does not send.

    Subscriptions of the app's own configuration file are not listed: Shopify does not return them.

    \b
    Examples:
      fleet shopify subscriptions --shop harbour
      fleet shopify subscriptions --shop harbour --create
    """
    with transaction() as tx:
        record = get_shop(tx, shop)
    with recorded_calls(record.id):
        admin = open_admin(record.id)
        listed = fetch_subscriptions(admin)
    with transaction() as tx:
        diff = find_subscription_diff(tx, record, listed)
    created: dict[str, Subscription] = {}
    refused: dict[str, str] = {}
    if create and not get_settings().public_url:
        raise Misconfigured(
            "heal.no_public_url",
            "PUBLIC_URL is empty, so there is no address to subscribe: set it to the public address of "
            "ingress, such as https://hooks.example.com",
        )
    if create and not dry_run:
        author = audit_author(actor)
        with transaction() as tx:
            link_incident(tx, incident, f"creates subscriptions of {shop}", now=utc_now(), **author)
        with recorded_calls(record.id):
            created, refused = create_and_record(admin, record, diff, **author)
    if as_json:
        document = {
            "shop": record.slug,
            "address": webhook_address(record),
            "good": sorted(diff.good),
            "missing": list(diff.missing),
            "lost": {entry.topic: entry.seen_at for entry in diff.lost},
            "wrong": [entry._asdict() for entry in diff.wrong],
            "made": sorted(created),
            "refused": refused,
        }
        print_json(document)
    else:
        _print_diff(diff, created, refused, will_create=create and dry_run)


def _print_diff(
    diff: SubscriptionDiff, created: Collection[str], refused: dict[str, str], *, will_create: bool
) -> None:
    lost = {entry.topic: entry for entry in diff.lost}
    rows = [(topic, "good", entry.uri) for topic, entry in sorted(diff.good.items())]
    rows += [(entry.topic, "wrong", entry.uri) for entry in diff.wrong]
    for topic in diff.missing:
        if topic in created:
            rows.append((topic, "created now", ""))
        elif topic in refused:
            rows.append((topic, "refused", refused[topic]))
        elif topic in lost:
            rows.append((topic, "lost", f"last seen {format_time(lost[topic].seen_at)}"))
        else:
            rows.append((topic, "would be created" if will_create else "missing", ""))
    print_table("", ("topic", "state", ""), rows, "No topic is wanted.")


heal = CommandGroup(
    "heal",
    [backfill.run, hidden_alias(backfill.status, "marks"), subscriptions],
    help="Old names of `fleet backfill` and `fleet shopify`. Example: fleet backfill run --shop harbour",
    hidden=True,
)
