"""``fleet shops``: add, list, show and change shops, and record their secrets."""

import click

from services.cli.base import (
    CommandGroup,
    Decorator,
    actor_option,
    add_options,
    audit_author,
    confirm,
    dry_run_option,
    force_option,
    json_option,
    shop_argument,
)
from services.cli.costs import costs
from services.cli.costs_record import record_shop_cost
from services.cli.incident_link import incident_option, link_incident
from services.cli.mail.route import print_connections
from services.cli.output import print_fields, print_json, print_list, print_table, to_document
from services.cli.shops_connect import connect
from services.cli.shops_import import import_shops
from services.cli.shops_remove import remove
from services.cli.shops_secret import secret
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction, transaction_or_plan
from services.mail.connection_lines import list_shop_lines
from services.shopify.shop_changes import change_shop, compare_domain
from services.shopify.stock.count_store import release_levels
from services.shops.fields import OF_POOL
from services.shops.secrets import list_secret_states
from services.shops.shops import FIELDS, Shop, add_shop, get_shop, list_shops
from services.shops.staff import record_staff


@click.group(cls=CommandGroup)
def command() -> None:
    """Add, list, show and change shops, and record their secrets.

    \b
    Example: fleet shops add harbour --name Harbour --timezone America/Vancouver --currency CAD
    """


_FIELD_HELP = {
    "name": "The shop's name for people.",
    "timezone": "IANA time zone, such as America/Vancouver.",
    "currency": "Three capital letters, such as CAD.",
    "owner_email": "Address for the shop's mail.",
    "accountant_email": "Address for the monthly package.",
    "shopify_domain": "Such as harbour.myshopify.com.",
    "stock_location_id": "The Shopify location of counts without a location.",
    "stock_owner": "Who owns the stock figures: shopify, shopfleet or pool:NAME.",
    "ai_cap": "Most that AI may cost in a month, such as '50.00 CAD'; '' for no cap.",
    "sms_budget": "What SMS should cost in a month, such as '50.00 CAD'; '' for no budget.",
    "exchange_rates": "For costs in other currencies: USD/CAD=1.37 (one USD is 1.37 CAD). "
    "Other rates of the shop stay; USD/CAD= removes one, '' all.",
    "postal_address": "The sender's postal address, which the law requires in commercial mail.",
    "mail_contact": "How readers reach the sender: a mail address, telephone number or web address.",
    "mails_per_day": "Most commercial mails for one person in a day (default 1).",
    "notion_data_source": "The id of the data source at Notion with a page for each merchant.",
    "ai_uses": "What AI may read calls, messages and mails for: 'summaries,vectors', one of them, or ''.",
    "shop_floor": "Whether new orders go to the board of the shop floor: on or off (default).",
}


def _field_options(*required: str) -> Decorator:
    """Return the options for all fields of a shop."""
    return add_options(
        *(
            click.option(f"--{field.replace('_', '-')}", required=field in required, help=text)
            for field, text in _FIELD_HELP.items()
        )
    )


@command.command("add")
@click.argument("slug")
@_field_options("name", "timezone", "currency")
@dry_run_option
@actor_option
@json_option
def add(slug: str, dry_run: bool, actor: str, as_json: bool, **options: str | None) -> None:
    """Add a shop. SLUG is its name in webhook addresses: a-z, 0-9 and '-', at most 40.

    \b
    Example: fleet shops add harbour --name Harbour --timezone America/Vancouver --currency CAD
    """
    fields = {field: value for field, value in options.items() if value is not None}
    with transaction_or_plan(dry_run=dry_run) as tx:
        shop = add_shop(tx, slug=slug, now=utc_now(), **fields, **audit_author(actor))
    if as_json:
        print_json(to_document(shop))
    elif dry_run:
        print_fields(f"Would add shop {shop.slug}", fields)
    else:
        click.echo(
            f"Added shop {shop.slug}. Next, for a shop at Shopify: fleet shops connect {shop.slug}\n"
            f"To try it without one: fleet shops secret {shop.slug} shopify-webhook --generate"
        )


@command.command("list")
@json_option
def print_shops(as_json: bool) -> None:
    """List every shop.

    \b
    Example: fleet shops list --json
    """
    with transaction() as tx:
        shops = list_shops(tx)
    columns = {
        "slug": "slug",
        "name": "name",
        "zone": "timezone",
        "currency": "currency",
        "owner": "owner_email",
        "shopify": "shopify_domain",
        "stock": "stock_owner",
    }
    empty = "No shops yet: fleet shops add <slug> --name ... --timezone ... --currency ..."
    print_list("", columns, shops, [to_document(shop) for shop in shops], empty, as_json=as_json)


@command.command("show")
@shop_argument
@json_option
def show(slug: str, as_json: bool) -> None:
    """Show a shop's settings, the names of its secrets, and the state of its mail connections.

    \b
    Example: fleet shops show harbour
    """
    with transaction() as tx:
        shop = get_shop(tx, slug)
        secrets = list_secret_states(tx, shop.id, utc_now())
        lines = list_shop_lines(tx, shop.id, slug)
    if as_json:
        lists = {"secrets": secrets, "connections": lines}
        documents = {name: [to_document(one) for one in found] for name, found in lists.items()}
        print_json(to_document(shop) | documents)
        return
    print_fields(f"Shop {shop.slug}", to_document(shop))
    empty = f"No secrets yet: fleet shops secret {slug} shopify-webhook --stdin"
    columns = ("name", "recorded", "previous valid until", "last used", "previous last used")
    rows = [
        (*one[:3], one.used_at or "never", one.previous_used_at or ("never" if one.previous_until else None))
        for one in secrets
    ]
    print_table("Secrets", columns, rows, empty)
    print_connections("Connections", lines)


@command.command("set")
@shop_argument
@click.argument("changes", nargs=-1, metavar="[FIELD=VALUE]...")
@_field_options()
@incident_option
@force_option
@dry_run_option
@actor_option
@json_option
def set_fields(
    slug: str,
    changes: tuple[str, ...],
    incident: int | None,
    force: bool,
    dry_run: bool,
    actor: str,
    as_json: bool,
    **options: str | None,
) -> None:
    """Change a shop's fields, as options or as field=value.

    --stock-owner shopfleet: levels counted with `fleet stock count` belong to Shopfleet and are pushed.
    --stock-owner shopify: every level follows Shopify and nothing is pushed. --stock-owner pool:NAME: the
    shop shares its stock with the other shops of the pool (`fleet stock pool`). If the shop has a token,
    --shopify-domain is compared with Shopify's answer; webhooks may still have the previous domain.
    --exchange-rates adds the given pairs or replaces their rates. A change after which costs of this month
    do not count against a limit any more asks first; --dry-run names these costs.

    \b
    Example: fleet shops set harbour --owner-email owner@harbour.example
    """
    pairs = _read_pairs(changes, "field=value, such as currency=CAD")
    wanted = {field: value for field, value in options.items() if value is not None}
    wanted |= {field.replace("-", "_"): value for field, value in pairs.items()}
    if not wanted:
        raise click.UsageError(f"nothing to change: name at least one of {', '.join(FIELDS)}")
    if wanted.get("shopify_domain") and (warning := compare_domain(slug, wanted["shopify_domain"])):
        click.echo(warning, err=True)
    with transaction_or_plan(dry_run=True) as tx:  # no lock while a person answers
        *_, left = change_shop(tx, slug, wanted, utc_now(), **audit_author(actor))
    if left and not dry_run:
        confirm(f"{'; '.join(left)}: no rate would be stated. Change it?", force=force)
    with transaction_or_plan(dry_run=dry_run) as tx:
        author = audit_author(actor)
        before, shop, left = change_shop(tx, slug, wanted, utc_now(), **author)
        link_incident(tx, incident, f"changed {', '.join(wanted)} of {slug}", now=utc_now(), **author)
    for one in left:
        state = "would be" if dry_run else "is"
        click.echo(f"{one}: no rate {state} stated", err=True)
    if "stock_owner" in wanted and not dry_run:
        with transaction() as tx:
            released = release_levels(tx, shop.id, utc_now(), **audit_author(actor))
        if released:
            what = format_count(released, "level follows", "levels follow")
            click.echo(f"{what} Shopify from now on: counted before, or in a pool", err=True)
    if as_json:
        print_json(to_document(shop))
    else:
        click.echo(_describe_change(before, shop, dry_run=dry_run))
        if not dry_run and shop.stock_owner.startswith(OF_POOL) and shop.stock_owner != before.stock_owner:
            pool = shop.stock_owner.removeprefix(OF_POOL)
            click.echo(f"Next, after each shop joined it: fleet stock pool {pool} --all --dry-run")


for one in (connect, costs, import_shops, record_shop_cost, remove, secret):
    command.add_command(one)


@command.command("staff")
@shop_argument
@click.argument("names", nargs=-1, metavar="[NUMBER=NAME]...")
@dry_run_option
@actor_option
@json_option
def staff(slug: str, names: tuple[str, ...], dry_run: bool, actor: str, as_json: bool) -> None:
    """Set the names of staff by Shopify's number, for the weekly digest; NUMBER= removes a name.

    \b
    Example: fleet shops staff harbour 4711=Dana 4712="Miguel O."
    """
    pairs = _read_pairs(names, "NUMBER=NAME, such as 4711=Dana")
    wanted = {number: name.strip() for number, name in pairs.items()}
    with transaction_or_plan(dry_run=dry_run) as tx:
        known = record_staff(tx, slug, wanted, utc_now(), **audit_author(actor))
    if as_json:
        print_json(known)
        return
    title = f"Staff of {slug}" + (" (would be)" if dry_run else "")
    print_table(title, ("number", "name"), sorted(known.items()), "No staff has a name yet.")


def _read_pairs(pairs: tuple[str, ...], form: str) -> dict[str, str]:
    if wrong := [pair for pair in pairs if "=" not in pair]:
        raise click.UsageError(f"{wrong[0]!r} should be {form}")
    return {name.strip(): value for name, _, value in (pair.partition("=") for pair in pairs)}


def _describe_change(before: Shop, after: Shop, *, dry_run: bool) -> str:
    verb = "would change " if dry_run else ""
    changed = [
        f"{verb}{field}: {getattr(before, field) or '-'} -> {getattr(after, field) or '-'}"
        for field in FIELDS
        if getattr(before, field) != getattr(after, field)
    ]
    return "\n".join(changed) if changed else f"{after.slug} has these values already: nothing changed."
