"""``fleet shops``: add, list, show and change shops, and record their secrets."""

import sys

import click

from services.cli.base import (
    CommandGroup,
    Decorator,
    actor_option,
    add_options,
    audit_author,
    json_option,
    new_request_id,
    operator_label,
)
from services.cli.mail.route import print_connections
from services.cli.output import format_time, print_fields, print_json, print_list, print_table, to_document
from services.cli.shopify import compare_domain
from services.cli.shops_connect import connect
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.durations import parse_duration
from services.mail.connection_lines import list_shop_lines
from services.providers.provider import SecretKind
from services.providers.registry import SECRET_KINDS, SOURCE_KINDS, get_secret_kind
from services.shopify.stock.count_store import release_levels
from services.shopify.stock.pool_checks import check_joining
from services.shopify.uninstall import record_installed
from services.shops.secrets import list_secret_states, record_secret, restore_secret
from services.shops.shops import FIELDS, OF_POOL, Shop, add_shop, get_shop, list_shops, set_shop
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
@actor_option
@json_option
def add(slug: str, actor: str, as_json: bool, **options: str | None) -> None:
    """Add a shop. SLUG is its name in webhook addresses: a-z, 0-9 and '-', at most 40.

    \b
    Example: fleet shops add harbour --name Harbour --timezone America/Vancouver --currency CAD
    """
    fields = {field: value for field, value in options.items() if value is not None}
    with transaction() as tx:
        shop = add_shop(tx, slug=slug, now=utc_now(), **fields, **audit_author(actor))
    if as_json:
        print_json(to_document(shop))
    else:
        click.echo(f"Added shop {shop.slug}. Next: fleet shops secret {shop.slug} shopify-webhook --stdin")


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
@click.argument("slug")
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
    print_table("Secrets", ("name", "recorded", "previous valid until"), secrets, empty)
    print_connections("Connections", lines)


@command.command("set")
@click.argument("slug")
@click.argument("changes", nargs=-1, metavar="[FIELD=VALUE]...")
@_field_options()
@actor_option
@json_option
def set_fields(slug: str, changes: tuple[str, ...], actor: str, as_json: bool, **options: str | None) -> None:
    """Change a shop's fields, as options or as field=value.

    --stock-owner shopfleet: levels counted with `fleet stock count` belong to Shopfleet and are pushed.
    --stock-owner shopify: every level follows Shopify and nothing is pushed. --stock-owner pool:NAME: the
    shop shares its stock with the other shops of the pool (`fleet stock pool`). If the shop has a token,
    --shopify-domain is compared with Shopify's answer; webhooks may still have the previous domain.

    \b
    Example: fleet shops set harbour --owner-email owner@harbour.example
    """
    pairs = _read_pairs(changes, "field=value, such as currency=CAD")
    wanted = {field: value for field, value in options.items() if value is not None}
    wanted |= {field.replace("-", "_"): value for field, value in pairs.items()}
    if not wanted:
        raise click.UsageError(f"nothing to change: name at least one of {', '.join(FIELDS)}")
    if wanted.get("shopify_domain"):
        compare_domain(slug, wanted["shopify_domain"])
    with transaction() as tx:
        before = get_shop(tx, slug)
        check_joining(tx, before, wanted.get("stock_owner", ""), wanted.get("stock_location_id", ""))
        shop = set_shop(tx, slug, wanted, now=utc_now(), **audit_author(actor))
    if "stock_owner" in wanted:
        with transaction() as tx:
            released = release_levels(tx, shop.id, utc_now(), **audit_author(actor))
        if released:
            what = f"{released} level" + (" follows" if released == 1 else "s follow")
            click.echo(f"{what} Shopify from now on: counted before, or in a pool", err=True)
    if as_json:
        print_json(to_document(shop))
    else:
        click.echo(_describe_change(before, shop))
        if shop.stock_owner.startswith(OF_POOL) and shop.stock_owner != before.stock_owner:
            pool = shop.stock_owner.removeprefix(OF_POOL)
            click.echo(f"Next, after each shop joined it: fleet stock pool {pool} --all --dry-run")


@command.command("secret")
@click.argument("slug")
@click.argument("name")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the secret from standard input.")
@click.option("--generate", is_flag=True, help="Generate a webhook secret and print it once.")
@click.option("--restore", is_flag=True, help="Use the secret again that was retired in the last 7 days.")
@click.option(
    "--previous-valid-for",
    "--keep-previous",
    "previous_valid_for",
    default="",
    help="How long the replaced secret stays valid: 24h, 0.",
)
@actor_option
@json_option
def secret(
    slug: str,
    name: str,
    from_stdin: bool,
    generate: bool,
    restore: bool,
    previous_valid_for: str,
    actor: str,
    as_json: bool,
) -> None:
    """Record or rotate a secret of a shop. It is encrypted at once and never shown again.

    Without --previous-valid-for a replaced webhook secret stays valid for 24 h, and a token not at all.

    \b
    Example: fleet shops secret harbour shopify-webhook --stdin < secret.txt
    """
    kind = get_secret_kind(name)
    if restore:
        _restore(slug, kind, actor)
        return
    keep = parse_duration(previous_valid_for) if previous_valid_for else None
    value = _take_value(kind, from_stdin=from_stdin, generate=generate)
    now, by, request_id = utc_now(), operator_label(actor), new_request_id()
    with transaction() as tx:
        shop = get_shop(tx, slug)
        is_new = record_secret(tx, shop.id, kind.name, value, now, keep, by=by, request_id=request_id)
        state = next(state for state in list_secret_states(tx, shop.id, now) if state.name == kind.name)
    if as_json:
        document = {"slug": slug, "changed": is_new, **to_document(state)}
        print_json(document | ({"value": value} if generate else {}))
        return
    text = f"Recorded {kind.name} of {slug}." if is_new else f"{kind.name} of {slug} has this value already."
    if state.previous_until:
        text += f" The previous one is valid until {format_time(state.previous_until)}."
    if generate:
        click.echo(value)
    click.echo(text, err=generate)


command.add_command(connect)


@command.command("staff")
@click.argument("slug")
@click.argument("names", nargs=-1, metavar="[NUMBER=NAME]...")
@actor_option
@json_option
def staff(slug: str, names: tuple[str, ...], actor: str, as_json: bool) -> None:
    """Set the names of staff by Shopify's number, for the weekly digest; NUMBER= removes a name.

    \b
    Example: fleet shops staff harbour 4711=Dana 4712="Miguel O."
    """
    pairs = _read_pairs(names, "NUMBER=NAME, such as 4711=Dana")
    wanted = {number: name.strip() for number, name in pairs.items()}
    with transaction() as tx:
        known = record_staff(tx, slug, wanted, utc_now(), **audit_author(actor))
    if as_json:
        print_json(known)
        return
    print_table(f"Staff of {slug}", ("number", "name"), sorted(known.items()), "No staff has a name yet.")


def _restore(slug: str, kind: SecretKind, actor: str) -> None:
    with transaction() as tx:
        shop = get_shop(tx, slug)
        if not restore_secret(tx, shop.id, kind.name, utc_now(), **audit_author(actor)):
            raise click.ClickException(
                f"{slug} has no retired {kind.name}, or has a current one: `fleet shops show {slug}`"
            )
        if kind.name == "shopify-token":
            record_installed(tx, shop.id, utc_now())
    click.echo(f"{kind.name} of {slug} is in use again.")


def _take_value(kind: SecretKind, *, from_stdin: bool, generate: bool) -> str:
    if from_stdin and generate:
        raise click.UsageError("--stdin and --generate exclude each other")
    if generate:
        return kind.generate()
    if sys.stdin.isatty():
        return str(click.prompt(f"{kind.name} ({kind.description})", hide_input=True, err=True))
    if not from_stdin:
        raise click.UsageError(f"choose the source of {kind.name}: --stdin or --generate")
    return sys.stdin.read(8192).strip()


def _read_pairs(pairs: tuple[str, ...], form: str) -> dict[str, str]:
    if wrong := [pair for pair in pairs if "=" not in pair]:
        raise click.UsageError(f"{wrong[0]!r} should be {form}")
    return {name.strip(): value for name, _, value in (pair.partition("=") for pair in pairs)}


def _describe_change(before: Shop, after: Shop) -> str:
    changed = [
        f"{field}: {getattr(before, field) or '-'} -> {getattr(after, field) or '-'}"
        for field in FIELDS
        if getattr(before, field) != getattr(after, field)
    ]
    return "\n".join(changed) if changed else f"{after.slug} has these values already: nothing changed."


_names = "; ".join(f"{kind.name} ({kind.description})" for kind in SECRET_KINDS.values())
_by_source = ", ".join(f"{prefix}<source>" for prefix in SOURCE_KINDS)
secret.epilog = f"Names: {_names}; {_by_source}."
