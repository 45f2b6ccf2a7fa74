"""Text and JSON paths in payloads and bodies: what matches, who searches, and what is audited."""

from secrets import token_hex
from urllib.parse import quote

import orjson
import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from services.accounts.roles import Role
from services.console.list_page import MAX_SEARCHED_BYTES
from services.console.list_reader import LONGEST_PATH
from services.core.clock import utc_now
from services.core.db import transaction
from tests.console.people import make_console, read_csrf_token, sign_in_as
from tests.console.test_lists import add_shops, ask
from tests.ledger_rows import accept, new_event

BODIES: tuple[bytes, ...] = (
    b'{"id": 9007199254740993, "lines": [{"sku": "A-1", "price": 5}, {"sku": "B-2"}], "test": false}',
    b'{"id": 9007199254740992, "lines": [], "note": "Ada\\u0301", "test": null, "price": "x"}',
    b'{"id": 3, "lines": [{"sku": "C-3", "price": "x"}], "test": true}',
    b"",
    b"{",
    b'"A-1"',
    b"[1, 2]",
    b"\xff\xfe",
    b'{"a": "\\u0000"}',
    b"[" * 100_000,
    b'{"a": ' + b"9" * 140_000 + b"}",
)
"""Also bodies that PostgreSQL cannot read."""
SCOPE = "shop=harbour&topic=orders/create&since=1h"


def add_bodies(engine: Engine) -> None:
    add_shops(engine)
    accept(
        engine,
        *(
            new_event(number, body=body, received_at=utc_now(), delivery_key=f"{number:02}")
            for number, body in enumerate(BODIES, 1)
        ),
        new_event(90, body=BODIES[0], topic="orders/paid", received_at=utc_now()),
        new_event(91, shop_id=2, body=BODIES[0], received_at=utc_now()),
    )
    with transaction() as tx:
        for body in BODIES[:3]:
            tx.execute(
                text(
                    "insert into work_queue (shop_id, queue, topic, payload) "
                    "values (1, 'webhooks', 'order_ingest', cast(:payload as jsonb))"
                ),
                {"payload": body.decode()},
            )
        tx.execute(text("update work_queue set topic = 'refund_ingest' where event_id is not null"))


def find_ids(client: FlaskClient, query: str) -> list[int]:
    return sorted(row["id"] for row in ask(client, f"/api/v1/events?{SCOPE}&{query}")["events"])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "ids"),
    [
        ('$.lines[*].sku == "A-1"', [1]), ('$.lines[*] ? (@.price > 4)', [1]),
        ("$.lines[*].price > 4", [1]), ("$.id == 9007199254740993", [1]), ("$.test", [3]),
        ("$.test == false", [1]), ("exists($.note)", [2]), ('$.lines[0].sku starts with "C"', [3]),
        ('$.** ? (@ == "C-3")', [3]),
        ('$.lines[0,1].sku == "B-2"', [1]), ('$.note == "like_regex \\\\ .**.**,,"', []),
        ("strict $.lines[5].sku", []), ("$.id / 0 == 1", []), ("$", [1, 2, 3, 6, 7]), ("$.nothing", []),
        ('$ == "A-1"', [6]),
    ],
)  # fmt: skip
def test_a_path_finds_its_bodies_and_unreadable_ones_do_not_match(
    engine: Engine, path: str, ids: list[int]
) -> None:
    add_bodies(engine)
    client = sign_in_as(make_console(engine), Role.ADMIN)

    assert find_ids(client, f"path={quote(path)}") == ids
    scope = SCOPE.replace("orders/create", "order_ingest")
    found = ask(client, f"/api/v1/work?{scope}&path={quote(path)}")
    assert found["count"] == len([one for one in ids if one < 4])


def test_bodies_above_a_size_are_not_searched_and_are_counted(engine: Engine) -> None:
    add_bodies(engine)
    large = b'{"id": 4, "a": "%s"}' % token_hex(MAX_SEARCHED_BYTES // 2).encode()
    accept(engine, new_event(96, body=large, delivery_key="large", received_at=utc_now()))
    with transaction() as tx:
        tx.execute(
            text("update work_queue set topic = 'order_ingest', payload = cast(:body as jsonb) where id = 1"),
            {"body": large.decode()},
        )
    client = sign_in_as(make_console(engine), Role.ADMIN)

    for name, topic in (("events", "orders/create"), ("work", "order_ingest")):
        scope = SCOPE.replace("orders/create", topic)
        for query in ("text=a", "path=$.id"):
            found = ask(client, f"/api/v1/{name}?{scope}&{query}")
            assert (found["too_large"], found["is_counted"]) == (1, False)
            assert all(row.get("delivery_key") != "large" for row in found[name])  # type: ignore[attr-defined]
        assert "1 row is larger than 1 MiB, and not searched" in client.get(f"/{name}?{scope}&text=a").text
    assert ask(client, f"/api/v1/events?{SCOPE}")["too_large"] == 0
    asked = {"list": "events", "action": "replay", "dry_run": True}
    filters = {"shop": "harbour", "topic": "orders/create", "since": "1h", "path": "$.id"}
    token = read_csrf_token(client)
    answer = client.post(
        "/api/v1/bulk-actions", json={**asked, "filters": filters}, headers={"X-CSRFToken": token}
    )
    assert answer.get_json()["skipped"] == {"larger than 1 MiB, and not searched": 1}


def test_text_in_bodies_is_found_in_any_case(engine: Engine) -> None:
    add_bodies(engine)
    client = sign_in_as(make_console(engine), Role.ADMIN)

    assert find_ids(client, "text=a-1") == [1, 6]
    assert find_ids(client, "text=9007199254740993") == [1]
    assert find_ids(client, "text=" + quote("ADA\u0301")) == [2]


@pytest.mark.parametrize(
    "path",
    ["$.a ==", "lines", "'", "$.a; select 1", "$" + ".a" * LONGEST_PATH, '$.a like_regex "("', "$v",
     '$.a.datetime() < "2026-01-01T00:00:00Z".datetime()', "(" * 400, "$.a ? (@ == $b)",
     "$.**.**", "$. ** . **", "$.**{1}.**{2}", "$.a[0,0][0,0]", "$.**[0,1]", "$.**[*][*][*][*]",
     '$.a like_regex "a"',
     '$.a LIKE_REGEX "a"', '$.a lik\\u0065_regex "a"', '$.a\\".**.**.a\\"', '$./* " */**.**./* " */a'],
)  # fmt: skip
@pytest.mark.parametrize("name", ["events", "work"])
def test_a_path_that_cannot_be_used_is_refused_by_name_or_matches_nothing(
    engine: Engine, path: str, name: str
) -> None:
    add_bodies(engine)
    with transaction() as tx:
        tx.execute(text("update work_queue set payload = '{\"a\": \"2026-01-01\"}', topic = 'order_ingest'"))
    accept(engine, new_event(95, body=b'{"a": "2026-01-01"}', received_at=utc_now()))
    client = sign_in_as(make_console(engine), Role.ADMIN)
    scope = SCOPE if name == "events" else SCOPE.replace("orders/create", "order_ingest")

    answer = client.get(f"/api/v1/{name}?{scope}&path={quote(path)}")

    if answer.status_code == 200:
        assert path == "$v"
        assert answer.get_json()["count"] == 0
    else:
        assert (answer.status_code, answer.get_json()["error"]) == (422, "invalid_filter")
        assert answer.get_json()["detail"].startswith("path")
        assert client.get(f"/{name}?{scope}&path={quote(path)}").status_code == 422


def test_content_is_searched_with_shop_topic_and_time_by_an_admin_alone_and_audited(engine: Engine) -> None:
    add_bodies(engine)
    operator = sign_in_as(make_console(engine), Role.OPERATOR)
    admin = sign_in_as(make_console(engine), Role.ADMIN, shops={1: Role.ADMIN})

    for query in ("path=$.id", "text=ada"):
        assert operator.get(f"/api/v1/events?{SCOPE}&{query}").status_code == 422
        for left_out in range(3):
            less = "&".join(part for place, part in enumerate(SCOPE.split("&")) if place != left_out)
            assert admin.get(f"/api/v1/events?{less}&{query}").status_code == 422
    find_ids(admin, "path=" + quote('$.email == "ada@example.com"'))

    with transaction() as tx:
        found = tx.execute(text("select * from audit_events where action = 'payload.search'")).all()
    assert [(one.shop_id, one.staff_label) for one in found] == [(1, "admin@example.com")]
    assert "ada@example" not in found[0].mutations
    assert orjson.loads(found[0].mutations)[0]["table_name"] == "inbound_events"


def test_a_path_is_parsed_for_an_admin_alone_and_within_the_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_bodies(engine)
    viewer = sign_in_as(make_console(engine), Role.VIEWER)
    admin = sign_in_as(make_console(engine), Role.ADMIN)

    for client, query in ((viewer, SCOPE), (admin, "shop=harbour")):
        assert "syntax error" not in client.get(f"/api/v1/events?{query}&path=$.a==").text
    assert "syntax error" in admin.get(f"/api/v1/events?{SCOPE}&path=$.a==").text
