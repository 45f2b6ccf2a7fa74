"""``fleet shops secret``: record, rotate or restore a secret of a shop."""

import sys
from datetime import timedelta
from pathlib import Path

import click

from services.cli.base import (
    ReportingCommand,
    actor_option,
    audit_author,
    dry_run_option,
    json_option,
    new_request_id,
    operator_label,
    shop_argument,
)
from services.cli.incident_link import incident_option, link_incident
from services.cli.output import print_json, to_document
from services.cli.params import INPUT_FILE, SECRET, ParsedType
from services.core.clock import utc_now
from services.core.db import transaction_or_plan
from services.core.durations import parse_duration
from services.core.times import format_time
from services.providers.provider import SecretKind
from services.providers.registry import SECRET_KINDS, SOURCE_KINDS
from services.shopify.uninstall import record_installed
from services.shops.secrets import list_secret_states, record_secret, restore_secret
from services.shops.shops import get_shop

_GENERATED = ", ".join(
    [name for name, kind in SECRET_KINDS.items() if kind.make_value]
    + [f"{prefix}<source>" for prefix, kind in SOURCE_KINDS.items() if kind.make_value]
)


@click.command("secret", cls=ReportingCommand)
@shop_argument
@click.argument("kind", type=SECRET, metavar="NAME")
@click.option(
    "--from-file",
    "file",
    type=INPUT_FILE,
    help="Read the secret from a file; - reads standard input.",
)
@click.option("--stdin", "file", flag_value="-", help="The same as --from-file -")
@click.option("--generate", is_flag=True, help=f"Generate the secret and print it once; only {_GENERATED}.")
@click.option("--restore", is_flag=True, help="Use the secret again that was retired in the last 7 days.")
@click.option(
    "--previous-valid-for",
    "--keep-previous",
    "previous_valid_for",
    type=ParsedType("duration", parse_duration),
    help="How long the replaced secret stays valid, such as 24h; 0: not at all.",
)
@incident_option
@dry_run_option
@actor_option
@json_option
def secret(
    slug: str,
    kind: SecretKind,
    file: Path | str | None,
    generate: bool,
    restore: bool,
    previous_valid_for: timedelta | None,
    incident: int | None,
    dry_run: bool,
    actor: str,
    as_json: bool,
) -> None:
    """Record or rotate a secret of a shop. It is encrypted at once and never shown again.

    Without --previous-valid-for a replaced webhook secret stays valid for 24 h, and a token not at all.

    \b
    Example: fleet shops secret harbour shopify-webhook --from-file secret.txt
    """
    if restore:
        _restore(slug, kind, actor, incident, dry_run=dry_run)
        return
    value = _take_value(kind, file, generate=generate)
    now, by, request_id = utc_now(), operator_label(actor), new_request_id()
    with transaction_or_plan(dry_run=dry_run) as tx:
        shop = get_shop(tx, slug)
        is_new = record_secret(
            tx, shop.id, kind.name, value, now, previous_valid_for, by=by, request_id=request_id
        )
        text = f"{'recorded' if is_new else 'has already'} {kind.name} of {slug}"
        link_incident(tx, incident, text, now=now, by=by, request_id=request_id)
        state = next(state for state in list_secret_states(tx, shop.id, now) if state.name == kind.name)
    if as_json:
        document = {"slug": slug, "changed": is_new and not dry_run, **to_document(state)}
        print_json(document | ({"value": value} if generate and not dry_run else {}))
        return
    verb = "Would record" if dry_run else "Recorded"
    text = f"{verb} {kind.name} of {slug}." if is_new else f"{kind.name} of {slug} has this value already."
    if state.previous_until:
        text += f" The previous one is valid until {format_time(state.previous_until)}."
    if generate and not dry_run:
        click.echo(value)
    click.echo(text, err=generate)


def _restore(slug: str, kind: SecretKind, actor: str, incident: int | None, *, dry_run: bool) -> None:
    author = audit_author(actor)
    with transaction_or_plan(dry_run=dry_run) as tx:
        shop = get_shop(tx, slug)
        if not restore_secret(tx, shop.id, kind.name, utc_now(), **author):
            raise click.ClickException(
                f"{slug} has no retired {kind.name}, or has a current one: `fleet shops show {slug}`"
            )
        if kind.name == "shopify-token":
            record_installed(tx, shop.id, utc_now())
        link_incident(tx, incident, f"restored {kind.name} of {slug}", now=utc_now(), **author)
    click.echo(f"{kind.name} of {slug} {'would be' if dry_run else 'is'} in use again.")


def _take_value(kind: SecretKind, file: Path | str | None, *, generate: bool) -> str:
    if file and generate:
        raise click.UsageError("--from-file and --generate exclude each other")
    if generate:
        return kind.generate()
    if file and not (str(file) == "-" and sys.stdin.isatty()):
        with click.open_file(str(file), encoding="utf-8-sig", errors="replace") as lines:
            return str(lines.read(8192)).strip()
    if sys.stdin.isatty():
        return str(click.prompt(f"{kind.name} ({kind.description})", hide_input=True, err=True))
    sources = "--from-file, --stdin or --generate" if kind.make_value else "--from-file or --stdin"
    raise click.UsageError(f"choose the source of {kind.name}: {sources}")


_names = "; ".join(f"{kind.name} ({kind.description})" for kind in SECRET_KINDS.values())
_by_source = ", ".join(f"{prefix}<source>" for prefix in SOURCE_KINDS)
secret.epilog = f"Names: {_names}; {_by_source}."
