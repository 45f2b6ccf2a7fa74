"""``fleet shopify``: the webhook subscriptions of a shop at Shopify."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click
from sqlalchemy import Connection

from services.audit.append import append_audit
from services.cli import backfill
from services.cli.base import (
    actor_option,
    dry_run_option,
    hidden_alias,
    json_option,
    new_request_id,
    operator_label,
    report_errors,
)
from services.cli.output import print_json, print_table
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured
from services.core.settings import get_settings
from services.shopify.admin import open_admin
from services.shopify.subscriptions.check import (
    ACTION,
    create_missing,
    list_subscriptions,
    read_diff,
    webhook_address,
)
from services.shopify.subscriptions.plan import Subscription, SubscriptionDiff
from services.shopify.subscriptions.store import record_check
from services.shops.connections import recorded_calls
from services.shops.shops import Shop, get_shop


@click.group()
def command() -> None:
    """Show and create webhook subscriptions at Shopify.

    \b
    Example: fleet shopify subscriptions --shop harbour
    """


@command.command("subscriptions")
@click.option("--shop", required=True, help="The shop (its slug).")
@click.option("--create", is_flag=True, help="Create what is missing, for the address PUBLIC_URL.")
@actor_option
@dry_run_option
@json_option
@report_errors
def subscriptions(shop: str, create: bool, actor: str, dry_run: bool, as_json: bool) -> None:
    """Show which webhooks Shopify sends here, and which needed ones it does not send.

    Subscriptions in the app's own configuration file are not listed: Shopify does not return them.

    \b
    Examples:
      fleet shopify subscriptions --shop harbour
      fleet shopify subscriptions --shop harbour --create
    """
    with transaction() as tx:
        of = get_shop(tx, shop)
    with recorded_calls(of.id):
        admin = open_admin(of.id)
        listed = list_subscriptions(admin)
    with transaction() as tx:
        diff = read_diff(tx, of, listed)
    made: Sequence[str] = ()
    refused: dict[str, str] = {}
    if create and not get_settings().public_url:
        raise Misconfigured(
            "heal.no_public_url",
            "PUBLIC_URL is empty, so there is no address to subscribe: set it to the public address of "
            "ingress, such as https://hooks.example.com",
        )
    if create and not dry_run:
        with recorded_calls(of.id):
            new, refused = create_missing(admin, diff.missing, webhook_address(of))
        made = sorted(new)
        with transaction() as tx:
            _record(tx, of, diff, new, utc_now(), operator_label(actor))
    if as_json:
        print_json(_document(of, diff, made, refused))
    else:
        _print(diff, made, refused, will_make=create and dry_run)


def _record(
    tx: Connection,
    shop: Shop,
    diff: SubscriptionDiff,
    new: Mapping[str, Subscription],
    now: datetime,
    by: str,
) -> None:
    """Store and audit the new subscriptions. Lost ones stay lost: the watchdog first imports their outage."""
    lost = {entry.topic for entry in (*diff.lost, *diff.returned)}
    good = {topic: entry for topic, entry in {**diff.good, **new}.items() if topic not in lost}
    mutations = record_check(tx, shop.id, good, (), now)
    if mutations:
        append_audit(
            tx, shop_id=shop.id, staff_label=by, action=ACTION, request_id=new_request_id(), now=now,
            mutations=mutations,
        )  # fmt: skip


def _document(
    shop: Shop, diff: SubscriptionDiff, made: Sequence[str], refused: dict[str, str]
) -> dict[str, Any]:
    return {
        "shop": shop.slug,
        "address": webhook_address(shop),
        "good": sorted(diff.good),
        "missing": list(diff.missing),
        "lost": {entry.topic: entry.seen_at for entry in diff.lost},
        "wrong": [entry._asdict() for entry in diff.wrong],
        "made": list(made),
        "refused": refused,
    }


def _print(diff: SubscriptionDiff, made: Sequence[str], refused: dict[str, str], *, will_make: bool) -> None:
    lost = {entry.topic: entry for entry in diff.lost}
    rows = [(topic, "good", entry.uri) for topic, entry in sorted(diff.good.items())]
    rows += [(entry.topic, "wrong", entry.uri) for entry in diff.wrong]
    for topic in diff.missing:
        if topic in made:
            rows.append((topic, "made now", ""))
        elif topic in refused:
            rows.append((topic, "refused", refused[topic]))
        elif topic in lost:
            rows.append((topic, "lost", f"last seen {lost[topic].seen_at:%Y-%m-%d %H:%M} UTC"))
        else:
            rows.append((topic, "would be made" if will_make else "missing", ""))
    print_table("", ("topic", "state", ""), rows, "No topic is wanted.")


heal = click.Group(
    "heal",
    [backfill.run, hidden_alias(backfill.status, "marks"), subscriptions],
    help="Old names of `fleet backfill` and `fleet shopify`. Example: fleet backfill run --shop harbour",
    hidden=True,
)
