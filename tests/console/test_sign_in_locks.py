"""Locks of sign-in: what shares one, where wrong passwords are counted, links, and the audit."""

import pytest
from sqlalchemy import Engine, text

from services.accounts.sign_in_locks import MAX_FAILURES
from services.core.db import transaction
from tests.console.people import PASSWORD, make_console, read_csrf_token
from tests.console.test_sign_in import ADA, add_with_password, list_actions, post, sign_in

NEW = "another long password"


@pytest.mark.parametrize(
    "form", ["ada@\uff45xample.com", "ADA@EXAMPLE.COM", " ada@example.com ", "ada@Example.com"]
)
def test_all_forms_of_an_email_share_the_lock_of_the_account(engine: Engine, form: str) -> None:
    client = make_console(engine)
    add_with_password(client)
    for _ in range(MAX_FAILURES["account"]):
        sign_in(client, form, "wrong")

    assert sign_in(client).location is None
    assert "locked" in sign_in(client, form).text


def test_the_old_password_is_locked_on_the_page_that_changes_it(engine: Engine) -> None:
    client = make_console(engine)
    add_with_password(client)
    sign_in(client)
    token = read_csrf_token(client)

    def change(old: str, new: str = NEW) -> str:
        values = {"password": old, "new_password": new, "new_password_confirm": new, "csrf_token": token}
        answer = client.post("/account/password", data=values)
        return answer.location or answer.text

    for _ in range(MAX_FAILURES["account"]):
        assert "locked" not in change(PASSWORD, "short"), "a short new password is no wrong old one"
    for _ in range(MAX_FAILURES["account"]):
        assert "The password is wrong" in change("wrong")
    assert "locked" in change(PASSWORD)


def test_an_account_gets_three_links_an_hour_and_the_answer_stays_the_same(engine: Engine) -> None:
    client = make_console(engine)
    add_with_password(client)

    answers = [post(client, "/sign-in/forgot", email=ADA) for _ in range(MAX_FAILURES["link"] + 2)]

    assert len({(one.status_code, one.text.count("on its way")) for one in answers}) == 1
    with transaction() as tx:
        sent = "select count(*) from mail_outbox where subject like 'Set a%'"
        assert tx.execute(text(sent)).scalar_one() == MAX_FAILURES["link"]
        tx.execute(text("update sign_in_locks set locked_until = now() - interval '1 second'"))
    post(client, "/sign-in/forgot", email=ADA)
    with transaction() as tx:
        assert tx.execute(text(sent)).scalar_one() == MAX_FAILURES["link"] + 1


@pytest.mark.parametrize(
    ("addresses", "is_locked"),
    [
        ([f"2001:db8::{at:x}" for at in range(20)], True),
        ([f"2001:db8:0:{at:x}::1" for at in range(20)], False),
        ([f"::ffff:198.51.100.{at}" for at in range(20)], False),
    ],
)
def test_addresses_of_one_ipv6_network_share_a_lock(
    engine: Engine, addresses: list[str], is_locked: bool
) -> None:
    client = make_console(engine)
    token = read_csrf_token(client, "/sign-in/forgot")

    for at, address in enumerate([*addresses, addresses[0]]):
        values = {"csrf_token": token, "email": f"u{at}@example.com", "password": "x"}
        peer = {"REMOTE_ADDR": address}
        answer = client.post("/sign-in", data=values, environ_overrides=peer)

    assert ("It opens again" in answer.text) == is_locked


def test_the_lock_of_an_account_is_audited_once_and_not_of_an_unknown_one(engine: Engine) -> None:
    client = make_console(engine)
    add_with_password(client)
    for email in (ADA, "nobody@example.com"):
        for _ in range(MAX_FAILURES["account"] + 2):
            sign_in(client, email, "wrong")

    assert list_actions().count("user.locked") == 1
