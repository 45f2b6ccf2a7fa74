"""People who may sign in to the console: add, remove, change their role, help them in."""

import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, Unpack

from sqlalchemy import Connection, delete, func, insert, select, update

from services.accounts.emails import parse_email
from services.accounts.mails import record_account_mail
from services.accounts.roles import Access, Role, parse_role
from services.accounts.sessions import end_sessions
from services.accounts.sign_in_locks import Subject, clear_failures, count_failure
from services.accounts.tables import api_tokens, user_passkeys, user_roles, users
from services.audit.append import Author, Mutation, append_change
from services.core.counts import format_count
from services.core.errors import InputInvalid, ShopfleetError, describe_unknown

# Two removals of the last two owners run one after the other: the second one finds the last owner.
_LOCK_OWNERS = "select user_id from user_roles where role = 'owner' and shop_id is null for update"

_FIND_SECRETS = """
select distinct s.slug, k.name from shop_secrets k join shops s on s.id = k.shop_id
 where (%(is_all)s or k.shop_id = any(%(shops)s::int[])) and (k.expires_at is null or k.expires_at > now())
 order by s.slug, k.name
"""

Roles = Mapping[int | None, Role]
ChangeOfRoles = Callable[[Roles], Roles]


class Person(NamedTuple):
    """A person. ``roles`` is by shop; the key None is the whole fleet."""

    id: int
    email: str
    name: str
    roles: Mapping[int | None, Role]
    has_password: bool
    has_codes: bool
    passkeys: int
    created_at: datetime
    signed_in_at: datetime | None


class EndedAccess(NamedTuple):
    """How many sessions and API tokens of a person ended."""

    sessions: int
    tokens: int


def find_access(tx: Connection, user_id: int) -> Access | None:
    """Return what a person may do; None for one who was removed or has no role."""
    person = users.c
    found = select(person.email, person.name).where(person.id == user_id, person.active)
    row = tx.execute(found).one_or_none()
    roles = _read_roles(tx, user_id).get(user_id)
    return Access(user_id, row.email, row.name, roles) if row and roles else None


def list_people(tx: Connection) -> list[Person]:
    """Return all people, by email."""
    roles = _read_roles(tx)
    count = select(func.count()).where(user_passkeys.c.user_id == users.c.id).scalar_subquery()
    found = select(users, count.label("passkeys")).order_by(func.lower(users.c.email))
    return [
        Person(
            row.id,
            row.email,
            row.name,
            roles.get(row.id, {}),
            has_password=row.password is not None,
            has_codes=row.tf_totp_secret is not None,
            passkeys=row.passkeys,
            created_at=row.created_at,
            signed_in_at=row.signed_in_at,
        )
        for row in tx.execute(found)
    ]


def find_user_id(tx: Connection, email: str) -> int | None:
    """Return the id of the person with ``email``, in any case; None if there is none."""
    try:
        email = parse_email(email)
    except InputInvalid:
        return None
    is_this = func.lower(users.c.email) == func.lower(email)
    found: int | None = tx.execute(select(users.c.id).where(is_this)).scalar()
    return found


def get_person(tx: Connection, email: str) -> Person:
    """Return the person with ``email``, in any case; raise ``InputInvalid`` if there is none."""
    user_id, people = find_user_id(tx, email), list_people(tx)
    for one in people:
        if one.id == user_id:
            return one
    raise InputInvalid(f"email={describe_unknown(email, [one.email for one in people], 'fleet users list')}")


def add_person(
    tx: Connection, email: str, name: str, roles: Mapping[int | None, Role], **author: Unpack[Author]
) -> int:
    """Record a person without a password, who needs a link to set one; return the id.

    Raises ``InputInvalid`` for a wrong or taken email and for no role.
    """
    email = parse_email(email)
    if not roles:
        raise InputInvalid("a person needs a role: viewer, operator, admin or owner")
    if find_user_id(tx, email) is not None:
        raise InputInvalid(f"email={email!r} is a person already: `fleet users set` changes the role")
    row = {"email": email, "name": name.strip() or email.partition("@")[0]}
    row |= {"fs_uniquifier": secrets.token_hex(32), "fs_webauthn_user_handle": secrets.token_hex(32)}
    user_id: int = tx.execute(insert(users).values(row).returning(users.c.id)).scalar_one()
    _write_roles(tx, user_id, roles)
    _audit(tx, "user.add", user_id, f"added {email} as {format_roles(roles)}", None, roles, **author)
    return user_id


def change_roles(tx: Connection, person: Person, change: ChangeOfRoles, **author: Unpack[Author]) -> Roles:
    """Replace the roles of a person by what ``change`` makes of the present ones, and return them.

    A person without a role cannot sign in, and the next request of each session is refused. Equal roles
    change nothing.
    The person is locked, so that none of several changes at once is lost. Raises ``ShopfleetError`` if the
    fleet would have no owner.
    """
    tx.execute(select(users.c.id).where(users.c.id == person.id).with_for_update(key_share=True))
    before = _read_roles(tx, person.id).get(person.id, {})
    if (roles := change(before)) == before:
        return roles
    _check_owners(tx, person, roles)
    tx.execute(delete(user_roles).where(user_roles.c.user_id == person.id))
    _write_roles(tx, person.id, roles)
    summary = f"made {person.email} {format_roles(roles)}, before {format_roles(before)}"
    _audit(tx, "user.roles", person.id, summary, before, roles, **author)
    return roles


def remove_person(tx: Connection, person: Person, **author: Unpack[Author]) -> None:
    """Delete a person, their sessions, passkeys and tokens; raise ``ShopfleetError`` for the last owner."""
    _check_owners(tx, person, {})
    tx.execute(delete(users).where(users.c.id == person.id))
    clear_failures(tx, Subject("account", person.email))
    _audit(tx, "user.remove", person.id, f"removed {person.email}", person.roles, None, **author)


def unlock_person(tx: Connection, person: Person, **author: Unpack[Author]) -> bool:
    """End the lock of a person's sign-in; return whether there was one, or failed sign-ins."""
    was_locked = clear_failures(tx, Subject("account", person.email))
    if was_locked:
        _audit(tx, "user.unlock", person.id, f"unlocked the sign-in of {person.email}", None, None, **author)
    return was_locked


def count_sign_in_failure(tx: Connection, email: str, address: str, **author: Unpack[Author]) -> None:
    """Count a wrong password or code of ``email`` from ``address``; audit the lock of an existing account."""
    now = author["now"]
    is_locked = count_failure(tx, [Subject("account", email)], now) is not None
    count_failure(tx, [Subject("address", address)], now)
    user_id = find_user_id(tx, email) if is_locked else None
    if user_id is not None:
        summary = f"locked the sign-in after wrong passwords or codes, the last from {address}"
        _audit(tx, "user.locked", user_id, summary, None, None, **author)


def end_access(tx: Connection, user_id: int) -> EndedAccess:
    """End the sessions of a person and delete their API tokens; return how many."""
    tokens = tx.execute(delete(api_tokens).where(api_tokens.c.user_id == user_id)).rowcount
    return EndedAccess(end_sessions(tx, user_id), tokens)


def use_code(tx: Connection, user_id: int, step: int) -> bool:
    """Record the one-time code of half minute ``step`` as used; return False if it or a later one was."""
    table = users.c
    is_later = (table.last_code_step.is_(None)) | (table.last_code_step < step)
    used = update(users).where(table.id == user_id, is_later).values(last_code_step=step)
    return bool(tx.execute(used).rowcount)


def reset_mfa(tx: Connection, person: Person, **author: Unpack[Author]) -> EndedAccess:
    """Delete second factors and the link to single sign-on, end sessions and API tokens, and mail them."""
    empty = {"tf_primary_method": None, "tf_totp_secret": None, "mf_recovery_codes": None}
    empty |= {"oidc_issuer": None, "oidc_subject": None}
    tx.execute(update(users).where(users.c.id == person.id).values(empty))
    tx.execute(delete(user_passkeys).where(user_passkeys.c.user_id == person.id))
    ended = end_access(tx, person.id)
    summary = f"reset the second factors of {person.email}; {format_ended(ended)}"
    _audit(tx, "user.reset_mfa", person.id, summary, None, None, **author)
    now = author["now"]
    record_account_mail(tx, "factors_reset", person.email, now, reference=now.isoformat())
    return ended


def list_readable_secrets(tx: Connection, person: Person) -> list[tuple[str, str]]:
    """Return shop and name of each secret in use at the shops where a person is admin or owner."""
    shops = [shop for shop, role in person.roles.items() if role >= Role.ADMIN]
    values = {"is_all": None in shops, "shops": [shop for shop in shops if shop is not None]}
    return [(row.slug, row.name) for row in tx.exec_driver_sql(_FIND_SECRETS, values)]


def format_ended(ended: EndedAccess) -> str:
    """Return a text such as ``1 session and 2 API tokens end``."""
    return f"{format_count(ended.sessions, 'session')} and {format_count(ended.tokens, 'API token')} end"


def format_roles(roles: Mapping[int | None, Role]) -> str:
    """Return roles such as ``operator`` or ``viewer at 2 shops``."""
    counts = Counter(role for shop, role in roles.items() if shop is not None)
    parts = [roles[None].title] if None in roles else []
    parts += [f"{role.title} at {format_count(count, 'shop')}" for role, count in counts.items()]
    return ", ".join(parts) or "no role"


def _check_owners(tx: Connection, person: Person, after: Mapping[int | None, Role]) -> None:
    owners = set(tx.exec_driver_sql(_LOCK_OWNERS).scalars())
    if owners == {person.id} and after.get(None) is not Role.OWNER:
        raise ShopfleetError(
            f"{person.email} is the last owner: make another person an owner first, "
            "with `fleet users set EMAIL --role owner`"
        )


def _read_roles(tx: Connection, user_id: int | None = None) -> dict[int, dict[int | None, Role]]:
    found: dict[int, dict[int | None, Role]] = {}
    wanted = (
        select(user_roles) if user_id is None else select(user_roles).where(user_roles.c.user_id == user_id)
    )
    for row in tx.execute(wanted):
        found.setdefault(row.user_id, {})[row.shop_id] = parse_role(row.role)
    return found


def _write_roles(tx: Connection, user_id: int, roles: Mapping[int | None, Role]) -> None:
    rows = [{"user_id": user_id, "shop_id": shop, "role": role.title} for shop, role in roles.items()]
    if rows:
        tx.execute(insert(user_roles), rows)


def _audit(
    tx: Connection,
    action: str,
    user_id: int,
    summary: str,
    before: Mapping[int | None, Role] | None,
    after: Mapping[int | None, Role] | None,
    **author: Unpack[Author],
) -> None:
    mutation = Mutation("users", str(user_id), summary, _plain(before), _plain(after))
    append_change(tx, action, {None: [mutation]}, **author)


def _plain(roles: Mapping[int | None, Role] | None) -> dict[str, Any] | None:
    if roles is None:
        return None
    return {"roles": {"fleet" if shop is None else str(shop): role.title for shop, role in roles.items()}}
