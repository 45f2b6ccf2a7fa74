"""Mails and audit of changes in an account, fresh sign-in for dangerous acts, rates, and words."""

import re

import pytest
from flask.testing import FlaskClient
from flask_security.core import _default_messages
from sqlalchemy import Engine, text

from services.accounts.roles import Role
from services.console.auth import DANGEROUS_ROUTES, PUBLIC_ROUTES
from services.console.rates import SIGN_INS_PER_MINUTE, TOKEN_REQUESTS_PER_MINUTE
from services.console.sign_in_settings import FRESH_FOR
from services.console.sign_in_texts import MESSAGES
from services.core.db import transaction
from tests.console.people import make_code, make_console, read_csrf_token, sign_in_as
from tests.console.test_access import fill, list_rules
from tests.console.test_sign_in import add_with_password, list_actions, post, sign_in


def list_subjects() -> list[str]:
    with transaction() as tx:
        return list(tx.execute(text("select subject from mail_outbox order by id")).scalars())


def make_old(client: FlaskClient) -> None:
    """The sign-in of this browser is older than a dangerous act accepts."""
    with client.session_transaction() as session:
        session["fs_paa"] -= FRESH_FOR.total_seconds() + 1


def test_codes_recovery_codes_and_a_used_one_are_mailed_and_audited(engine: Engine) -> None:
    client = make_console(engine)
    add_with_password(client, Role.ADMIN)
    sign_in(client)
    key = re.search(r'"key">([A-Z2-7-]+)<', post(client, "/account/codes", setup="authenticator").text)
    assert key
    post(client, "/sign-in/code", code=make_code(key[1]))
    token = read_csrf_token(client)
    page = client.post("/account/recovery-codes", data={"csrf_token": token, "generate_new_codes": "1"}).text
    codes = re.findall(r"<li><code>([^<]+)</code>", page)
    other = make_console(engine)
    sign_in(other)
    post(other, "/sign-in/recovery-code", code=codes[0])

    assert list_subjects() == [
        "Your password was set by a link",
        "One-time codes were set up for your account",
        "New recovery codes were made for your account",
        "A recovery code was used to sign in to your account",
    ]
    assert list_actions().count("user.codes") == 3
    assert codes[0] not in client.get("/account/recovery-codes?show_codes=1").text


def test_a_sign_in_from_a_new_address_is_mailed_once(engine: Engine) -> None:
    client = make_console(engine)
    add_with_password(client)
    sign_in(client)
    client.post("/sign-out", data={"csrf_token": read_csrf_token(client)})
    with transaction() as tx:
        tx.execute(text("update user_sessions set address = '203.0.113.9'"))
    for _ in range(2):
        again = make_console(engine)
        sign_in(again)
        again.post("/sign-out", data={"csrf_token": read_csrf_token(again)})

    assert list_subjects().count("A sign-in to your account from a new address") == 1


def test_every_dangerous_route_needs_a_new_sign_in_and_refuses_a_token(engine: Engine) -> None:
    client = sign_in_as(make_console(engine), Role.OWNER)
    token = read_csrf_token(client)
    rules = {rule.endpoint: rule for rule in list_rules(client)}
    assert set(DANGEROUS_ROUTES) <= set(rules)
    make_old(client)

    for endpoint in DANGEROUS_ROUTES:
        methods = (rules[endpoint].methods or set()) - {"OPTIONS", "HEAD"}
        for method in methods:
            answer = client.open(fill(rules[endpoint]), method=method, headers={"X-CSRFToken": token})
            if endpoint.startswith("api."):
                assert (answer.status_code, "30 minutes" in answer.text) == (403, True), endpoint
                continue
            assert answer.status_code == 302, (method, endpoint)
            assert answer.location.startswith("/sign-in/again?next=/"), (method, endpoint)


def test_a_change_of_second_factors_is_dangerous(engine: Engine) -> None:
    factors = re.compile(r"^security\.(two_factor_setup|mf_recovery_codes|wan_(register|delete))")
    endpoints = {rule.endpoint for rule in list_rules(make_console(engine))}

    assert {one for one in endpoints if factors.match(one)} <= set(DANGEROUS_ROUTES)
    assert set(DANGEROUS_ROUTES.values()) <= endpoints
    assert "security.verify" not in PUBLIC_ROUTES


def test_after_the_new_sign_in_the_page_of_the_act_opens(engine: Engine) -> None:
    client = make_console(engine)
    add_with_password(client)
    sign_in(client)
    make_old(client)
    refused = post(client, "/account/tokens", name="ci", role="operator", days="9")
    assert "sf_" not in refused.text
    assert refused.location == "/sign-in/again?next=/account"

    again = post(client, refused.location, password="correct horse battery staple")
    assert again.location == "/account"
    assert "sf_" in post(client, "/account/tokens", name="ci", role="operator", days="9").text


@pytest.mark.parametrize("network", ["198.51.100.7", "2001:db8::{:x}", "::ffff:198.51.100.7"])
def test_forms_of_sign_in_are_limited_by_address_and_of_ipv6_by_network(engine: Engine, network: str) -> None:
    client = make_console(engine)
    values = {"csrf_token": read_csrf_token(client, "/sign-in"), "email": "", "password": ""}
    peers = [{"REMOTE_ADDR": network.format(at)} for at in range(SIGN_INS_PER_MINUTE + 1)]
    answers = [client.post("/sign-in", data=values, environ_overrides=peer) for peer in peers]

    assert [one.status_code for one in answers] == [200] * SIGN_INS_PER_MINUTE + [429]
    assert "Wait a minute" in answers[-1].text
    assert answers[-1].headers["Retry-After"] == "60"
    assert "Content-Security-Policy" in answers[-1].headers
    assert client.get("/sign-in").status_code == 200
    assert post(make_console(engine), "/sign-in", email="").status_code == 200


def test_guesses_of_api_tokens_are_limited(engine: Engine) -> None:
    client = make_console(engine)
    statuses = [
        client.get("/queues", headers={"Authorization": f"Bearer sf_{number}"}).status_code
        for number in range(TOKEN_REQUESTS_PER_MINUTE + 1)
    ]

    assert set(statuses[:-1]) == {302}
    assert statuses[-1] == 429
    assert client.get("/sign-in").status_code == 200


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_replaces_one_of_flask_security_and_uses_only_its_values(name: str) -> None:
    default = str(_default_messages[name][0])
    assert set(re.findall(r"%\((\w+)\)s", MESSAGES[name][0])) <= set(re.findall(r"%\((\w+)\)s", default))
