"""Second factors: who may set them up with a password alone, and codes that work once."""

import re
import threading
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from services.accounts.people import change_roles, get_person
from services.accounts.roles import Role
from services.console.auth import CHANGE_ROUTES
from services.console.sign_in import SECOND_STEP_WITHIN
from services.console.sign_in_forms import FIRST_STEP_AT
from services.core.clock import utc_now
from services.core.db import transaction
from tests.console.people import make_code, make_console, read_csrf_token
from tests.console.test_access import fill, list_rules
from tests.console.test_sign_in import ADA, add_with_password, post, sign_in

ADD_PASSKEY = """
insert into user_passkeys (user_id, name, credential_id, public_key, device_type, usage, lastuse_datetime)
select id, 'laptop', convert_to('1', 'UTF8'), convert_to('2', 'UTF8'), 'single_device', 'first', now()
  from users
"""


def start_set_up(client: FlaskClient) -> str:
    """Sign in with a password; return the key of new codes, or an empty text."""
    sign_in(client)
    found = re.search(
        r'"key">([A-Z2-7-]+)</code>', post(client, "/account/codes", setup="authenticator").text
    )
    return found[1] if found else ""


def set_up(client: FlaskClient) -> str:
    key = start_set_up(client)
    assert post(client, "/sign-in/code", code=make_code(key)).location == "/account/recovery-codes"
    return key


def read_secret() -> str | None:
    with transaction() as tx:
        secret: str | None = tx.execute(text("select tf_totp_secret from users")).scalar_one()
    return secret


def make_recovery_codes(client: FlaskClient) -> list[str]:
    values = {"csrf_token": read_csrf_token(client), "generate_new_codes": "1"}
    return re.findall(r"<li><code>([^<]+)", client.post("/account/recovery-codes", data=values).text)


def test_a_set_up_that_began_before_the_codes_does_not_replace_them(engine: Engine) -> None:
    ada, eve = make_console(engine), make_console(engine)
    add_with_password(ada, Role.ADMIN)
    key = start_set_up(eve)
    set_up(ada)
    before = read_secret()

    refused = post(eve, "/sign-in/code", code=make_code(key))

    assert refused.location == "/sign-in"
    assert read_secret() == before
    assert eve.get("/").status_code == 302


@pytest.mark.parametrize("has_codes", [False, True])
def test_a_password_waits_ten_minutes_for_the_second_factor(engine: Engine, has_codes: bool) -> None:
    client = make_console(engine)
    add_with_password(client, Role.ADMIN)
    key = set_up(make_console(engine)) if has_codes else start_set_up(client)
    if has_codes:
        sign_in(client)
    with client.session_transaction() as session:
        session[FIRST_STEP_AT] -= SECOND_STEP_WITHIN.total_seconds() + 1

    assert post(client, "/sign-in/code", code=make_code(key, steps=1)).location == "/sign-in"
    assert "More than 10 minutes" in client.get("/sign-in").text
    assert client.get("/").status_code == 302


@pytest.mark.parametrize("role", Role)
def test_a_password_alone_is_not_enough_for_a_person_with_a_passkey(engine: Engine, role: Role) -> None:
    client = make_console(engine)
    add_with_password(client, role)
    with transaction() as tx:
        tx.execute(text(ADD_PASSKEY))

    sign_in(client)

    assert client.get("/account/codes").location == "/sign-in/passkey"
    assert start_set_up(client) == ""
    assert read_secret() is None
    assert client.get("/").status_code == 302


@pytest.mark.parametrize("role", Role)
def test_a_password_alone_is_not_enough_for_a_person_with_codes(engine: Engine, role: Role) -> None:
    client, other = make_console(engine), make_console(engine)
    add_with_password(client, Role.ADMIN)
    key = set_up(client)
    with transaction() as tx:
        change_roles(tx, get_person(tx, ADA), lambda _: {None: role}, by="tests", now=utc_now())

    assert urlsplit(sign_in(other).location or "").path == "/sign-in/code"
    assert other.get("/").status_code == 302
    assert post(other, "/sign-in/code", code=make_code(key, steps=1)).location == "/"


@pytest.mark.parametrize("path", ["/sign-in/code", "/sign-in/recovery-code"])
def test_a_code_works_once_in_parallel_sign_ins_of_several_processes(engine: Engine, path: str) -> None:
    client = make_console(engine)
    add_with_password(client, Role.ADMIN)
    key = set_up(client)
    code = make_code(key, steps=1) if path == "/sign-in/code" else make_recovery_codes(client)[0]
    browsers = [make_console(engine) for _ in range(3)]
    for each in browsers:
        sign_in(each)
    tokens = [read_csrf_token(each, path) for each in browsers]
    barrier, statuses = threading.Barrier(3), []

    def use(browser: FlaskClient, token: str) -> None:
        barrier.wait()
        answer = browser.post(path, data={"csrf_token": token, "code": code})
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=use, args=pair) for pair in zip(browsers, tokens, strict=True)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(statuses) == [200, 200, 302]


@pytest.mark.parametrize("role", [Role.ADMIN, Role.OWNER])
def test_who_is_promoted_in_a_session_of_a_password_alone_stays_an_operator_in_it(
    engine: Engine, role: Role
) -> None:
    client = make_console(engine)
    add_with_password(client, Role.OPERATOR)
    sign_in(client)
    with transaction() as tx:
        change_roles(tx, get_person(tx, ADA), lambda _: {None: role}, by="tests", now=utc_now())

    token = read_csrf_token(client)
    for endpoint, needed in CHANGE_ROUTES.items():
        rule = next(one for one in list_rules(client) if one.endpoint == endpoint)
        if needed > Role.OPERATOR:
            assert client.post(fill(rule), headers={"X-CSRFToken": token}).status_code == 403, endpoint
    assert "sign in again with a second factor" in client.get("/account").text
    assert "is above your own" in client.post(
        "/account/tokens", data={"csrf_token": token, "name": "n", "role": "admin"}, follow_redirects=True
    ).text  # fmt: skip

    again = make_console(engine)
    set_up(again)
    assert "sign in again with a second factor" not in again.get("/account").text
