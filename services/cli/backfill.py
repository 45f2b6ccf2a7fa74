"""``fleet heal``: bring in what no webhook told, see how far each list was read, look after subscriptions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click
from sqlalchemy import Connection

from services.audit.append import append_audit
from services.cli.base import (
    as_option,
    dry_run_option,
    find_shop_id,
    json_option,
    new_request_id,
    operator_label,
    tell_faults,
)
from services.cli.output import print_json, print_table
from services.closing.gap_backfill import Part, find_fault, heal_providers
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.durations import parse_moment
from services.core.errors import Misconfigured
from services.core.settings import get_settings
from services.shopify.admin import open_admin
from services.shopify.subscriptions.check import (
    ACTION,
    list_subscriptions,
    look,
    make_missing,
    our_address,
)
from services.shopify.subscriptions.plan import Subscription, Watch
from services.shopify.subscriptions.store import record_watch
from services.shops.connections import recorded_calls
from services.shops.shops import Shop, find_slugs, get_shop

_MARKS = """
select m.shop_id, m.provider, m.stream, m.reached_at, m.pulled_at from pull_marks m
 where %(shop_id)s::int is null or m.shop_id = %(shop_id)s order by 1, 2, 3
"""


@click.group()
def command() -> None:
    """Bring in what providers have and no webhook told; look after Shopify's subscriptions.

    \b
    Example: fleet heal run --shop harbour --since 24h --dry-run
    """


@command.command("run")
@click.option("--shop", required=True, help="The shop (its slug).")
@click.option(
    "--since", default="", help="From then on, not from the marks: 24h, 2026-11-20 or 2026-11-20T08:00Z."
)
@dry_run_option
@json_option
@tell_faults
def run(shop: str, since: str, dry_run: bool, as_json: bool) -> None:
    """Read Shopify's and Stripe's own lists, and enter what we lack as if its webhook had come.

    The job gap-healing does the same every hour. Entered events are worked off like any other; what was
    entered before does not enter again. Exit code 1 where a provider could not be read.

    \b
    Examples:
      fleet heal run --shop harbour
      fleet heal run --shop harbour --since 2026-11-20 --dry-run
    """
    now = utc_now()
    with transaction() as tx:
        shop_id = get_shop(tx, shop).id
    begin = parse_moment(since, now) if since else None
    with recorded_calls(shop_id):
        parts = heal_providers(shop_id, now, new_request_id(), since=begin, is_dry=dry_run)
    if as_json:
        print_json({"shop": shop, "at": now, "dry_run": dry_run, "providers": [_document(p) for p in parts]})
    else:
        _print_parts(parts, dry_run)
    if fault := find_fault(parts):
        raise fault


@command.command("marks")
@click.option("--shop", default="", help="Only this shop (its slug).")
@json_option
@tell_faults
def marks(shop: str, as_json: bool) -> None:
    """Show up to when each list of a provider was read, per shop. Changes nothing.

    \b
    Example: fleet heal marks --shop harbour
    """
    with transaction() as tx:
        rows = tx.exec_driver_sql(_MARKS, {"shop_id": find_shop_id(tx, shop)}).all()
        slugs = find_slugs(tx)
    if as_json:
        names = ("shop", "provider", "stream", "reached_at", "pulled_at")
        print_json([dict(zip(names, (slugs.get(r[0]), *r[1:]), strict=True)) for r in rows])
        return
    print_table(
        "Read up to",
        ("shop", "provider", "list", "everything before", "read at"),
        [(slugs.get(row[0], row[0]), *row[1:]) for row in rows],
        "Nothing was read yet: the job gap-healing does it every hour, `fleet heal run` at once.",
    )


@command.command("subscriptions")
@click.option("--shop", required=True, help="The shop (its slug).")
@click.option("--create", is_flag=True, help="Make what is missing, at PUBLIC_URL.")
@as_option
@dry_run_option
@json_option
@tell_faults
def subscriptions(shop: str, create: bool, acting_as: str, dry_run: bool, as_json: bool) -> None:
    """Show which webhooks Shopify sends to us, and which of the wanted ones it does not.

    Subscriptions of the app's own configuration file are not among them: Shopify lists those to nobody.

    \b
    Examples:
      fleet heal subscriptions --shop harbour
      fleet heal subscriptions --shop harbour --create
    """
    with transaction() as tx:
        of = get_shop(tx, shop)
    with recorded_calls(of.id):
        admin = open_admin(of.id)
        listed = list_subscriptions(admin)
    with transaction() as tx:
        watch = look(tx, of, listed)
    made: Sequence[str] = ()
    refused: dict[str, str] = {}
    if create and not get_settings().public_url:
        raise Misconfigured(
            "heal.no_public_url",
            "PUBLIC_URL is empty, so there is no address to subscribe: set it to where the world reaches "
            "the ingress, such as https://hooks.example.com",
        )
    if create and not dry_run:
        with recorded_calls(of.id):
            new, refused = make_missing(admin, watch.missing, our_address(of))
        made = sorted(new)
        with transaction() as tx:
            _record(tx, of, watch, new, utc_now(), operator_label(acting_as))
    if as_json:
        print_json(_watch_document(of, watch, made, refused))
    else:
        _print_watch(watch, made, refused, will_make=create and dry_run)


def _record(
    tx: Connection, shop: Shop, watch: Watch, new: Mapping[str, Subscription], now: datetime, by: str
) -> None:
    """What was made is kept, and audited. What was lost stays lost: the watchdog reads its outage first."""
    lost = {kept.topic for kept in (*watch.lost, *watch.back)}
    good = {topic: entry for topic, entry in {**watch.good, **new}.items() if topic not in lost}
    mutations = record_watch(tx, shop.id, good, (), now)
    if mutations:
        append_audit(
            tx, shop_id=shop.id, staff_label=by, action=ACTION, request_id=new_request_id(), now=now,
            mutations=mutations,
        )  # fmt: skip


def _document(part: Part) -> dict[str, Any]:
    fault = {} if part.fault is None else {"detail": part.fault.detail}
    return {
        "provider": part.provider,
        "state": part.state,
        "seen": part.counts.get("seen", 0),
        "entered": part.topics,
    } | fault


def _print_parts(parts: Sequence[Part], is_dry: bool) -> None:
    word = "would enter" if is_dry else "entered"
    rows = [(part.provider, topic, count) for part in parts for topic, count in part.topics.items()]
    print_table("", ("provider", "topic", word), rows, f"Nothing {word}.")
    for part in parts:
        seen = f"{part.counts.get('seen', 0)} looked at" if part.counts else ""
        click.echo(f"{part.provider}: {part.state}" + (f", {seen}" if seen else ""))


def _watch_document(shop: Shop, watch: Watch, made: Sequence[str], refused: dict[str, str]) -> dict[str, Any]:
    return {
        "shop": shop.slug,
        "address": our_address(shop),
        "good": sorted(watch.good),
        "missing": list(watch.missing),
        "lost": {kept.topic: kept.seen_at for kept in watch.lost},
        "wrong": [entry._asdict() for entry in watch.wrong],
        "made": list(made),
        "refused": refused,
    }


def _print_watch(watch: Watch, made: Sequence[str], refused: dict[str, str], *, will_make: bool) -> None:
    lost = {kept.topic: kept for kept in watch.lost}
    rows = [(topic, "good", entry.uri) for topic, entry in sorted(watch.good.items())]
    rows += [(entry.topic, "wrong", entry.uri) for entry in watch.wrong]
    for topic in watch.missing:
        if topic in made:
            rows.append((topic, "made now", ""))
        elif topic in refused:
            rows.append((topic, "refused", refused[topic]))
        elif topic in lost:
            rows.append((topic, "lost", f"last seen {lost[topic].seen_at:%Y-%m-%d %H:%M} UTC"))
        else:
            rows.append((topic, "would be made" if will_make else "missing", ""))
    print_table("", ("topic", "state", ""), rows, "No topic is wanted.")
