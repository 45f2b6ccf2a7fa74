"""``fleet conversations cache``: the page at Notion of each phone number and mail address."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import click

from services.audit.append import append_change
from services.cli.base import (
    CommandGroup,
    actor_option,
    audit_author,
    dry_run_option,
    find_shop_id,
    json_option,
    limit_option,
    one_shop_option,
    shop_option,
)
from services.cli.incident_link import incident_option, link_incident
from services.cli.output import Columns, print_fields, print_json, print_lines, print_list
from services.conversations.cache import (
    CacheCount,
    CacheEntry,
    count_entries,
    list_entries,
    make_key,
    parse_key,
    parse_prefix,
)
from services.conversations.cache_copies import delete_copies, read_copies
from services.conversations.cache_lookup import find_cached, get_page, refresh_entry
from services.conversations.cache_refresh import (
    CacheRefresh,
    describe_refresh,
    find_ratios,
    invalidate,
    refresh_cache,
)
from services.conversations.merchants import Address
from services.core.clock import utc_now
from services.core.db import transaction, transaction_or_plan
from services.core.errors import NothingToDo
from services.core.valkey import get_copies
from services.shops.connections import recorded_calls
from services.shops.shops import find_slugs, get_shop

key_argument = click.argument("key")
keys_argument = click.argument("keys", nargs=-1, required=True, metavar="KEY...")


@click.group("cache", cls=CommandGroup)
def cache() -> None:
    """The canvas cache: the page at Notion of each phone number and mail address.

    A KEY is canvas:phone:+15551234567 or canvas:mail:ada@example.com, or only the number or address. Valkey
    has copies of the entries in the database; without Valkey the database answers.

    \b
    Example: fleet conversations cache get +15551234567 --shop harbour
    """


@cache.command("status")
@shop_option
@json_option
def status(shop: str, as_json: bool) -> None:
    """Count entries that are stale (expired) or expiring (less than 6 h left), and the copies in Valkey.

    \b
    Example: fleet conversations cache status --json
    """
    now = utc_now()
    with transaction() as tx:
        shop_id, slugs = find_shop_id(tx, shop), find_slugs(tx)
        counts = count_entries(tx, shop_id, now)
        entries = list_entries(tx, shop_id)
    copies = read_copies([(one.shop_id, one.address) for one in entries], now)
    is_reached = get_copies().call(lambda valkey: valkey.ping()) is not None
    columns: Columns = {
        "shop": lambda one: slugs.get(one.shop_id, one.shop_id),
        "entries": "entries",
        "without a page": "negative",
        "stale": "stale",
        "stale %": lambda one: round(100 * one.stale_ratio, 1),
        "expiring": "expiring",
        "expiring %": lambda one: round(100 * one.expiring_ratio, 1),
        "first expires": "first_expires_at",
        "last read": "last_checked_at",
        "copies in Valkey": lambda one: _count_copies(copies, one),
    }
    if as_json:
        documents = [_to_document(one, slugs[one.shop_id], _count_copies(copies, one)) for one in counts]
        print_json({"at": now, "valkey": is_reached, "shops": documents})
        return
    print_lines("Canvas cache", columns, counts, "No entries yet: the first call or message makes one.")
    if not is_reached:
        click.echo(
            "Valkey does not answer, or the broker is RabbitMQ: the database has all entries.", err=True
        )


def _count_copies(copies: Collection[Address], one: CacheCount) -> int:
    return sum(shop_id == one.shop_id for shop_id, _ in copies)


def _to_document(one: CacheCount, slug: str, copies: int) -> dict[str, Any]:
    ratios = {"stale_ratio": round(one.stale_ratio, 4), "expiring_ratio": round(one.expiring_ratio, 4)}
    fields = {name: value for name, value in one._asdict().items() if name != "shop_id"}
    return {"shop": slug, **fields, **ratios, "copies": copies}


@cache.command("list")
@shop_option
@click.option("--prefix", default="", help="Only keys that begin so: canvas:phone:+1604, mail:, +1604.")
@limit_option
@json_option
def print_entries(shop: str, prefix: str, limit: int, as_json: bool) -> None:
    """List entries with their page and the time until which they are used.

    \b
    Example: fleet conversations cache list --prefix canvas:phone: --limit 10
    """
    now = utc_now()
    with transaction() as tx:
        slugs = find_slugs(tx)
        found = list_entries(tx, find_shop_id(tx, shop), parse_prefix(prefix), limit)
    columns: Columns = {
        "key": "key",
        "shop": lambda one: slugs.get(one.shop_id, one.shop_id),
        "page": "page_id",
        "merchant": "merchant_id",
        "read at": "checked_at",
        "expires": "expires_at",
        "hours left": lambda one: _count_hours(one, now),
    }
    documents = [_describe_entry(one, slugs[one.shop_id], now) for one in found]
    print_list("", columns, found, documents, "No entry has such a key.", as_json=as_json)


@cache.command("get")
@key_argument
@one_shop_option
@click.option("--cached", is_flag=True, help="Do not read Notion if there is no entry.")
@json_option
def get(key: str, shop: str, cached: bool, as_json: bool) -> None:
    """Show the page of a number or address, and whether Valkey, the database or Notion had it.

    Without an entry Notion is read, and its answer is kept: 24 h for a page, 5 min for none.

    \b
    Example: fleet conversations cache get canvas:phone:+15551234567 --shop harbour
    """
    now, address = utc_now(), parse_key(key)
    with transaction() as tx:
        shop_id = get_shop(tx, shop).id
    with recorded_calls(shop_id):
        hit = find_cached((shop_id, address), now) if cached else get_page((shop_id, address))
    if hit is None and not as_json:
        raise NothingToDo(f"{key} has no entry: without --cached Notion is read")
    empty = dict.fromkeys((*CacheEntry._fields[2:], "hours_left", "source"))
    document: dict[str, Any] = {"key": make_key(address), "shop": shop, **empty}
    if hit is not None:
        document |= {**_describe_entry(hit.entry, shop, now), "source": hit.source}
    if as_json:
        print_json(document)
    else:
        print_fields(str(document.pop("key")), document)


@cache.command("invalidate")
@keys_argument
@one_shop_option
@incident_option
@dry_run_option
@actor_option
@json_option
def invalidate_keys(
    keys: tuple[str, ...], shop: str, incident: int | None, dry_run: bool, actor: str, as_json: bool
) -> None:
    """Delete entries, and all others of their merchants, here and in Valkey: Notion is read again.

    It counts once for each merchant that had an entry: three times in 30 days open an incident (P3), because
    then the page at Notion is probably wrong. A KEY without an entry is named, and counts for nobody.

    \b
    Example: fleet conversations cache invalidate canvas:phone:+15551234567 --shop harbour
    """
    now, author = utc_now(), audit_author(actor)
    addresses = sorted({parse_key(key) for key in keys})
    with transaction_or_plan(dry_run=dry_run) as tx:
        shop_id = get_shop(tx, shop).id
        found = invalidate(tx, shop_id, addresses, author["by"], now)
        append_change(tx, "canvas.invalidate", {shop_id: [found.mutation]}, now=now, **author)
        link_incident(tx, incident, found.mutation.summary, now=now, **author)
    is_deleted = dry_run or delete_copies([(shop_id, address) for address in found.addresses])
    missing = [make_key(address) for address in found.without_entry]
    names = [make_key(address) for address in found.addresses if address not in found.without_entry]
    document = {"shop": shop, "dry_run": dry_run, "keys": names, "without_entry": missing}
    document |= {"merchants": found.merchants}
    if as_json:
        print_json(document | {"valkey": is_deleted})
        return
    verb = "Would invalidate" if dry_run else "Invalidated"
    if names:
        click.echo(f"{verb} {', '.join(names)} of {shop}.")
    if missing:
        click.echo(f"{shop} has no entry {', '.join(missing)}: nothing is counted.")
    if not is_deleted:
        click.echo("Valkey does not answer: a copy there is used until it expires, 24 h at most.", err=True)


@cache.command("refresh")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@one_shop_option
@incident_option
@dry_run_option
@actor_option
@json_option
def refresh(
    keys: tuple[str, ...], shop: str, incident: int | None, dry_run: bool, actor: str, as_json: bool
) -> None:
    """Read Notion again for the KEYs, or without one do what the job canvas-refresh does every hour.

    That copies all entries to Valkey, refreshes those of active merchants that expire within 8 h, and
    deletes unused ones. --dry-run counts what would be refreshed and deleted.

    \b
    Examples:
      fleet conversations cache refresh --shop harbour
      fleet conversations cache refresh canvas:phone:+15551234567 --shop harbour
    """
    now, author = utc_now(), audit_author(actor)
    addresses = sorted({parse_key(key) for key in keys})
    with transaction() as tx:
        shop_id = get_shop(tx, shop).id
        before = find_ratios(tx, shop_id, now)
    with recorded_calls(shop_id):
        if addresses:
            pages = [] if dry_run else [refresh_entry((shop_id, one), now).page_id for one in addresses]
            found = CacheRefresh(refreshed=len(addresses), gone=pages.count(""))
        else:
            found = refresh_cache(shop_id, now, is_dry=dry_run)
    with transaction() as tx:
        after = find_ratios(tx, shop_id, utc_now())
        if not dry_run:
            mutation = describe_refresh(found, before, after)
            append_change(tx, "canvas.refresh", {shop_id: [mutation]}, now=now, **author)
            link_incident(tx, incident, mutation.summary, now=now, **author)
    document = {"shop": shop, "dry_run": dry_run, **found._asdict(), "before": before, "after": after}
    if as_json:
        print_json(document)
    else:
        ratios = {"before": _format_ratios(before), "after": _format_ratios(after)}
        print_fields("Would be done" if dry_run else "Done", document | ratios)


def _format_ratios(ratios: Mapping[str, float]) -> str:
    return ", ".join(f"{name.removesuffix('_ratio')} {100 * ratio:.3g}%" for name, ratio in ratios.items())


def _count_hours(entry: CacheEntry, now: datetime) -> float:
    return round((entry.expires_at - now).total_seconds() / 3600, 1)


def _describe_entry(entry: CacheEntry, slug: str, now: datetime) -> dict[str, Any]:
    fields = {name: value for name, value in entry._asdict().items() if name not in ("shop_id", "address")}
    return {"key": entry.key, "shop": slug, **fields, "hours_left": _count_hours(entry, now)}
