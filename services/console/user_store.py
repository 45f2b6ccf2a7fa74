"""Flask-Security's view of the tables of people: an ORM mapping for these two tables alone."""

from datetime import datetime
from typing import Any

from flask import Flask, current_app, g
from flask_security import RoleMixin, SQLAlchemySessionUserDatastore, UserMixin, WebAuthnMixin
from sqlalchemy import Connection, Engine, select
from sqlalchemy.orm import Session, registry, relationship, scoped_session, sessionmaker

from services.accounts.people import find_access
from services.accounts.roles import WITHOUT_SECOND_FACTOR
from services.accounts.tables import user_passkeys, users
from services.core.db import get_engine, metadata


class ConsoleUser(UserMixin):
    """A row of ``users``. Roles are not Flask-Security's: see ``services.accounts.roles``."""

    roles: list[RoleMixin] = []  # noqa: RUF012 - never filled
    signed_in_at: datetime | None

    def check_tf_required(
        self,
        tf_setup_methods: list[tuple[str, str]],
        tf_fresh: bool,  # noqa: ARG002 - Flask-Security's signature
    ) -> tuple[bool, list[tuple[str, str]]]:
        """Return whether a password is not enough: there are codes or a passkey, or the role needs them."""
        is_required = bool(tf_setup_methods or self.webauthn) or self.check_tf_required_setup()
        return is_required, tf_setup_methods

    def check_tf_required_setup(self) -> bool:
        access = find_access(orm_connection(), self.id)
        return access is not None and access.highest > WITHOUT_SECOND_FACTOR


class Passkey(WebAuthnMixin):
    """A row of ``user_passkeys``."""


class _NoRole(RoleMixin):
    """Flask-Security asks for a class of roles; there are no rows of it."""


_EXTENSION = "shopfleet_users"

_orm = registry(metadata=metadata)
_orm.map_imperatively(
    ConsoleUser,
    users,
    properties={"webauthn": relationship(Passkey, back_populates="user", cascade="all, delete-orphan")},
)
_orm.map_imperatively(
    Passkey, user_passkeys, properties={"user": relationship(ConsoleUser, back_populates="webauthn")}
)


def orm_connection() -> Connection:
    """Return the connection of this request's changes by Flask-Security, which it commits."""
    return _get_sessions().connection()


def find_console_user(user_id: int) -> ConsoleUser | None:
    """Return the person for Flask-Security."""
    return _get_sessions().get(ConsoleUser, user_id)


def lock_console_user(uniquifier: str) -> ConsoleUser | None:
    """Return the person with ``fs_uniquifier`` as recorded now; the row is locked until the request ends."""
    wanted = select(ConsoleUser).where(users.c.fs_uniquifier == uniquifier).with_for_update(key_share=True)
    return _get_sessions().scalars(wanted.execution_options(populate_existing=True)).one_or_none()


def make_user_store(app: Flask, engine: Engine | None = None) -> Any:
    """Return the datastore for Flask-Security; it has one database session for each request."""
    sessions = scoped_session(sessionmaker(engine or get_engine(), expire_on_commit=False), _find_scope)
    app.extensions[_EXTENSION] = sessions

    @app.teardown_appcontext
    def close(_fault: BaseException | None) -> None:
        sessions.remove()

    return SQLAlchemySessionUserDatastore(sessions, ConsoleUser, _NoRole, Passkey)


def _find_scope() -> int:
    return id(g._get_current_object())


def _get_sessions() -> scoped_session[Session]:
    found: scoped_session[Session] = current_app.extensions[_EXTENSION]
    return found
