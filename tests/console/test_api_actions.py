"""Actions in the API: the same changes, roles and audit as on the pages; errors are JSON."""

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from services.accounts.api_tokens import create_token
from services.accounts.people import find_access, get_person
from services.accounts.roles import Role
from services.console.row_actions import ROW_ACTIONS
from services.core.clock import utc_now
from services.core.db import transaction
from tests.bulk.test_chunks import run
from tests.console.people import make_console, sign_in_as
from tests.console.test_bulk import select_all
from tests.console.test_lists import add_rows

DEAD = {"list": "work", "action": "requeue", "filters": {"status": "dead"}}


class TokenClient:
    """Calls the API with a token of ``role`` of a person with ``shops``."""

    def __init__(self, engine: Engine, role: Role, shops: dict[int | None, Role] | None = None) -> None:
        self.client: FlaskClient = make_console(engine)
        email = f"{role.title}-{len(shops or ())}@example.com"
        sign_in_as(make_console(engine), Role.OWNER, email=email, shops=shops)
        with transaction() as tx:
            owner = find_access(tx, get_person(tx, email).id)
            assert owner is not None
            token = create_token(tx, owner, "ci", role, timedelta(days=1), by="t", now=utc_now())
        self.headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str) -> TestResponse:
        return self.client.get(f"/api/v1{path}", headers=self.headers)

    def post(self, path: str, body: Any = None, **headers: str) -> TestResponse:
        return self.client.post(f"/api/v1{path}", json=body, headers={**self.headers, **headers})


def test_rows_are_changed_as_on_their_pages_and_their_payloads_are_masked(engine: Engine) -> None:
    add_rows(engine)
    api = TokenClient(engine, Role.OPERATOR)

    shown = api.get("/work/1")
    assert shown.get_json()["shop"] == "harbour"
    assert "Ada@" not in shown.text
    assert api.post("/work/1/requeue").get_json() == {"result": "Work 1 is requeued."}
    assert api.post("/work/2/discard", {"reason": "a test order"}).status_code == 200
    conflict = api.post("/work/2/requeue")
    assert (conflict.status_code, conflict.get_json()["error"]) == (409, "conflict")
    assert select_all("select id, status from work_queue where id < 3 order by id") == [
        (1, "pending"), (2, "discarded"),
    ]  # fmt: skip
    audited = select_all(
        "select action, staff_label from audit_events where action like 'work.%' order by id"
    )
    assert audited == [("work.requeue", "operator-0@example.com"), ("work.discard", "operator-0@example.com")]


@pytest.mark.parametrize(
    ("path", "body", "status", "fault"),
    [
        ("/work/2/discard", None, 422, "reason is empty"),
        ("/work/2/discard", {"reason": 5}, 422, "reason should be of type str"),
        ("/work/2/discard", {"why": "x"}, 422, "field 'why'"),
        ("/work/2/discard", ["x"], 422, "JSON object"),
        ("/work/99/requeue", None, 404, "no such row"),
        ("/bulk-actions", {**DEAD, "filters": {"status": 1}}, 422, "each value of filters"),
        ("/bulk-actions", {**DEAD, "filters": {}}, 422, "no filter is given"),
        ("/bulk-actions", DEAD, 422, "reason is empty"),
        ("/bulk-actions", {**DEAD, "reason": "x", "at_most": 3}, 422, "not the 3 shown"),
        ("/bulk-actions", {**DEAD, "dry_run": 1}, 422, "dry_run should be of type bool"),
        ("/bulk-actions/7/stop", None, 404, "no such bulk action"),
    ],
)
def test_wrong_requests_are_refused_as_json(
    engine: Engine, path: str, body: Any, status: int, fault: str
) -> None:
    add_rows(engine)
    answer = TokenClient(engine, Role.OPERATOR).post(path, body)

    assert (answer.status_code, set(answer.get_json())) == (status, {"error", "detail"})
    assert fault in answer.get_json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        '{"reason": "\\ud800"}',
        '{"list": "\\ud800"}',
        '{"filters": {"status": "\\udc00"}}',
        '{"\\ud800": 1}',
        '{"reason": NaN}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "{",
    ],
)
def test_a_body_with_half_a_character_or_nested_deeply_is_refused(engine: Engine, body: str) -> None:
    add_rows(engine)
    api = TokenClient(engine, Role.OPERATOR)
    paths = [f"/{one.list}/1/{one.name}" for one in ROW_ACTIONS]

    for path in (*paths, "/bulk-actions"):
        answer = api.client.post(f"/api/v1{path}", data=body, headers=api.headers)
        assert (answer.status_code, answer.get_json()["error"]) == (422, "invalid"), path


def test_a_bulk_action_is_planned_started_once_and_read(engine: Engine) -> None:
    add_rows(engine)
    api = TokenClient(engine, Role.OPERATOR)

    planned = api.post("/bulk-actions", {**DEAD, "dry_run": True}).get_json()
    assert (planned["count"], planned["counts"]["shop"]) == (4, {"harbour": 3, "linden": 1})
    assert select_all("select count(*) from bulk_actions") == [(0,)]
    wanted = {**DEAD, "reason": "provider is back"}
    first, again = (api.post("/bulk-actions", wanted, **{"Idempotency-Key": "a"}) for _ in range(2))
    assert (first.status_code, first.get_json()["status"]) == (201, "running")
    assert first.get_json()["id"] == again.get_json()["id"]
    run(engine)

    found = api.get("/bulk-actions/1").get_json()
    assert (found["status"], found["changed_count"], found["filters"]) == ("done", 4, {"status": "dead"})
    assert api.post("/bulk-actions/1/stop").status_code == 409


def test_a_token_of_a_viewer_or_of_another_shop_changes_nothing(engine: Engine) -> None:
    add_rows(engine)
    viewer = TokenClient(engine, Role.VIEWER)
    other = TokenClient(engine, Role.OPERATOR, {2: Role.OPERATOR})

    for path in ("/work/1/requeue", "/work/1/discard", "/work/1/unlock", "/events/1/replay",
                 "/incidents/1/ack", "/bulk-actions", "/bulk-actions/1/stop"):  # fmt: skip
        assert viewer.post(path, {}).status_code == 403, path
    assert other.post("/work/1/requeue").status_code == other.get("/work/1").status_code == 404
    assert other.post("/bulk-actions", {**DEAD, "dry_run": True}).get_json()["count"] == 1
    assert select_all("select count(*) from audit_events where action like 'work.%'") == [(0,)]


@pytest.mark.parametrize("more", [{"limit": "1"}, {"after": "WzFd"}, {"shop": ""}, {"topic": " "}])
def test_what_would_not_narrow_an_action_is_refused_by_name(engine: Engine, more: dict[str, str]) -> None:
    add_rows(engine)
    answer = TokenClient(engine, Role.OPERATOR).post(
        "/bulk-actions", {**DEAD, "filters": {"status": "dead", **more}, "dry_run": True}
    )

    assert answer.status_code == 422
    assert next(iter(more)) in answer.get_json()["detail"]


def test_one_key_is_for_one_request_as_it_was_sent(engine: Engine) -> None:
    add_rows(engine)
    api = TokenClient(engine, Role.OWNER)
    filters = {"status": "dead", "shop": "harbour", "topic": "order_ingest", "since": "24h", "text": "Ada"}

    def start(**changes: str) -> int:
        body = {**DEAD, "reason": "a", "filters": {**filters, **changes}}
        return api.post("/bulk-actions", body, **{"Idempotency-Key": "k"}).status_code

    assert [start(), start(), start(text="another"), start(since="23h")] == [201, 201, 422, 422]
    assert "ada" not in str(select_all("select request_hash from bulk_actions")).lower()
    assert select_all("select count(*) from bulk_actions") == [(1,)]
