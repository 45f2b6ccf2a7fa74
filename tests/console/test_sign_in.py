"""Sign-in: password, locks, links to a password, one-time codes, recovery codes."""

import re
from datetime import timedelta
from hashlib import sha256
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient
from flask_security.utils import hash_password
from passlib.hash import sha256_crypt
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from services.accounts.api_tokens import create_token, find_token_access
from services.accounts.people import add_person, find_access, get_person
from services.accounts.roles import Role
from services.accounts.sign_in_locks import MAX_FAILURES
from services.console.app import make_app
from services.console.links import make_password_link
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from tests.console.people import PASSWORD, make_code, make_console, read_csrf_token

ADA = "ada@example.com"


def post(client: FlaskClient, path: str, **values: str) -> TestResponse:
    return client.post(path, data={"csrf_token": read_csrf_token(client, "/sign-in/forgot"), **values})


def add_with_password(client: FlaskClient, role: Role = Role.OPERATOR) -> None:
    with transaction() as tx:
        add_person(tx, ADA, "", {None: role}, by="tests", now=utc_now())
    path = urlsplit(make_password_link(ADA, by="tests", now=utc_now())).path
    answer = post(client, path, password=PASSWORD, password_confirm=PASSWORD)
    assert answer.location == "/sign-in", answer.text


def sign_in(client: FlaskClient, email: str = ADA, password: str = PASSWORD) -> TestResponse:
    return post(client, "/sign-in", email=email, password=password)


def list_actions() -> list[str]:
    with transaction() as tx:
        return list(tx.execute(text("select action from audit_events order by id")).scalars())


@pytest.mark.usefixtures("environment")
def test_passwords_are_hashed_with_argon2id_and_the_memory_that_owasp_wants() -> None:
    app = make_app(get_settings())
    with app.app_context():
        _, name, _, costs, _, _ = hash_password(PASSWORD).split("$")

    assert name == "argon2id"
    cost = {key: int(value) for key, value in (pair.split("=") for pair in costs.split(","))}
    assert cost["m"] >= 19 * 1024
    assert cost["t"] >= 2


def test_a_link_has_a_fast_hash_and_links_of_earlier_versions_stay_valid(engine: Engine) -> None:
    hashes = make_console(engine).application.extensions["security"].hashing_context

    assert hashes.hash("stored") == sha256(b"stored").hexdigest()
    assert hashes.verify("stored", sha256_crypt.using(rounds=1000).hash("stored"))


def test_a_person_signs_in_and_out(engine: Engine) -> None:
    client = make_console(engine)
    add_with_password(client)

    assert sign_in(client).location == "/"
    assert client.get("/").status_code == 200
    assert client.get("/account").text.count("this one") == 1

    client.post("/sign-out", data={"csrf_token": read_csrf_token(client)})
    assert client.get("/").status_code == 302
    assert list_actions() == ["user.add", "user.link", "user.reset_password", "user.sign_in"]


def test_the_page_that_was_asked_for_opens_after_the_sign_in_and_no_foreign_one(engine: Engine) -> None:
    client = make_console(engine)
    add_with_password(client)

    assert client.get("/queues").location == "/sign-in?next=/queues"
    foreign = post(client, "/sign-in?next=https://evil.example/", email=ADA, password=PASSWORD)
    assert "evil" not in (foreign.location or "")


def test_unknown_account_and_wrong_password_have_the_same_answer_and_lock(engine: Engine) -> None:
    client = make_console(engine)
    add_with_password(client)

    texts = []
    for email in (ADA, "nobody@example.com"):
        answers = [sign_in(client, email, "wrong").text for _ in range(MAX_FAILURES["account"] + 1)]
        texts.append([re.sub(r'value="[^"]*"', "", answer) for answer in answers])

    assert texts[0] == texts[1]
    assert "Email or password is wrong" in texts[0][0]
    assert "locked" in texts[0][-1]
    assert sign_in(client).status_code == 200, "the right password does not open a locked account"


def test_a_lock_ends_by_itself_and_by_a_new_password(engine: Engine) -> None:
    client = make_console(engine)
    add_with_password(client)
    for _ in range(MAX_FAILURES["account"]):
        sign_in(client, password="wrong")
    assert sign_in(client).status_code == 200

    path = urlsplit(make_password_link(ADA, by="tests", now=utc_now())).path
    post(client, path, password="another long password", password_confirm="another long password")
    assert sign_in(client, password="another long password").location == "/"

    client = make_console(engine)
    for _ in range(MAX_FAILURES["account"]):
        sign_in(client, password="wrong")
    with transaction() as tx:
        tx.execute(text("update sign_in_locks set locked_until = now() - interval '1 second'"))
    assert sign_in(client, password="another long password").location == "/"


def test_a_link_to_a_password_works_once(engine: Engine) -> None:
    client = make_console(engine)
    with transaction() as tx:
        add_person(tx, ADA, "", {None: Role.VIEWER}, by="tests", now=utc_now())
    path = urlsplit(make_password_link(ADA, by="tests", now=utc_now())).path

    assert client.get(path).status_code == 200
    assert post(client, path, password=PASSWORD, password_confirm=PASSWORD).location == "/sign-in"
    assert client.get(path).location == "/sign-in/forgot"
    assert client.get(path[:-3] + "abc").location == "/sign-in/forgot"


def test_a_forgotten_password_is_mailed_once_and_not_for_strangers(engine: Engine) -> None:
    client = make_console(engine)
    add_with_password(client)

    answers = [post(client, "/sign-in/forgot", email=email) for email in (ADA, "nobody@example.com")]

    assert answers[0].status_code == answers[1].status_code
    with transaction() as tx:
        mails = tx.execute(text("select recipient, text from mail_outbox where subject like 'Set a%'")).all()
        work = tx.execute(text("select count(*) from work_queue where topic = 'mail_send'")).scalar_one()
    assert [mail.recipient for mail in mails] == [ADA]
    assert "http://localhost:8001/sign-in/forgot/" in mails[0].text
    assert work == 2, "the link, and the notice that the first password was set"


def test_an_admin_needs_a_second_factor_and_recovery_codes_work_once(engine: Engine) -> None:
    client = make_console(engine)
    add_with_password(client, Role.ADMIN)

    assert urlsplit(sign_in(client).location or "").path == "/account/codes"
    assert client.get("/").status_code == 302, "a password alone does not sign in"
    page = post(client, "/account/codes", setup="authenticator").text
    key = re.search(r'"key">([A-Z2-7-]+)</code>', page)
    assert key
    assert post(client, "/sign-in/code", code="000000").status_code == 200
    assert post(client, "/sign-in/code", code=make_code(key[1])).location == "/account/recovery-codes"

    token = read_csrf_token(client)
    codes = re.findall(r"<li><code>([^<]+)</code>", client.post("/account/recovery-codes", data={
        "csrf_token": token, "generate_new_codes": "1"}).text)  # fmt: skip
    assert len(codes) == 10
    with transaction() as tx:
        stored = str(tx.execute(text("select mf_recovery_codes, tf_totp_secret from users")).one())
    assert codes[0] not in stored
    assert key[1].replace("-", "") not in stored

    other = make_console(engine)
    assert urlsplit(sign_in(other).location or "").path == "/sign-in/code"
    assert post(other, "/sign-in/recovery-code", code=codes[0]).location == "/"
    third = make_console(engine)
    sign_in(third)
    assert post(third, "/sign-in/recovery-code", code=codes[0]).status_code == 200
    assert third.get("/").status_code == 302


def test_the_sign_in_page_helps_who_left_the_set_up_of_codes(engine: Engine) -> None:
    client, hint = make_console(engine), "Your one-time codes are not set up yet."
    add_with_password(client, Role.OWNER)

    assert hint not in client.get("/sign-in").text
    sign_in(client)
    assert hint in client.get("/sign-in").text, "left before the picture"
    sign_in(client)
    first = re.search(r'"key">([A-Z2-7-]+)<', post(client, "/account/codes", setup="authenticator").text)
    assert hint in client.get("/sign-in").text, "left before the code"
    sign_in(client)
    key = re.search(r'"key">([A-Z2-7-]+)<', post(client, "/account/codes", setup="authenticator").text)
    assert first
    assert key
    assert key[1] != first[1]
    assert post(client, "/sign-in/code", code=make_code(key[1])).location == "/account/recovery-codes"
    assert hint not in make_console(engine).get("/sign-in").text


def test_a_one_time_code_works_once(engine: Engine) -> None:
    client = make_console(engine)
    add_with_password(client, Role.ADMIN)
    sign_in(client)
    key = re.search(r'"key">([A-Z2-7-]+)</code>', post(client, "/account/codes", setup="authenticator").text)
    assert key
    code = make_code(key[1])
    assert post(client, "/sign-in/code", code=code).status_code == 302

    other = make_console(engine)
    sign_in(other)
    assert "was used" in post(other, "/sign-in/code", code=code).text
    assert post(other, "/sign-in/code", code=make_code(key[1], steps=1)).location == "/"


def test_wrong_codes_lock_the_account_too(engine: Engine) -> None:
    client = make_console(engine)
    add_with_password(client, Role.ADMIN)
    sign_in(client)
    page = post(client, "/account/codes", setup="authenticator").text
    key = re.search(r'"key">([A-Z2-7-]+)</code>', page)
    assert key

    for _ in range(MAX_FAILURES["account"]):
        post(client, "/sign-in/code", code="000000")

    assert "locked" in post(client, "/sign-in/code", code=make_code(key[1])).text
    assert client.get("/").status_code == 302


def test_a_new_password_by_a_link_ends_sessions_and_tokens(engine: Engine) -> None:
    client, other = make_console(engine), make_console(engine)
    add_with_password(client)
    sign_in(other)
    assert other.get("/").status_code == 200
    with transaction() as tx:
        ada = find_access(tx, get_person(tx, ADA).id)
        assert ada is not None
        token = create_token(tx, ada, "ci", Role.VIEWER, timedelta(days=1), by="tests", now=utc_now())

    path = urlsplit(make_password_link(ADA, by="tests", now=utc_now())).path
    post(client, path, password="another long password", password_confirm="another long password")

    assert other.get("/").status_code == 302
    with transaction() as tx:
        assert find_token_access(tx, token, "", utc_now()) is None


def test_a_changed_password_ends_the_other_sessions_and_keeps_the_second_factor(engine: Engine) -> None:
    client, other = make_console(engine), make_console(engine)
    add_with_password(client, Role.ADMIN)
    sign_in(client)
    key = re.search(r'"key">([A-Z2-7-]+)</code>', post(client, "/account/codes", setup="authenticator").text)
    assert key
    post(client, "/sign-in/code", code=make_code(key[1]))
    sign_in(other)
    post(other, "/sign-in/code", code=make_code(key[1], steps=1))
    new = "another long password"

    values = {"password": PASSWORD, "new_password": new, "new_password_confirm": new}
    values["csrf_token"] = read_csrf_token(client)
    assert client.post("/account/password", data=values).location == "/account"

    assert other.get("/").status_code == 302
    page = client.get("/account").text
    assert page.count("this one") == 1
    assert page.count('/account/sessions/end"') == 1, "only this session is left"
    assert "sign in again with a second factor" not in page
    assert list_actions()[-1] == "user.change_password"
    assert list_actions().count("user.sign_in") == 2
    with transaction() as tx:
        summaries = tx.execute(text("select summary from audit_mutations order by event_id")).scalars().all()
    assert summaries[-1] == f"{ADA} changed the password; 1 other session ends"


@pytest.mark.parametrize("weak", ["", "short", "elevenchars"])
def test_a_short_password_is_refused(engine: Engine, weak: str) -> None:
    client = make_console(engine)
    with transaction() as tx:
        add_person(tx, ADA, "", {None: Role.VIEWER}, by="tests", now=utc_now())

    answer = post(
        client,
        urlsplit(make_password_link(ADA, by="tests", now=utc_now())).path,
        password=weak,
        password_confirm=weak,
    )

    assert answer.status_code == 200
    assert 'class="bad"' in answer.text


def test_nobody_yet_is_explained_on_the_page(engine: Engine) -> None:
    assert "fleet users add" in make_console(engine).get("/sign-in").text
