"""Links to set a password, for commands: the console's own, signed with its key."""

from collections.abc import Callable
from typing import Unpack

from flask import Flask, g
from flask_security.recoverable import generate_reset_password_token

from services.accounts.mails import record_account_mail
from services.accounts.people import get_person
from services.audit.append import Author, Mutation, append_change
from services.console.sign_in import init_sign_in
from services.console.sign_in_settings import console_url
from services.console.user_store import find_console_user, orm_connection
from services.core.db import transaction
from services.core.settings import get_settings


def make_password_link(email: str, *, is_mailed: bool = False, **author: Unpack[Author]) -> str:
    """Return a link with which a person sets a password; it works once, within an hour, and is audited.

    ``is_mailed``: it is mailed to the person too. Raises ``InputInvalid`` for an unknown email.
    """
    settings, now = get_settings(), author["now"]
    app = Flask("services.console")
    init_sign_in(app, settings)
    with transaction() as tx:
        person = get_person(tx, email)
    make_token: Callable[[object], str] = generate_reset_password_token
    with app.test_request_context("/"):
        g.address = g.request_id = ""
        user = find_console_user(person.id)
        link = f"{console_url(settings)}/sign-in/forgot/{make_token(user)}"
        orm_connection().rollback()
    with transaction() as tx:
        mutation = Mutation("users", str(person.id), f"made a link to set the password of {person.email}")
        append_change(tx, "user.link", {None: [mutation]}, **author)
    if is_mailed:
        name = "reset_instructions" if person.has_password else "invitation"
        with transaction() as tx:
            record_account_mail(tx, name, person.email, now, reference=now.isoformat(), link=link)
    return link
