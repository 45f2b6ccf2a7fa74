"""API tokens of people: shown once, hashed at rest, with a role and an end."""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Unpack

from sqlalchemy import Connection, Row, Select, delete, insert, select, update

from services.accounts.people import find_access
from services.accounts.roles import Access, Role, parse_role
from services.accounts.sessions import hash_token
from services.accounts.tables import api_tokens
from services.audit.append import Author, Mutation, append_change
from services.core.errors import InputInvalid

PREFIX = "sf_"
"""Every token begins with it, so that scanners of source code find a leaked one."""
_LAST_ID = 2**31 - 1
LONGEST = timedelta(days=366)
_USED_EVERY = timedelta(minutes=1)


def create_token(
    tx: Connection, owner: Access, name: str, role: Role, valid_for: timedelta, **author: Unpack[Author]
) -> str:
    """Record a token of ``owner`` with at most ``role``; return it. It cannot be read again.

    Raises ``InputInvalid`` for an empty name, a role above the owner's, and a validity beyond ``LONGEST``.
    """
    if not name.strip():
        raise InputInvalid("name is empty: it should say what uses the token")
    if not name.isprintable():
        raise InputInvalid(f"name={name!r} should have no control characters")
    if role > owner.highest:
        raise InputInvalid(f"role={role.title!r} is above your own, {owner.highest.title}")
    if not timedelta() < valid_for <= LONGEST:
        raise InputInvalid(
            f"valid_for={valid_for.total_seconds():g} s should be more than 0 and at most {LONGEST.days} days"
        )
    token, now = PREFIX + secrets.token_urlsafe(32), author["now"]
    row = {
        "user_id": owner.user_id,
        "name": name.strip(),
        "token_hash": hash_token(token),
        "role": role.title,
    }
    made = insert(api_tokens).values(row | {"created_at": now, "ends_at": now + valid_for})
    token_id = tx.execute(made.returning(api_tokens.c.id)).scalar_one()
    summary = f"created the API token {name.strip()!r} with the role {role.title}"
    mutation = Mutation("api_tokens", str(token_id), summary, None, {"role": role.title})
    append_change(tx, "token.create", {None: [mutation]}, **author)
    return token


def find_token_access(tx: Connection, token: str, address: str, now: datetime) -> Access | None:
    """Return what the holder of ``token`` may do, and record its use; None for an unknown or ended one."""
    if not token.startswith(PREFIX):
        return None
    table = api_tokens.c
    is_this = table.token_hash == hash_token(token)
    found = tx.execute(select(api_tokens).where(is_this)).one_or_none()
    if found is None or now >= found.ends_at:
        return None
    access = find_access(tx, found.user_id)
    if access is None:
        return None
    if found.used_at is None or now - found.used_at >= _USED_EVERY:
        tx.execute(update(api_tokens).where(is_this).values(used_at=now, used_from=address))
    return access.limited_to(parse_role(found.role))


def list_tokens(tx: Connection, user_id: int) -> Sequence[Row[Any]]:
    """Return the tokens of a person, the newest first, without their hashes."""
    table = api_tokens.c
    shown = (
        table.id,
        table.name,
        table.role,
        table.created_at,
        table.ends_at,
        table.used_at,
        table.used_from,
    )
    wanted: Select[Any] = select(*shown).where(table.user_id == user_id)
    return tx.execute(wanted.order_by(table.id.desc())).all()


def revoke_token(tx: Connection, user_id: int, token_id: int, **author: Unpack[Author]) -> None:
    """Delete a token of a person; raise ``InputInvalid`` if they have no such token."""
    table = api_tokens.c
    gone = delete(api_tokens).where(table.user_id == user_id, table.id == token_id).returning(table.name)
    name = tx.execute(gone).scalar() if token_id <= _LAST_ID else None
    if name is None:
        raise InputInvalid(f"there is no API token {token_id} of this person")
    mutation = Mutation("api_tokens", str(token_id), f"revoked the API token {name!r}")
    append_change(tx, "token.revoke", {None: [mutation]}, **author)
