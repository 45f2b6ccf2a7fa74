"""Who may call which route of the console: a rule for every route and method, also for later ones."""

from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.routing import Rule

from services.accounts.api_tokens import create_token
from services.accounts.people import add_person, find_access, get_person
from services.accounts.roles import Role
from services.accounts.sessions import end_sessions
from services.console.auth import (
    ACCOUNT_ROUTES,
    CHANGE_ROUTES,
    PAGE_ROUTES,
    PUBLIC_ROUTES,
    SAFE_METHODS,
    SECRET_ROUTES,
)
from services.core.clock import utc_now
from services.core.db import transaction
from tests.console.people import make_console, read_csrf_token, sign_in_as


def list_rules(client: FlaskClient) -> list[Rule]:
    return list(client.application.url_map.iter_rules())


def fill(rule: Rule) -> str:
    """Return a path of ``rule``."""
    values = dict.fromkeys(rule.arguments, 1 if "int:" in rule.rule else "harbour")
    path = rule.rule
    for name in rule.arguments:
        for form in (f"<int:{name}>", f"<path:{name}>", f"<{name}>"):
            path = path.replace(form, str(values[name]))
    return path


def test_every_route_is_in_exactly_one_table_and_every_entry_has_a_route(engine: Engine) -> None:
    endpoints = {rule.endpoint for rule in list_rules(make_console(engine))}
    tables = [PUBLIC_ROUTES, SECRET_ROUTES, ACCOUNT_ROUTES, set(PAGE_ROUTES), set(CHANGE_ROUTES)]

    assert endpoints == set().union(*tables)
    assert sum(map(len, tables)) == len(endpoints)


def test_an_undecided_route_is_closed_for_an_owner_too(engine: Engine) -> None:
    client = make_console(engine)
    client.application.add_url_rule("/undecided", "undecided", lambda: "Ada's shop")
    sign_in_as(client, Role.OWNER)

    answer = client.get("/undecided")

    assert answer.status_code == 403
    assert "Ada" not in answer.text


def test_nobody_opens_a_page_without_sign_in(engine: Engine) -> None:
    client = make_console(engine)

    for rule in list_rules(client):
        if rule.endpoint in PUBLIC_ROUTES | SECRET_ROUTES:
            continue
        for method in rule.methods or ():
            answer = client.open(fill(rule), method=method)
            is_closed = answer.status_code in (400, 401, 403, 405)
            is_sent_to_sign_in = answer.status_code == 302 and "/sign-in" in answer.location
            assert is_closed or is_sent_to_sign_in or method == "OPTIONS", (method, rule.rule, answer.status)


def test_a_change_by_the_api_without_a_token_is_not_authorized(engine: Engine) -> None:
    client = make_console(engine)

    rules = [rule for rule in list_rules(client) if rule.endpoint.startswith("api.")]
    changes = [fill(rule) for rule in rules if "POST" in (rule.methods or ())]
    assert len(changes) > 20
    assert {path for path in changes if client.post(path, json={}).status_code != 401} == set()


def test_a_viewer_can_change_nothing_by_any_route_and_method(engine: Engine) -> None:
    client = sign_in_as(make_console(engine), Role.VIEWER)
    token = read_csrf_token(client)

    for rule in list_rules(client):
        if rule.endpoint in PUBLIC_ROUTES | SECRET_ROUTES | ACCOUNT_ROUTES:
            continue
        for method in {"POST", "PUT", "PATCH", "DELETE"} & (rule.methods or set()):
            answer = client.open(fill(rule), method=method, headers={"X-CSRFToken": token})
            assert answer.status_code == 403, (method, rule.rule)


def test_pages_only_read_and_changes_are_no_pages(engine: Engine) -> None:
    methods: dict[str, set[str]] = {}
    for rule in list_rules(make_console(engine)):
        methods.setdefault(rule.endpoint, set()).update(rule.methods or ())

    assert all(methods[endpoint] <= SAFE_METHODS for endpoint in PAGE_ROUTES)
    assert all(role >= Role.OPERATOR for role in CHANGE_ROUTES.values())
    assert all(not methods[endpoint] & {"GET"} for endpoint in CHANGE_ROUTES)


def test_every_change_needs_the_token_of_the_form(engine: Engine) -> None:
    client = sign_in_as(make_console(engine), Role.OWNER)

    for rule in list_rules(client):
        if rule.endpoint in SECRET_ROUTES:
            continue
        for method in {"POST", "PUT", "PATCH", "DELETE"} & (rule.methods or set()):
            answer = client.open(fill(rule), method=method)
            assert answer.status_code == 400, (method, rule.rule)
            assert "CSRF" in answer.text


def test_an_api_token_needs_no_token_of_a_form_and_has_its_own_role(engine: Engine) -> None:
    client = make_console(engine)
    sign_in_as(client, Role.OWNER)
    with transaction() as tx:
        owner = find_access(tx, get_person(tx, "owner@example.com").id)
        assert owner is not None
        made = create_token(tx, owner, "ci", Role.VIEWER, timedelta(days=1), by="t", now=utc_now())
    other = make_console(engine)

    assert other.get("/queues", headers={"Authorization": f"Bearer {made}"}).status_code == 200
    for wrong in (f"Bearer {made}x", "Bearer sf_", "Bearer", made):
        assert other.get("/queues", headers={"Authorization": wrong}).status_code == 302


@pytest.mark.parametrize("path", ["/", "/health", "/static/console.css", "/nowhere", "/sign-in", "/account"])
def test_every_answer_forbids_foreign_scripts_styles_and_frames(engine: Engine, path: str) -> None:
    policy = sign_in_as(make_console(engine), Role.OWNER).get(path).headers["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy


def test_a_session_that_was_ended_is_signed_out(engine: Engine) -> None:
    client = sign_in_as(make_console(engine), Role.VIEWER)
    assert client.get("/").status_code == 200

    client.post("/account/sessions/end-all", data={"csrf_token": read_csrf_token(client)})

    assert client.get("/").status_code == 302


def test_a_cookie_of_an_ended_session_opens_nothing_whatever_token_is_sent(engine: Engine) -> None:
    client = sign_in_as(make_console(engine), Role.ADMIN)
    with client.session_transaction() as kept:
        cookie = dict(kept)
    with transaction() as tx:
        eve = add_person(tx, "eve@example.com", "", {None: Role.VIEWER}, by="t", now=utc_now())
        access = find_access(tx, eve)
        assert access is not None
        token = create_token(tx, access, "x", Role.VIEWER, timedelta(days=1), by="t", now=utc_now())
        end_sessions(tx, get_person(tx, "admin@example.com").id)

    for sent in ("sf_unknown", token):
        for rule in list_rules(client):
            if rule.endpoint in SECRET_ROUTES or rule.endpoint.split(".")[0] in ("static", "health"):
                continue
            with client.session_transaction() as present:
                present.update(cookie)
            method = "GET" if "GET" in (rule.methods or ()) else "POST"
            client.open(fill(rule), method=method, headers={"Authorization": f"Bearer {sent}"})
            with client.session_transaction() as present:
                assert "_user_id" not in present, (rule.rule, sent)


def test_an_api_token_is_refused_by_every_route_of_sign_in_and_account(engine: Engine) -> None:
    client = sign_in_as(make_console(engine), Role.OWNER)
    with transaction() as tx:
        owner = find_access(tx, get_person(tx, "owner@example.com").id)
        assert owner is not None
        made = create_token(tx, owner, "ci", Role.OWNER, timedelta(days=1), by="t", now=utc_now())

    for rule in list_rules(client):
        if not rule.endpoint.startswith(("security.", "account.")):
            continue
        for method in (rule.methods or set()) - {"OPTIONS"}:
            for number, sent in enumerate((made, "sf_unknown")):
                answer = client.open(
                    fill(rule),
                    method=method,
                    headers={"Authorization": f"Bearer {sent}"},
                    environ_overrides={"REMOTE_ADDR": f"198.51.100.{number + 1}"},
                )
                assert answer.status_code == 403, (method, rule.rule)
    assert client.get("/account").status_code == 200, "the session of the cookie is not ended"
