"""``fleet users``: people who sign in to the console."""

from collections.abc import Mapping
from typing import Any

import click

from services.accounts.emails import parse_email
from services.accounts.people import (
    Person,
    Roles,
    add_person,
    change_roles,
    format_ended,
    format_roles,
    get_person,
    list_people,
    list_readable_secrets,
    remove_person,
    reset_mfa,
    unlock_person,
)
from services.accounts.roles import ABOUT, ROLE_NAMES, Role, parse_role
from services.alerts.people import release_incidents
from services.cli.base import (
    CommandGroup,
    actor_option,
    add_options,
    audit_author,
    confirm,
    dry_run_option,
    find_shop_id,
    force_option,
    json_option,
)
from services.cli.output import Columns, print_json, print_list
from services.cli.params import PERSON, SHOP
from services.cli.users_token import token
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction, transaction_or_plan
from services.shops.shops import find_slugs

_ROLES = "; ".join(f"{role.title} {text}" for role, text in ABOUT.items())
_NONE = "none"
_role_option = click.option("--role", type=click.Choice(ROLE_NAMES), required=True, help=f"{_ROLES}.")
_role_or_none_option = click.option(
    "--role",
    type=click.Choice((*ROLE_NAMES, _NONE)),
    required=True,
    help=f"{_ROLES}; {_NONE} takes the role away.",
)
_at_shop_option = click.option(
    "--shop", type=SHOP, default="", help="Only at this shop (its slug); default: the whole fleet."
)
_change_options = add_options(dry_run_option, actor_option, json_option)


@click.group(cls=CommandGroup)
def command() -> None:
    """Add, list and remove the people who sign in to the console.

    \b
    Example: fleet users add ada@example.com --role owner
    """


command.add_command(token)


@command.command("add")
@click.argument("email")
@click.option("--name", default="", help="How the console shows the person; default: the part before the @.")
@_role_option
@_at_shop_option
@click.option("--mail", "is_mailed", is_flag=True, help="Mail the link to the person.")
@_change_options
def add(
    email: str, name: str, role: str, shop: str, is_mailed: bool, dry_run: bool, actor: str, as_json: bool
) -> None:
    """Add a person, and print a link to set a password. It works once, within an hour.

    \b
    Example: fleet users add ada@example.com --role operator --shop harbour
    """
    email = parse_email(email)
    with transaction_or_plan(dry_run=dry_run) as tx:
        roles = {find_shop_id(tx, shop) if shop else None: parse_role(role)}
        add_person(tx, email, name, roles, now=utc_now(), **audit_author(actor))
    link = "" if dry_run else _make_link(email, actor, is_mailed=is_mailed)
    document = {"email": email, "role": role, "shop": shop or None, "link": link, "changed": not dry_run}
    verb = "Would add" if dry_run else "Added"
    at_shop = f" at {shop}" if shop else ""
    _report(f"{verb} {email} as {role}{at_shop}.", document, link, as_json=as_json)


@command.command("link")
@click.argument("email", type=PERSON)
@click.option("--mail", "is_mailed", is_flag=True, help="Mail the link to the person.")
@_change_options
def link(email: str, is_mailed: bool, dry_run: bool, actor: str, as_json: bool) -> None:
    """Print a link with which a person sets a new password. It works once, within an hour.

    \b
    Example: fleet users link ada@example.com --mail
    """
    with transaction() as tx:
        person = get_person(tx, email)
    made = "" if dry_run else _make_link(person.email, actor, is_mailed=is_mailed)
    document = {"email": person.email, "link": made, "changed": not dry_run}
    verb = "would set" if dry_run else "sets"
    _report(f"{person.email} {verb} a password with this link.", document, made, as_json=as_json)


@command.command("list")
@json_option
def print_people(as_json: bool) -> None:
    """List the people, their roles and second factors.

    \b
    Example: fleet users list
    """
    with transaction() as tx:
        people, slugs = list_people(tx), find_slugs(tx)
    columns: Columns = {
        "email": "email",
        "name": "name",
        "role": lambda one: _name_roles(one.roles, slugs),
        "password": lambda one: "set" if one.has_password else "not set",
        "second factor": _name_factors,
        "last sign-in": "signed_in_at",
    }
    documents = [one._asdict() | {"roles": _plain_roles(one.roles, slugs)} for one in people]
    print_list(
        "", columns, people, documents, "Nobody yet: fleet users add EMAIL --role owner", as_json=as_json
    )


@command.command("set")
@click.argument("email", type=PERSON)
@_role_or_none_option
@_at_shop_option
@_change_options
def set_role(email: str, role: str, shop: str, dry_run: bool, actor: str, as_json: bool) -> None:
    """Change the role of a person, in the whole fleet or at one shop; roles at other shops stay.

    Sessions and API tokens have the new role at once. A person without any role cannot sign in.

    \b
    Examples:
      fleet users set ada@example.com --role admin
      fleet users set ada@example.com --role none --shop harbour
    """
    with transaction_or_plan(dry_run=dry_run) as tx:
        person = get_person(tx, email)
        place = find_shop_id(tx, shop)
        added = {} if role == _NONE else {place: parse_role(role)}

        def change(present: Roles) -> Roles:
            return {at: held for at, held in present.items() if at != place} | added

        roles = change_roles(tx, person, change, now=utc_now(), **audit_author(actor))
    verb = "would be" if dry_run else "is"
    document: dict[str, object] = {"email": person.email, "role": role, "shop": shop or None}
    document["changed"] = roles != person.roles and not dry_run
    held = format_roles(roles) if roles else "without a role and cannot sign in"
    _report(f"{person.email} {verb} {held}.", document, as_json=as_json)


@command.command("remove")
@click.argument("email", type=PERSON)
@force_option
@_change_options
def remove(email: str, force: bool, dry_run: bool, actor: str, as_json: bool) -> None:
    """Remove a person: their sessions and API tokens end at once. Lists the secrets that they could read.

    Open incidents that the person holds have no holder afterwards.

    \b
    Example: fleet users remove ada@example.com --dry-run
    """
    with transaction() as tx:
        person = get_person(tx, email)
        secrets = list_readable_secrets(tx, person)
    confirm(f"Remove {person.email}, {format_roles(person.roles)}?", force=force or dry_run)
    with transaction_or_plan(dry_run=dry_run) as tx:
        author: dict[str, Any] = {"now": utc_now(), **audit_author(actor)}
        remove_person(tx, person, **author)
        released = release_incidents(tx, person.email, f"{person.email} was removed", **author)
    commands = [f"fleet shops secret {shop} {name}" for shop, name in secrets]
    document = {"email": person.email, "rotate": commands, "incidents": released, "changed": not dry_run}
    _report(f"{'Would remove' if dry_run else 'Removed'} {person.email}.", document, as_json=as_json)
    if released and not as_json:
        ids = " ".join(map(str, released))
        click.echo(f"These incidents have no holder now. To take them: fleet incidents ack {ids}")
    if commands and not as_json:
        click.echo("They could read these secrets. Rotate each:")
        click.echo("\n".join(f"  {one}" for one in commands))


@command.command("unlock")
@click.argument("email", type=PERSON)
@_change_options
def unlock(email: str, dry_run: bool, actor: str, as_json: bool) -> None:
    """End the lock of a person's sign-in, which else ends by itself after 15 minutes.

    \b
    Example: fleet users unlock ada@example.com
    """
    with transaction_or_plan(dry_run=dry_run) as tx:
        person = get_person(tx, email)
        was_locked = unlock_person(tx, person, now=utc_now(), **audit_author(actor))
    text = "has no failed sign-ins" if not was_locked else "would be unlocked" if dry_run else "is unlocked"
    document = {"email": person.email, "changed": was_locked and not dry_run}
    _report(f"{person.email} {text}.", document, as_json=as_json)


@command.command("reset-mfa")
@click.argument("email", type=PERSON)
@force_option
@_change_options
def reset(email: str, force: bool, dry_run: bool, actor: str, as_json: bool) -> None:
    """Delete a person's one-time codes, recovery codes and passkeys, and end their sessions and API tokens.

    \b
    Example: fleet users reset-mfa ada@example.com --dry-run
    """
    with transaction() as tx:
        person = get_person(tx, email)
    confirm(f"Reset the second factors of {person.email}?", force=force or dry_run)
    with transaction_or_plan(dry_run=dry_run) as tx:
        ended = reset_mfa(tx, person, now=utc_now(), **audit_author(actor))
    verb = "would be deleted" if dry_run else "are deleted"
    document: dict[str, object] = {"email": person.email, "sessions_ended": ended.sessions}
    document |= {"tokens_ended": ended.tokens, "changed": not dry_run}
    _report(f"The second factors of {person.email} {verb}; {format_ended(ended)}.", document, as_json=as_json)


def _make_link(email: str, actor: str, *, is_mailed: bool) -> str:
    from services.console.links import make_password_link

    return make_password_link(email, is_mailed=is_mailed, now=utc_now(), **audit_author(actor))


def _report(text: str, document: Mapping[str, object], link: str = "", *, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    click.echo(f"{text} The link works once, within an hour:\n{link}" if link else text)


def _name_roles(roles: Mapping[int | None, Role], slugs: Mapping[int, str]) -> str:
    named = _plain_roles(roles, slugs)
    return (
        ", ".join(role if shop == "fleet" else f"{role} at {shop}" for shop, role in named.items()) or "none"
    )


def _plain_roles(roles: Mapping[int | None, Role], slugs: Mapping[int, str]) -> dict[str, str]:
    return {
        "fleet" if shop is None else slugs.get(shop, str(shop)): role.title for shop, role in roles.items()
    }


def _name_factors(one: Person) -> str:
    passkeys = format_count(one.passkeys, "passkey") if one.passkeys else ""
    return ", ".join(filter(None, ["codes" if one.has_codes else "", passkeys])) or "none"
