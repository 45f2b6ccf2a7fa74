"""People of an OpenID Connect provider: found by a verified email once, then by the provider's subject."""

from typing import NamedTuple, Unpack

from sqlalchemy import Connection, select, update

from services.accounts.people import find_access, find_user_id
from services.accounts.tables import users
from services.audit.append import Author, Mutation, append_change
from services.core.errors import ShopfleetError


class ProviderIdentity(NamedTuple):
    """Who the provider says signed in. ``email`` is empty unless the provider has verified it."""

    issuer: str
    subject: str
    email: str


class OidcRefused(ShopfleetError):
    """The identity belongs to no person. The text says nothing about which people exist."""

    def __init__(self) -> None:
        super().__init__(
            "Single sign-on knows you, and this console does not, or has another identity for your email. "
            "Ask an owner: `fleet users list` and `fleet users reset-mfa` help."
        )


def find_oidc_user(tx: Connection, identity: ProviderIdentity, **author: Unpack[Author]) -> int:
    """Return the id of the person of ``identity``; the first time by the email, and record the subject.

    No person is created. Raises ``OidcRefused`` for an unknown subject without a verified email of a person,
    for a person who has another subject, and for one without a role.
    """
    table = users.c
    is_this = (table.oidc_issuer == identity.issuer) & (table.oidc_subject == identity.subject)
    found: int | None = tx.execute(select(table.id).where(is_this)).scalar()
    if found is None:
        found = _link(tx, identity, **author)
    if found is None or find_access(tx, found) is None:
        raise OidcRefused
    return found


def _link(tx: Connection, identity: ProviderIdentity, **author: Unpack[Author]) -> int | None:
    user_id = find_user_id(tx, identity.email) if identity.email else None
    if user_id is None:
        return None
    link = update(users).where(users.c.id == user_id, users.c.oidc_subject.is_(None))
    values = {"oidc_issuer": identity.issuer, "oidc_subject": identity.subject}
    if not tx.execute(link.values(values)).rowcount:
        return None
    summary = f"linked {identity.email} to single sign-on of {identity.issuer}"
    append_change(tx, "user.oidc", {None: [Mutation("users", str(user_id), summary)]}, **author)
    return user_id
