"""Lists: filters, counters, cursors, and who sees which rows; the same on the page and in the API."""

import base64
from datetime import timedelta
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine, Select, text

from services.accounts.roles import Access, Role
from services.audit.append import Mutation, append_change
from services.console.list_page import ListPage
from services.console.list_reader import parse_filters, read_list
from services.console.lists import LISTS
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import InputInvalid
from services.shops.tables import shops
from tests.console.people import make_console, sign_in_as
from tests.health.fleet_rows import add_work

EVERYTHING = Access(0, "ada@example.com", "ada", {None: Role.OWNER})


def add_shops(engine: Engine) -> None:
    with engine.begin() as tx:
        for slug in ("harbour", "linden"):
            tx.execute(shops.insert().values(slug=slug, name=slug, timezone="UTC", currency="CAD"))


def add_rows(engine: Engine) -> None:
    """Add dead, failed and finished work of two shops."""
    add_shops(engine)
    with engine.begin() as tx:
        for status, shop_id, count in (("dead", 1, 3), ("error", 1, 2), ("done", 1, 4), ("dead", 2, 1)):
            for number in range(count):
                tx.execute(
                    text(
                        "insert into work_queue (shop_id, queue, topic, key, status, payload, error_code) "
                        "values (:shop, 'webhooks', 'order_ingest', :key, :status, cast(:payload as jsonb), "
                        "'a.b')"
                    ),
                    {"shop": shop_id, "key": f"{status}-{number}", "status": status,
                     "payload": '{"email": "Ada@Example.com", "id": 9007199254740993}'},
                )  # fmt: skip


def make_text(keys: object) -> str:
    """Return a cursor of ``keys``."""
    return base64.urlsafe_b64encode(orjson.dumps(keys)).decode().rstrip("=")


def ask(client: FlaskClient, path: str) -> dict[str, object]:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return dict(answer.get_json())


def test_filters_narrow_the_rows_and_counters_follow_them(engine: Engine) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.VIEWER)

    every = ask(client, "/api/v1/work")
    dead = ask(client, "/api/v1/work?status=dead&shop=harbour")

    assert every["counts"] == {"dead": 4, "done": 4, "error": 2}
    assert (every["count"], every["is_counted"]) == (10, True)
    assert dead["counts"] == {"dead": 3, "done": 4, "error": 2}, "of the shop, with any status"
    assert dead["count"] == 3
    assert {row["shop"] for row in dead["work"]} == {"harbour"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("status=dead,error", 6), ("key=dead-0", 2), ("error_code=a.b&status=done", 4),
        ("topic=mail_send", 0),
        ("since=1h", 10), ("until=1h", 0), ("until=2000-01-01", 0), ("queue=webhooks", 10),
        ("shop=harbour&topic=order_ingest&since=1h&text=ada@example", 9),
    ],
)  # fmt: skip
def test_each_filter_of_work_finds_its_rows(engine: Engine, query: str, count: int) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.ADMIN)

    assert ask(client, f"/api/v1/work?{query}")["count"] == count


SEARCH = "/api/v1/work?shop=harbour&topic=order_ingest&since=1h&text="


def test_masked_payloads_are_searched_by_an_admin_of_the_shop_alone_and_each_search_is_audited(
    engine: Engine,
) -> None:
    add_rows(engine)
    viewer = sign_in_as(make_console(engine), Role.VIEWER, shops={1: Role.VIEWER, 2: Role.ADMIN})
    operator = sign_in_as(make_console(engine), Role.OPERATOR)
    admin = sign_in_as(make_console(engine), Role.ADMIN, shops={1: Role.ADMIN})

    for client in (viewer, operator):
        for wanted in ("Ada@E", "nobody"):
            answer = client.get(SEARCH + wanted)
            assert answer.status_code == 422
            assert "needs the role admin at the shop" in answer.text
            assert client.get(f"/work?{(SEARCH + wanted).partition('?')[2]}").status_code == 422
    assert ask(admin, SEARCH + "ada@example")["count"] == 9

    assert 'name="text"' in admin.get("/work").text
    assert 'name="text"' not in operator.get("/work").text
    with transaction() as tx:
        (found,) = tx.execute(text("select * from audit_events where action = 'payload.search'")).all()
    assert (found.shop_id, found.staff_label) == (1, "admin@example.com")
    assert "order_ingest" in found.mutations
    assert "ada@example" not in found.mutations.lower()


def test_the_table_of_the_audit_finds_no_part_of_a_value(engine: Engine) -> None:
    add_shops(engine)
    with transaction() as tx:
        values = {"owner_email": "ada@example.com"}
        mutation = Mutation("shops", "1", "set owner_email", None, values)
        append_change(tx, "shop.set", {1: [mutation]}, by="test", now=utc_now())
    client = sign_in_as(make_console(engine), Role.VIEWER)

    assert ask(client, "/api/v1/audit?table=shops")["count"] == 1
    for value in ("ada@example.com", "a", "owner_email", 'shops"}', 'shops"', "%22ada"):
        assert ask(client, f"/api/v1/audit?table={value}")["count"] == 0


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("status=deed", "dead"), ("shop=harbor", "harbour"), ("since=yesterday", "24h"), ("topik=a", "topic"),
        ("text=ada", "shop, topic, since"), ("after=abc", "cursor"), ("after=WzEsMl0", "cursor"),
        ("shop=%00", "without NUL"), ("key=%00a", "without NUL"),
        ("limit=0", "1 to 500"), ("limit=x", "1 to 500"), ("limit=%C2%B2", "1 to 500"),
        ("limit=" + "9" * 5000, "1 to 500"),
        *((f"after={make_text(keys)}", "cursor") for keys in (
            [2**63], [-1], ["x"], [[1]], [True], [None], [1.5], {}, 7, [1, 2]
        )),
    ],
)  # fmt: skip
def test_a_wrong_filter_is_refused_and_names_what_would_be_right(
    engine: Engine, query: str, named: str
) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.ADMIN)

    answer = client.get(f"/api/v1/work?{query}")

    assert (answer.status_code, answer.get_json()["error"]) == (422, "invalid_filter")
    assert named in answer.get_json()["detail"]
    if "limit" not in query:
        page = client.get(f"/work?{query}")
        assert page.status_code == 422
        assert named in page.text


@pytest.mark.parametrize("name", LISTS)
def test_every_list_is_a_page_and_an_answer_also_when_it_is_empty(engine: Engine, name: str) -> None:
    client = sign_in_as(make_console(engine), Role.VIEWER)

    assert ask(client, f"/api/v1/{LISTS[name].path}")["next"] is None
    assert "Nothing matches" in client.get(f"/{LISTS[name].path}?since=1h").text or name == "audit"


def test_pages_of_a_cursor_have_every_row_once(engine: Engine) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.VIEWER)

    for query in ("", "status=dead,discarded", "status=error,pending"):
        seen: list[int] = []
        after = ""
        while True:
            found = ask(client, f"/api/v1/work?limit=2&{query}&after={after}")
            seen += [row["id"] for row in found["work"]]  # type: ignore[attr-defined]
            if not found["next"]:
                break
            after = str(found["next"])
        assert len(seen) == len(set(seen)) == found["count"]
        assert seen == sorted(seen, reverse=True)


def test_a_person_of_one_shop_sees_its_rows_alone(engine: Engine) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.VIEWER, shops={2: Role.OPERATOR})

    assert ask(client, "/api/v1/work")["count"] == 1
    for name, query in (
        ("work", "status=dead&queue=webhooks&since=1h"),
        ("audit", "by=a"),
        ("errors", "until=1h"),
    ):
        assert ask(client, f"/api/v1/{name}?{query}")["count"] == (name == "work"), "without a shop too"
    hidden, unknown = (client.get(f"/api/v1/work?shop={slug}") for slug in ("harbour", "harbous"))
    assert hidden.status_code == unknown.status_code == 422
    assert hidden.text.replace("harbour", "harbous") == unknown.text
    assert client.get("/work/1").status_code == 404
    assert client.get("/work/10").status_code == 200
    assert client.get("/work/99").status_code == 404
    pages = [client.get(f"/work/{number}").text.partition("<main")[2] for number in (99, 1)]
    assert pages[0] == pages[1] != ""


@pytest.mark.parametrize(
    "keys",
    [
        [utc_now(), 5],
        ["x", "a"],
        ["0001-01-01T00:00:00+23:59", "a"],
        ["9999-12-31T23:59:59-23:59", "a"],
        [5, "a"],
    ],
)
def test_a_cursor_of_another_kind_of_column_is_refused(engine: Engine, keys: list[object]) -> None:
    client = sign_in_as(make_console(engine), Role.VIEWER)

    assert client.get(f"/api/v1/errors?after={make_text(keys)}").status_code == 422
    assert client.get(f"/api/v1/errors?after={make_text([utc_now(), 'a'])}").status_code == 200


def test_deep_in_time_rows_are_found_by_halves(engine: Engine) -> None:
    add_shops(engine)
    now = utc_now()
    with engine.begin() as tx:
        tx.execute(
            text(
                "insert into inbound_events (shop_id, provider, topic, delivery_key, body, received_at) "
                "select 1, 'shopify', 'orders/create', i::text, '', "
                "cast(:now as timestamptz) - make_interval(hours => 200 - i) from generate_series(1, 200) i"
            ),
            {"now": now},
        )
    page = LISTS["events"]
    for hours in (0, 1, 57, 150, 199, 300):
        with transaction() as tx:
            values = parse_filters(tx, page, {"until": f"{hours}h"}, EVERYTHING, now)
            found = read_list(tx, page, values, EVERYTHING, limit=1)
        expected = [max(0, 200 - hours - 1)] if hours < 199 else []
        assert [int(row.delivery_key) for row in found.rows] == expected, hours


@pytest.mark.parametrize("page", LISTS.values(), ids=LISTS)
def test_no_list_reads_more_than_its_candidates(engine: Engine, page: ListPage) -> None:
    with transaction() as tx:
        statement = page.candidates(tx, {}).compile(tx, compile_kwargs={"literal_binds": True})
        plan = "\n".join(tx.execute(text(f"explain {statement}")).scalars())

    assert "Limit" in plan.splitlines()[0]


@pytest.mark.parametrize(("seconds", "facet"), [(3, ""), (0.9, "status")], ids=["one", "all together"])
def test_a_search_that_takes_too_long_says_so(engine: Engine, seconds: float, facet: str) -> None:
    def find_slowly(tx: Connection, _values: object) -> Select[Any]:
        return LISTS["work"].candidates(tx, {}).where(text(f"pg_sleep({seconds}) is not null"))

    slow = ListPage(
        name="slow", title="", about="", columns=(), filters=(), candidates=find_slowly, facet=facet
    )
    with engine.begin() as tx:
        add_work(tx, "order_ingest")

    with transaction() as tx, pytest.raises(InputInvalid, match="more than 2 s"):
        read_list(tx, slow, {}, EVERYTHING, limit=1)


def test_a_list_of_the_last_hour_is_empty_without_rows(engine: Engine) -> None:
    with transaction() as tx:
        values = parse_filters(tx, LISTS["work"], {"since": "1h"}, EVERYTHING, utc_now())

    assert values["since"] < utc_now() - timedelta(minutes=59)
