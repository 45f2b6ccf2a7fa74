"""Wrong input to the pages of sign-in and account is refused, and no internal error."""

import pytest
from sqlalchemy import Engine

from services.accounts.roles import Role
from tests.console.people import make_console, read_csrf_token, sign_in_as
from tests.console.test_access import fill, list_rules

LAST_ID = 2**31 - 1


@pytest.mark.parametrize(
    ("path", "values", "fault"),
    [
        ("/account/tokens", {"name": "a", "days": "\u00b2"}, "days="),
        ("/account/tokens", {"name": "a", "days": "9" * 12}, "days="),
        ("/account/tokens", {"name": "a", "days": "-1"}, "days="),
        ("/account/tokens", {"name": "a", "days": "9999"}, "valid_for="),
        ("/account/tokens", {"name": "a\0b"}, "name="),
        (f"/account/tokens/{LAST_ID}/revoke", {}, "no API token"),
        (f"/account/tokens/{LAST_ID + 1}/revoke", {}, "no API token"),
        (f"/account/tokens/{10**30}/revoke", {}, "Not found"),
    ],
)
def test_wrong_values_of_a_token_are_refused(
    engine: Engine, path: str, values: dict[str, str], fault: str
) -> None:
    client = sign_in_as(make_console(engine), Role.VIEWER)
    values = {**values, "csrf_token": read_csrf_token(client)}

    assert fault in client.post(path, data=values, follow_redirects=True).text


@pytest.mark.parametrize(
    "body",
    ["[1]", "5", '"x"', '{"email": 5}', '{"email": ["a"]}', '{"code": {"a": 1}}', '{"email": "\\ud800"}',
     "[" * 100_000],
)  # fmt: skip
def test_json_that_is_no_form_is_refused_by_every_route_of_sign_in(engine: Engine, body: str) -> None:
    client = sign_in_as(make_console(engine), Role.ADMIN)
    headers = {"X-CSRFToken": read_csrf_token(client)}

    for rule in list_rules(client):
        if rule.endpoint.startswith("security.") and "POST" in (rule.methods or ()):
            answer = client.post(fill(rule), data=body, content_type="application/json", headers=headers)
            assert answer.status_code == 400 or "/sign-in/again" in (answer.location or ""), rule.rule
