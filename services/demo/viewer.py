"""The person with whom a visitor of the demo signs in to its console."""

import secrets
from typing import NamedTuple

from argon2 import PasswordHasher
from sqlalchemy import update

from services.accounts.people import add_person
from services.accounts.roles import Role
from services.accounts.tables import users
from services.core.clock import utc_now
from services.core.db import transaction


class DemoViewer(NamedTuple):
    """A viewer of this demo alone: its fleet is emptied at the next start."""

    email: str
    password: str


def add_viewer() -> DemoViewer:
    """Add the viewer with a random password, and return both."""
    viewer = DemoViewer("viewer@example.com", secrets.token_urlsafe(12))
    with transaction() as tx:
        user_id = add_person(tx, viewer.email, "", {None: Role.VIEWER}, by="demo", now=utc_now())
        tx.execute(
            update(users).where(users.c.id == user_id).values(password=PasswordHasher().hash(viewer.password))
        )
    return viewer
