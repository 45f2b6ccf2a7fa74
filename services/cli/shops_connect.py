"""``fleet shops connect``: credentials, webhook subscriptions, and the first backfill of a shop."""

import stat
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
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
    shop_argument,
)
from services.cli.incident_link import incident_option, link_incident
from services.cli.output import print_json
from services.cli.params import INPUT_FILE
from services.cli.progress import ListProgress
from services.cli.wait_for_workers import wait_for_workers
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction, transaction_or_plan
from services.core.errors import Deferred, Misconfigured, RetryLater, did_you_mean, join_faults
from services.core.settings import get_settings
from services.providers.registry import SECRET_KINDS
from services.providers.shopify_answers import ACCESS_REFUSED, GrantedAccess
from services.shopify.backfill.pager import Pager
from services.shopify.backfill.run import BackfillStats, Progress, backfill_shopify
from services.shopify.backfill.state import BackfillState, find_state
from services.shopify.first_contact import (
    COUNT_CATALOGUE,
    check_access,
    check_credentials,
    record_credentials,
)
from services.shopify.shop_access import open_admin
from services.shopify.subscriptions.check import (
    create_and_record,
    fetch_subscriptions,
    find_subscription_diff,
)
from services.shops.connections import recorded_calls
from services.shops.secrets import find_secrets
from services.shops.shops import Shop, check_domain, get_shop, normalize_domain

DOMAIN = "shopify-domain"
NEEDED = ("shopify-token", "shopify-webhook")
"""Secrets that are prompted for. The second one cannot be checked: it only verifies webhooks."""

MAX_PROMPTS = 3
"""How often a refused token is prompted for again."""

MAX_FAILURES = 5
"""Failed calls in a row after which the command ends."""

_AGAIN = "run `fleet shops connect {}` again, it goes on where it ended"
_RUN_TIME, _MAX_WAIT = timedelta(hours=12), timedelta(minutes=2)
_RETRY_AFTER_SECONDS = 5.0


@click.command("connect", cls=ReportingCommand)
@shop_argument
@click.option(
    "--from-file",
    "file",
    type=INPUT_FILE,
    help="A file with a line NAME=VALUE for each credential; - reads standard input.",
)
@incident_option
@force_option
@dry_run_option
@actor_option
@json_option
def connect(
    slug: str,
    file: Path | None,
    incident: int | None,
    force: bool,
    dry_run: bool,
    actor: str,
    as_json: bool,
) -> None:
    """Connect a shop to Shopify: check its credentials, subscribe its webhooks, read what is there already.

    The first backfill reads the whole catalogue, and the orders that the app's scopes show. If it is
    interrupted, run the command again: it goes on. Credentials come from prompts or from --from-file, whose
    lines are shopify-domain=NAME.myshopify.com, shopify-token=..., shopify-webhook=... (the app's client
    secret) and any other secret of `fleet shops secret`. Nothing is stored unless Shopify accepts the token
    and has the shop's currency and time zone. Another domain than the recorded one needs a yes, or -f.

    \b
    Examples:
      fleet shops connect harbour
      fleet shops connect harbour --from-file harbour.txt --dry-run
      fleet shops connect harbour --from-file harbour.txt
    """
    author = audit_author(actor)
    with transaction() as tx:
        shop = get_shop(tx, slug)
        stored = find_secrets(tx, [(shop.id, name) for name in NEEDED])
    given = _read_file(file) if file else {}
    domain = given.pop(DOMAIN, "") or shop.shopify_domain or _prompt(DOMAIN, is_secret=False)
    domain = normalize_domain(domain)
    with transaction() as tx:
        check_domain(tx, slug, domain)
    if (before := shop.shopify_domain) not in ("", domain) and not dry_run:
        confirm(f"{slug} is connected to {before}: connect it to {domain} instead?", force=force)
    missing = [
        name for name in NEEDED if name not in given and not isinstance(stored.get((shop.id, name)), str)
    ]
    given |= {name: _prompt(name) for name in missing}
    access = _check_token(shop, domain, given, prompts=0 if file or not sys.stdin.isatty() else MAX_PROMPTS)
    with transaction_or_plan(dry_run=dry_run) as tx:
        record_credentials(tx, shop, domain, given, utc_now(), **author)
        link_incident(tx, incident, f"connects {slug} to {domain}", now=utc_now(), **author)
    what = f"{access.currency}, {access.timezone}, {format_count(len(access.scopes), 'scope')}"
    click.echo(f"{domain} accepts the token: {what}", err=True)
    if before not in ("", domain):
        click.echo(f"shopify_domain of {slug}: {before} -> {domain}", err=True)
    if dry_run:
        note = "the credentials are right; with --dry-run nothing was stored, subscribed or read"
        print_json({"shop": slug, "note": note}) if as_json else click.echo(note)
        return
    with transaction() as tx:
        shop = get_shop(tx, slug)
    with recorded_calls(shop.id):
        subscribed = _subscribe(shop, author)
        try:
            with ListProgress() as progress:
                stats = _read_all(shop, author["request_id"], progress)
            with ListProgress() as progress:
                waiting, dead = wait_for_workers(shop, progress, progress.note)
        except KeyboardInterrupt:
            raise click.ClickException(f"stopped: {_AGAIN.format(slug)}") from None
    with transaction() as tx:
        counts = tx.exec_driver_sql(COUNT_CATALOGUE, {"shop_id": shop.id}).one()
        state = find_state(tx, shop.id)
    limit = state.describe_limit(shop.slug, shop.zone)
    if as_json:
        print_json(
            {
                "shop": shop.slug,
                "complete": not waiting,
                "products": counts.products,
                "levels": counts.levels,
                "recorded": dict(stats.recorded),
                "waiting": waiting,
                "dead": dead,
                "scopes": state.scopes,
                "orders_since": state.orders_since,
                "limit": limit,
                "subscriptions": subscribed,
            }
        )
    _print_end(shop, state, counts._asdict(), waiting, dead, as_json=as_json)


def _print_end(
    shop: Shop, state: BackfillState, counts: Mapping[str, int], waiting: int, dead: int, *, as_json: bool
) -> None:
    if dead:
        command = f"fleet work list --shop {shop.slug} --status dead"
        click.echo(f"{format_count(dead, 'object')} could not be processed: {command}", err=True)
    if waiting:
        raise click.ClickException(
            f"{format_count(waiting, 'object waits', 'objects wait')} for a worker of the queue webhooks at "
            f"{shop.slug}; none was settled in the last minute: start one (celery -A tasks backlog shows the "
            "queues). Nothing is lost, and no command is needed then"
        )
    if as_json:
        return
    products, levels = (format_count(count, name.removesuffix("s")) for name, count in counts.items())
    click.echo(f"complete: {products}, {levels}")
    if limit := state.describe_limit(shop.slug, shop.zone):
        click.echo(limit)


def _check_token(shop: Shop, domain: str, given: dict[str, str], *, prompts: int) -> GrantedAccess:
    """Return what the token may do; one that Shopify refuses is prompted for again, ``prompts`` times.

    The token of the last prompt is then in ``given``.
    """
    try:
        if "shopify-token" in given:
            return check_credentials(shop, domain, given)
        access = open_admin(shop.id).fetch_access()
        check_access(shop, domain, access)
        return access
    except Misconfigured as fault:
        if fault.code != ACCESS_REFUSED:
            raise
        text = f"Shopify refuses shopify-token of {domain}: {fault.detail}"
        if not prompts:
            command = f"fleet shops secret {shop.slug} shopify-token --stdin"
            raise click.ClickException(f"{text}. `{command}` records another one") from fault
    click.echo(text, err=True)
    given["shopify-token"] = _prompt("shopify-token")
    return _check_token(shop, domain, given, prompts=prompts - 1)


def _subscribe(shop: Shop, author: Mapping[str, str]) -> Any:
    """Create the missing webhook subscriptions; without ``PUBLIC_URL`` say that there are none."""
    if not get_settings().public_url:
        click.echo(
            "no webhook is subscribed, because PUBLIC_URL is empty: set it to the public address of ingress, "
            "and the job subscription-watchdog creates them; until then the hourly backfill reads changes",
            err=True,
        )
        return None
    admin = open_admin(shop.id)
    listed = fetch_subscriptions(admin)
    with transaction() as tx:
        diff = find_subscription_diff(tx, shop, listed)
    created, refused = create_and_record(admin, shop, diff, **author)
    count = len(diff.good) + len(created)
    click.echo(f"{format_count(count, 'webhook topic')} subscribed", err=True)
    if refused:
        detail = f"fleet shopify subscriptions --shop {shop.slug} --create shows the reasons"
        click.echo(f"not subscribed: {', '.join(sorted(refused))}; {detail}", err=True)
    return {"good": sorted(diff.good), "made": sorted(created), "refused": refused}


def _read_all(
    shop: Shop, request_id: str, on_progress: Progress, pause: Callable[[float], None] = time.sleep
) -> BackfillStats:
    """Backfill until it is complete; after ``MAX_FAILURES`` failures in a row raise the last one."""
    failures = 0
    while True:
        pager = Pager(open_admin(shop.id), max_run_time=_RUN_TIME, max_wait=_MAX_WAIT)
        try:
            return backfill_shopify(shop.id, utc_now(), request_id, pager=pager, on_progress=on_progress)
        except RetryLater as fault:
            failures += not isinstance(fault, Deferred)
            if failures >= MAX_FAILURES:
                again = _AGAIN.format(shop.slug)
                raise click.ClickException(f"{fault.code}: {fault.detail}; {again}") from fault
            pause(fault.wait.total_seconds() if fault.wait else _RETRY_AFTER_SECONDS)


def _prompt(name: str, *, is_secret: bool = True) -> str:
    kind = SECRET_KINDS.get(name)
    about = kind.description if kind else "such as harbour.myshopify.com"
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"{name} ({about}) is not recorded: name a file with the line {name}=... by --from-file, or run "
            "this on a terminal"
        )
    return str(click.prompt(f"{name} ({about})", hide_input=is_secret, err=True)).strip()


def _read_file(file: Path) -> dict[str, str]:
    """Return the credentials of ``file`` by name; a wrong line is named by its number, never by its value."""
    if str(file) != "-" and stat.S_IMODE(file.stat().st_mode) & 0o077:
        click.echo(f"{file} can be read by other users: chmod 600 {file}", err=True)
    with click.open_file(str(file), encoding="utf-8-sig") as lines:
        text = lines.read(65_536)
    found: dict[str, str] = {}
    faults = []
    names = (DOMAIN, *SECRET_KINDS)
    for number, line in enumerate(text.splitlines(), start=1):
        name, sign, value = (part.strip() for part in line.partition("="))
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not sign or name not in names:
            # The name is not printed: it may be a part of a secret that contains "=".
            what = "has an unknown name" if sign else "should be NAME=VALUE"
            faults.append(f"line {number} {what}{did_you_mean(name, names)}")
        elif name in found:
            faults.append(f"line {number}: {name} is given twice")
        found[name] = value
    if faults:
        raise click.UsageError(f"{file}: {join_faults(faults)}\nA name is one of {', '.join(names)}")
    return found
