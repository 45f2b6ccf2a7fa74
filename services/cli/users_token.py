"""``fleet users token``: an API token of a person, for scripts and for the shop floor."""

from datetime import timedelta

import click

from services.accounts.api_tokens import create_token
from services.accounts.people import find_access, get_person
from services.accounts.roles import ROLE_NAMES, parse_role
from services.cli.base import ReportingCommand, actor_option, audit_author, dry_run_option, json_option
from services.cli.output import print_json
from services.cli.params import DURATION, PERSON
from services.core.clock import utc_now
from services.core.db import transaction_or_plan
from services.core.errors import ShopfleetError


@click.command("token", cls=ReportingCommand)
@click.argument("email", type=PERSON)
@click.option("--role", type=click.Choice(ROLE_NAMES), required=True, help="The most that the token may do.")
@click.option(
    "--for", "valid_for", type=DURATION, default="1d", show_default=True, help="How long it is valid, as 8h."
)
@click.option("--name", default="command line", show_default=True, help="What uses the token.")
@dry_run_option
@actor_option
@json_option
def token(
    email: str, role: str, valid_for: timedelta, name: str, dry_run: bool, actor: str, as_json: bool
) -> None:
    """Print a new API token of a person, for the API and for `fleet stages`. It is not shown again.

    \b
    Example: fleet users token ada@example.com --role floor --for 8h
    """
    with transaction_or_plan(dry_run=dry_run) as tx:
        access = find_access(tx, get_person(tx, email).id)
        if access is None:
            raise ShopfleetError(f"{email} has no role: fleet users set {email} --role ROLE")
        author = audit_author(actor)
        made = create_token(tx, access, name, parse_role(role), valid_for, now=utc_now(), **author)
    if as_json:
        print_json({"email": email, "role": role, "token": "" if dry_run else made, "changed": not dry_run})
    else:
        click.echo("A token would be made." if dry_run else made)
