"""``fleet alerts quiet``: quiet hours and maintenance windows."""

from datetime import datetime, timedelta
from typing import Any

import click

from services.alerts.quiet import QuietWindow, add_window, list_windows, parse_hours, remove_window
from services.cli.base import (
    CommandGroup,
    actor_option,
    add_options,
    audit_author,
    dry_run_option,
    find_shop_id,
    json_option,
    shop_option,
)
from services.cli.output import Columns, print_json, print_list, to_document
from services.cli.params import DURATION, TIME, WINDOW, ParsedType
from services.core.clock import utc_now
from services.core.db import transaction, transaction_or_plan
from services.core.errors import InputInvalid
from services.core.settings import get_settings
from services.core.zone_names import describe_zone_fault, is_zone
from services.shops.shops import find_slugs, get_shop


def _parse_zone(text: str) -> str:
    if not is_zone(text):
        raise InputInvalid(f"{text!r} {describe_zone_fault(text)}")
    return text


HOURS, ZONE = ParsedType("hours", parse_hours), ParsedType("zone", _parse_zone)
change_options = add_options(dry_run_option, actor_option, json_option)


@click.group("quiet", cls=CommandGroup)
def quiet() -> None:
    """List, add and remove quiet hours and maintenance windows.

    The channels get nothing about incidents in them. When a window ends, what is still open leaves as one
    message for each rule. In quiet hours P1s are sent, in a maintenance window they are not.

    \b
    Example: fleet alerts quiet list
    """


@quiet.command("list")
@click.option("--all", "is_all", is_flag=True, help="Show ended windows too.")
@json_option
def list_quiet(is_all: bool, as_json: bool) -> None:
    """List the windows that have not ended.

    \b
    Example: fleet alerts quiet list --all
    """
    now = utc_now()
    with transaction() as tx:
        windows, slugs = list_windows(tx, now, is_all=is_all), find_slugs(tx)
    columns: Columns = {
        "id": "id",
        "shop": lambda window: slugs.get(window.shop_id, "all"),
        "kind": "kind",
        "times": lambda window: window.describe(),
        "now": lambda window: "on" if window.is_on(now) else "off",
        "by": "created_by",
        "reason": "reason",
    }
    documents = [_document(window, slugs, now) for window in windows]
    print_list("", columns, windows, documents, "No window is set.", as_json=as_json)


@quiet.command("add")
@click.option("--daily", "hours", type=HOURS, help="Quiet hours of every day, such as 22:00-07:00.")
@click.option("--zone", type=ZONE, help="Their time zone (default: the shop's, or the fleet's).")
@click.option("--for", "lasts", type=DURATION, help="A maintenance window of this time, such as 2h.")
@click.option("--begin", "begins_at", type=TIME, help="When it begins (default: now): 2026-11-20T22:00Z.")
@shop_option
@click.option("--reason", required=True, help="Why nobody needs to hear of it. Audited.")
@change_options
def add(
    hours: tuple[str, str] | None,
    zone: str | None,
    lasts: timedelta | None,
    begins_at: datetime | None,
    shop: str,
    reason: str,
    dry_run: bool,
    actor: str,
    as_json: bool,
) -> None:
    """Add quiet hours (--daily) or a maintenance window (--for), for one shop or for all.

    \b
    Example: fleet alerts quiet add --daily 22:00-07:00 --reason "nobody is on call for P2s at night"
             fleet alerts quiet add --for 2h --shop harbour --reason "moves to another host"
    """
    if (hours is None) == (lasts is None) or (hours and begins_at) or (zone and not hours):
        raise click.UsageError("give --daily (with --zone), or --for (with --begin)")
    now = utc_now()
    with transaction_or_plan(dry_run=dry_run) as tx:
        shop_id = find_shop_id(tx, shop)
        if hours:
            default = str(get_shop(tx, shop).zone) if shop else get_settings().fleet_timezone
            window = QuietWindow(shop_id, *hours, zone or default)
        else:
            begin = begins_at or now
            window = QuietWindow(shop_id, begins_at=begin, ends_at=begin + (lasts or timedelta()))
        window = add_window(tx, window, now=now, reason=reason, **audit_author(actor))
        slugs = find_slugs(tx)
    _print("Would add" if dry_run else "Added", window, slugs, now, dry_run=dry_run, as_json=as_json)


@quiet.command("remove")
@click.argument("window_id", type=WINDOW)
@click.option("--reason", default="", help="Why it ends. Audited.")
@change_options
def remove(window_id: int, reason: str, dry_run: bool, actor: str, as_json: bool) -> None:
    """Remove a window; what it held back leaves within seconds.

    \b
    Example: fleet alerts quiet remove 3
    """
    now = utc_now()
    with transaction_or_plan(dry_run=dry_run) as tx:
        window = remove_window(tx, window_id, now=now, reason=reason, **audit_author(actor))
        slugs = find_slugs(tx)
    _print("Would remove" if dry_run else "Removed", window, slugs, now, dry_run=dry_run, as_json=as_json)


def _print(
    done: str, window: QuietWindow, slugs: dict[int, str], now: datetime, *, dry_run: bool, as_json: bool
) -> None:
    if as_json:
        print_json(_document(window, slugs, now) | {"changed": not dry_run})
        return
    shop = "all shops" if window.shop_id is None else slugs[window.shop_id]
    number = "" if dry_run and done.endswith("add") else f" {window.id}"
    click.echo(f"{done} {window.kind}{number} of {shop}: {window.describe()}.")


def _document(window: QuietWindow, slugs: dict[int, str], now: datetime) -> dict[str, Any]:
    shop = None if window.shop_id is None else slugs[window.shop_id]
    return to_document(window) | {"shop": shop, "kind": window.kind, "is_on": window.is_on(now)}
