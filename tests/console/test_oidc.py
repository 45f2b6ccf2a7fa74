"""Single sign-on against a real provider: whom it lets in, and every answer that it refuses."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from services.accounts.people import add_person, get_person, remove_person, reset_mfa
from services.accounts.roles import Role
from services.console.oidc import FAILED, has_second_factor
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from tests.console.oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider, run_provider
from tests.console.people import make_console
from tests.console.test_second_factors import ADD_PASSKEY
from tests.console.test_sign_in import ADA, list_actions, post

HOUR = 3600


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with run_provider() as provider:
        monkeypatch.setenv("OIDC_ISSUER", provider.issuer)
        monkeypatch.setenv("OIDC_CLIENT_ID", CLIENT_ID)
        monkeypatch.setenv("OIDC_CLIENT_SECRET", CLIENT_SECRET)
        monkeypatch.setenv("OIDC_SECOND_FACTOR", "amr=mfa")
        get_settings.cache_clear()
        yield provider
    get_settings.cache_clear()


def add(email: str = ADA, role: Role = Role.OPERATOR) -> None:
    with transaction() as tx:
        add_person(tx, email, "", {None: role}, by="tests", now=utc_now())


def sign_in(client: FlaskClient, provider: Provider, query: str = "") -> TestResponse:
    return client.get(provider.authorize(client.get(f"/sign-in/oidc{query}").location or ""))


def is_signed_in(client: FlaskClient) -> bool:
    return client.get("/account").status_code == 200


def test_a_person_without_a_password_signs_in_and_the_page_that_was_asked_for_opens(
    engine: Engine, provider: Provider
) -> None:
    add()
    client = make_console(engine)
    assert "/sign-in/oidc" in client.get("/sign-in").text

    answer = sign_in(client, provider, "?next=/queues")

    assert answer.location == "/queues"
    assert is_signed_in(client)
    assert list_actions() == ["user.add", "user.oidc", "user.sign_in"]
    assert sign_in(make_console(engine), provider, "?next=https://evil.example/").location == "/"
    assert list_actions().count("user.oidc") == 1


def test_without_the_settings_there_is_no_single_sign_on(engine: Engine) -> None:
    client = make_console(engine)

    assert [client.get(f"/sign-in/oidc{path}").status_code for path in ("", "/callback")] == [404, 404]
    assert "/sign-in/oidc" not in client.get("/sign-in").text


def test_a_callback_needs_the_state_of_this_browser_and_works_once(
    engine: Engine, provider: Provider
) -> None:
    add()
    client, other = make_console(engine), make_console(engine)
    path = provider.authorize(client.get("/sign-in/oidc").location or "")

    for stolen in (path, path.partition("&state=")[0], f"{path}x", "/sign-in/oidc/callback"):
        assert other.get(stolen).location == "/sign-in"
    assert not is_signed_in(other)
    assert client.get(path).location == "/"
    assert client.get(path).location == "/sign-in"


def test_many_sign_ins_that_are_not_finished_do_not_grow_the_cookie(
    engine: Engine, provider: Provider
) -> None:
    client = make_console(engine)
    client.get("/sign-in/oidc")
    size = len(str(client.get_cookie("fleet")))

    for _ in range(9):
        client.get("/sign-in/oidc")

    assert len(str(client.get_cookie("fleet"))) < size + 100


@pytest.mark.parametrize(
    "claims",
    [
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": None},
        {"email": None},
        {"email": ["ada@example.com"]},
        {"email": "eve@example.com"},
    ],
)
def test_only_a_verified_email_of_a_person_links_and_nobody_is_created(
    engine: Engine, provider: Provider, claims: dict[str, Any]
) -> None:
    add()
    client = make_console(engine)
    provider.claims = claims

    assert sign_in(client, provider).location == "/sign-in"
    assert "Ask an owner" in client.get("/sign-in").text
    assert not is_signed_in(client)
    assert list_actions() == ["user.add"]


def test_after_the_first_sign_in_the_subject_alone_counts(engine: Engine, provider: Provider) -> None:
    add()
    add("eve@example.com")
    assert sign_in(make_console(engine), provider).location == "/"

    provider.claims = {"sub": "other"}
    stranger = make_console(engine)
    assert sign_in(stranger, provider).location == "/sign-in"
    assert not is_signed_in(stranger)

    provider.claims = {"email": "eve@example.com"}
    renamed = make_console(engine)
    assert sign_in(renamed, provider).location == "/"
    with transaction() as tx:
        assert tx.execute(text("select count(*) from users where oidc_subject is not null")).scalar() == 1
        reset_mfa(tx, get_person(tx, ADA), by="tests", now=utc_now())
    provider.claims = {"sub": "other"}
    assert sign_in(make_console(engine), provider).location == "/", "linked again after the reset"


def test_a_removed_person_is_refused(engine: Engine, provider: Provider) -> None:
    add()
    client = make_console(engine)
    sign_in(client, provider)
    with transaction() as tx:
        remove_person(tx, get_person(tx, ADA), by="tests", now=utc_now())

    assert not is_signed_in(client)
    assert sign_in(client, provider).location == "/sign-in"


@pytest.mark.parametrize("role", [Role.ADMIN, Role.OWNER])
def test_an_admin_needs_a_second_factor_of_the_provider_or_of_the_console(
    engine: Engine, provider: Provider, role: Role
) -> None:
    add(role=role)
    client = make_console(engine)

    assert urlsplit(sign_in(client, provider).location or "").path == "/account/codes"
    assert not is_signed_in(client)

    provider.claims = {"amr": ["pwd", "mfa"]}
    assert sign_in(client, provider).location == "/"
    assert "sign in again with a second factor" not in client.get("/account").text


def test_a_person_with_a_passkey_signs_in_with_it_if_the_provider_checked_no_second_factor(
    engine: Engine, provider: Provider
) -> None:
    add()
    with transaction() as tx:
        tx.execute(text(ADD_PASSKEY))
    client = make_console(engine)

    sign_in(client, provider)

    assert not is_signed_in(client)
    assert client.get("/account/codes").location == "/sign-in/passkey"


@pytest.mark.parametrize(("age", "is_fresh"), [(0, True), (29 * 60, True), (HOUR, False), (None, False)])
def test_a_sign_in_is_as_fresh_as_the_provider_says(
    engine: Engine, provider: Provider, age: int | None, is_fresh: bool
) -> None:
    add()
    client = make_console(engine)
    provider.claims = {"auth_time": None if age is None else int(utc_now().timestamp()) - age}
    sign_in(client, provider)

    answer = post(client, "/account/tokens", name="ci", role="viewer", days="9")

    assert ("sf_" in answer.text) == is_fresh
    assert is_fresh or answer.location == "/sign-in/again?next=/account"


@pytest.mark.parametrize(
    "metadata", [{"issuer": "https://evil.example"}, {"token_endpoint": "http://127.0.0.1:9/token"}]
)
def test_a_provider_that_is_not_the_one_of_the_settings_or_does_not_answer_is_refused(
    engine: Engine, provider: Provider, metadata: dict[str, str]
) -> None:
    add()
    client = make_console(engine)
    provider.metadata = metadata

    start = client.get("/sign-in/oidc")
    answer = start if start.location == "/sign-in" else client.get(provider.authorize(start.location or ""))

    assert answer.location == "/sign-in"
    assert FAILED in client.get("/sign-in").text


def test_another_person_in_the_same_browser_ends_the_session_before(
    engine: Engine, provider: Provider
) -> None:
    add()
    add("eve@example.com")
    client = make_console(engine)
    sign_in(client, provider)
    provider.claims = {"sub": "eve", "email": "eve@example.com"}
    sign_in(client, provider)

    assert "eve@example.com" in client.get("/account").text
    with transaction() as tx:
        live = "select count(*) from user_sessions where ends_at > seen_at"
        assert tx.execute(text(live)).scalar_one() == 1


@pytest.mark.parametrize(
    ("claims", "wanted", "is_second"),
    [
        ({"amr": ["pwd", "mfa"]}, "amr=mfa", True),
        ({"amr": ["pwd"]}, "amr=mfa", False),
        ({"acr": "gold"}, "acr=gold", True),
        ({"acr": "golden"}, "acr=gold", False),
        ({}, "amr=mfa", False),
        ({"": [""]}, "", False),
    ],
)
def test_a_claim_states_a_second_factor(claims: dict[str, Any], wanted: str, is_second: bool) -> None:
    assert has_second_factor(claims, wanted) == is_second
