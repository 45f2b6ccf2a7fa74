"""Secrets on ``/shops/<shop>``: recorded, rotated, generated and used again, and never shown."""

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from services.accounts.roles import Role
from services.core.clock import utc_now
from services.core.db import transaction
from services.shops.secrets import get_secret, list_secret_states, retire_secrets
from tests.console.people import make_console, read_csrf_token, sign_in_as
from tests.console.test_shop_changes import post, read_audit

OLD, NEW = "whsec_" + "a" * 32, "whsec_" + "b" * 32


@pytest.fixture
def client(engine: Engine, ids: list[int]) -> FlaskClient:
    return sign_in_as(make_console(engine), Role.ADMIN)


def test_a_secret_is_rotated_with_overlap_and_shown_nowhere(client: FlaskClient, ids: list[int]) -> None:
    post(client, "secrets", name="stripe-webhook", value=OLD)
    page = post(client, "secrets", name="stripe-webhook", value=NEW, hours="3").text

    with transaction() as tx:
        assert get_secret(tx, ids[0], "stripe-webhook") == NEW
        states = {one.name: one for one in list_secret_states(tx, ids[0], utc_now())}
        everywhere = str(tx.execute(text("select * from audit_events")).all())
    hours = (states["stripe-webhook"].previous_until - utc_now()).total_seconds() / 3600
    assert hours == pytest.approx(3, abs=0.1)
    assert "The previous one is valid until" in page
    assert NEW not in page + everywhere
    assert OLD not in page + everywhere
    assert [entry[:2] for entry in read_audit()] == [("shop.secret", "admin@example.com")] * 2


def test_a_retired_secret_is_used_again_until_another_replaces_it(
    client: FlaskClient, ids: list[int]
) -> None:
    post(client, "secrets", name="stripe-webhook", value=OLD)
    for _ in range(2):
        with transaction() as tx:
            assert retire_secrets(tx, ids[0], ["stripe-webhook"], utc_now()) == ["stripe-webhook"]
        page = client.get("/shops/harbour").text
        assert "Use stripe-webhook again" in page
        assert "retired: not in use" in page
        assert "stripe-webhook is in use again" in post(client, "secrets", restore="stripe-webhook").text
        with transaction() as tx:
            assert get_secret(tx, ids[0], "stripe-webhook") == OLD
    with transaction() as tx:
        retire_secrets(tx, ids[0], ["stripe-webhook"], utc_now())
    post(client, "secrets", name="stripe-webhook", value=NEW)

    assert "Use stripe-webhook again" not in client.get("/shops/harbour").text
    assert "a current one has replaced it" in post(client, "secrets", restore="stripe-webhook").text
    assert "name should be that of a secret" in post(client, "secrets", restore=OLD).text
    with transaction() as tx:
        assert get_secret(tx, ids[0], "stripe-webhook") == NEW


def test_a_generated_secret_is_shown_once(client: FlaskClient, ids: list[int]) -> None:
    page = post(client, "secrets", name="standard-webhook:acme", generate="on").text

    with transaction() as tx:
        value = get_secret(tx, ids[0], "standard-webhook:acme")
    assert value
    assert value in page
    assert value not in client.get("/shops/harbour").text
    assert value not in str(client.get_cookie("fleet"))


@pytest.mark.parametrize(
    "values",
    [
        {"name": "stripe-webhook", "value": "sk_live_" + "a" * 30},
        {"name": "stripe-webhook", "value": OLD, "hours": "-1"},
        {"name": "stripe-webhook", "value": "a" * 9000},
        {"name": "stripe-key", "generate": "on"},
        {"name": "no-such-kind\0", "value": OLD},
    ],
)
def test_a_wrong_secret_is_refused_without_its_value(client: FlaskClient, values: dict[str, str]) -> None:
    page = post(client, "secrets", **values)

    assert page.status_code == 200
    assert 'class="notice bad"' in page.text
    assert values.get("value", "sk_live_") not in page.text
    assert read_audit() == []


def test_a_secret_needs_a_fresh_sign_in_which_leads_back_to_the_shop(client: FlaskClient) -> None:
    token = read_csrf_token(client)
    with client.session_transaction() as session:
        session["fs_paa"] = 0.0

    values = {"csrf_token": token, "name": "stripe-webhook", "value": OLD}
    answer = client.post("/shops/harbour/secrets", data=values)

    assert answer.location == "/sign-in/again?next=/shops/harbour"
    assert read_audit() == []
