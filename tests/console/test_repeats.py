"""A form that is sent twice, and a request that is repeated with its key, make one change."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from flask import redirect
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.routing import Rule

import services.console
from services.accounts.roles import Role
from services.console.auth import ACCOUNT_ROUTES, CHANGE_ROUTES
from tests.console.people import make_console, read_csrf_token, sign_in_as
from tests.console.test_access import fill, list_rules
from tests.console.test_api_actions import TokenClient
from tests.console.test_bulk import select_all
from tests.console.test_lists import add_rows
from tests.console.test_mails import add_mail

TEMPLATES = Path(services.console.__file__).parent / "templates"
RESENDS = "select count(*)::int from audit_events where action like 'mail.%'"
FORM = re.compile(r'<form method="post".*?</form>', re.DOTALL)
OWN = {name for name in ACCOUNT_ROUTES if name.startswith(("account.", "filters."))}


@pytest.fixture
def client(engine: Engine) -> FlaskClient:
    add_rows(engine)
    return sign_in_as(make_console(engine), Role.OWNER)


def read_form(client: FlaskClient, path: str, action: str) -> dict[str, str]:
    """Return the hidden fields of the form that posts to ``action`` on the page ``path``."""
    page = client.get(path).text
    form = page.split(f'action="{action}', 1)[1].split("</form>", 1)[0]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))


def test_every_form_that_changes_something_has_a_key_of_its_own() -> None:
    forms = [form for path in TEMPLATES.glob("*.html") for form in FORM.findall(path.read_text())]

    assert len(forms) > 25
    of_library = [one for one in forms if "page.passkey" in one]
    assert len(of_library) == 1
    assert [one for one in forms if not re.search(r"(form_fields|token)\(\)", one)] == of_library


def test_a_change_of_every_route_is_made_once_for_each_form_and_key(client: FlaskClient) -> None:
    token, made = read_csrf_token(client), []
    rules = [rule for rule in list_rules(client) if rule.endpoint in {*CHANGE_ROUTES, *OWN}]

    def send(rule: Rule, key: str, reason: str = "x") -> Any:
        if rule.endpoint.startswith("api."):
            headers = {"X-CSRFToken": token, "Idempotency-Key": key}
            return client.post(fill(rule), json={"reason": reason}, headers=headers)
        form = {"csrf_token": token, "request_key": key, "reason": reason}
        return client.post(fill(rule), data=form)

    for rule in rules:
        if "POST" not in (rule.methods or ()):
            continue
        client.application.view_functions[rule.endpoint] = lambda **_: made.append(1) or redirect("/")
        made.clear()
        answers = [send(rule, *given).status_code for given in (("1",), ("1",), ("2",), ("1", "y"))]
        assert (answers, len(made)) == ([302] * 4, 3), rule.rule


def test_a_double_click_on_resend_sends_one_mail_and_both_answers_say_so(client: FlaskClient) -> None:
    add_mail()
    form = read_form(client, "/mails/1", "/mails/1/resend") | {"reason": "it was lost"}

    first, second = (client.post("/mails/1/resend", data=form) for _ in range(2))

    assert (first.status_code, first.location) == (second.status_code, second.location)
    assert "is sent again" in client.get("/mails/1").text
    assert select_all(RESENDS) == [(1,)]


def test_a_second_submission_waits_for_the_first(client: FlaskClient) -> None:
    token, made, both = read_csrf_token(client), [], Barrier(2)

    def change(**_: Any) -> Any:
        made.append(1)
        return redirect("/audit")

    client.application.view_functions["audit_pages.verify"] = change
    form = {"csrf_token": token, "request_key": "1"}
    cookie = client.get_cookie(client.application.config["SESSION_COOKIE_NAME"])
    assert cookie is not None

    def send(_: int) -> str:
        both.wait(60)
        browser = client.application.test_client(use_cookies=False)
        headers = {"Cookie": f"{cookie.key}={cookie.value}"}
        return str(browser.post("/audit/verify", data=form, headers=headers).location)

    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(send, range(2))] == ["/audit", "/audit"]
    assert made == [1]


def test_a_change_that_failed_is_tried_again_with_its_key(client: FlaskClient) -> None:
    token, made = read_csrf_token(client), []

    def change(**_: Any) -> Any:
        made.append(1)
        if len(made) == 1:
            raise RuntimeError("a fault")
        return redirect("/audit")

    client.application.view_functions["audit_pages.verify"] = change
    form = {"csrf_token": token, "request_key": "1"}

    assert [client.post("/audit/verify", data=form).status_code for _ in range(3)] == [500, 302, 302]
    assert len(made) == 2


def test_a_key_of_another_person_or_without_a_role_has_no_answer(engine: Engine, client: FlaskClient) -> None:
    form = {"csrf_token": read_csrf_token(client), "request_key": "1", "reason": "x"}
    client.post("/work/1/discard", data=form)
    viewer = sign_in_as(make_console(engine), Role.VIEWER)

    assert (
        viewer.post("/work/1/discard", data=form | {"csrf_token": read_csrf_token(viewer)}).status_code == 403
    )


def test_a_request_of_the_api_with_its_key_makes_one_change(engine: Engine) -> None:
    add_rows(engine)
    add_mail()
    api = TokenClient(engine, Role.OPERATOR)

    body, key = {"reason": "it was lost"}, {"Idempotency-Key": "a-1"}
    answers = [api.post("/mails/1/resend", body, **key) for _ in range(2)]

    assert answers[0].get_json() == answers[1].get_json()
    assert select_all(RESENDS) == [(1,)]


def test_a_key_does_not_change_how_a_body_is_read(engine: Engine) -> None:
    add_rows(engine)
    api = TokenClient(engine, Role.OPERATOR)
    headers = {**api.headers, "Idempotency-Key": "a-1", "Content-Type": "application/x-www-form-urlencoded"}

    answer = api.client.post("/api/v1/work/1/discard", data=b'{"reason": "as curl -d"}', headers=headers)

    assert answer.get_json() == {"result": "Work 1 is discarded."}
