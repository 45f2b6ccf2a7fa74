"""``/dead``: dead letters by topic, shop and error, with a link to the work of each group."""

import re

import pytest
from sqlalchemy import Engine

from services.accounts.roles import Role
from services.console.pages import MAX_GROUPS
from services.core.clock import utc_now
from tests.console.fleet_of_shops import add_fine_shops
from tests.console.people import make_console, sign_in_as

_ADD = """
insert into work_queue (shop_id, queue, topic, key, status, error_code)
select %(shop_id)s, 'webhooks', %(topic)s, %(topic)s || n || %(code)s, %(status)s, nullif(%(code)s, '')
  from generate_series(1, %(count)s) n
"""


@pytest.fixture
def ids(engine: Engine) -> list[int]:
    with engine.begin() as tx:
        ids = add_fine_shops(tx, "harbour", "linden", now=utc_now())
        for shop_id, topic, code, status, count in (
            (ids[0], "order_ingest", "shopify.wrong_body", "dead", 3),
            (ids[1], "order_ingest", "shopify.wrong_body", "dead", 5),
            (ids[0], "mail_send", "", "dead", 1),
            (0, "sweep", "a.b", "dead", 2),
            (ids[0], "order_ingest", "shopify.wrong_body", "discarded", 9),
        ):
            values = {"shop_id": shop_id, "topic": topic, "code": code, "status": status, "count": count}
            tx.exec_driver_sql(_ADD, values)
    return ids


def test_groups_are_counted_and_lead_to_their_work(engine: Engine, ids: list[int]) -> None:
    client = sign_in_as(make_console(engine), Role.VIEWER)

    page = client.get("/dead").text

    found = re.findall(r'<a href="(/work[^"]*)"[^>]*>([0-9,]+)</a>', page)
    assert [int(count) for _, count in found] == [5, 3, 2, 1]
    for link, count in found[:2]:
        path = link.replace("&amp;", "&").replace("/work", "/api/v1/work")
        assert client.get(path).get_json()["count"] == int(count)


def test_a_person_of_one_shop_sees_its_groups_alone(engine: Engine, ids: list[int]) -> None:
    client = sign_in_as(make_console(engine), Role.VIEWER, shops={ids[0]: Role.VIEWER})

    page = client.get("/dead").text

    assert re.findall(r">([0-9,]+)</a></td>", page) == ["3", "1"]
    assert "linden" not in page


def test_nothing_dead_is_stated_and_many_groups_are_cut(engine: Engine, ids: list[int]) -> None:
    client = sign_in_as(make_console(engine), Role.VIEWER)
    with engine.begin() as tx:
        tx.exec_driver_sql("delete from work_queue")
    assert "No work is dead." in client.get("/dead").text

    with engine.begin() as tx:
        values = {"shop_id": ids[0], "topic": "order_ingest", "status": "dead", "count": 1}
        for number in range(MAX_GROUPS + 1):
            tx.exec_driver_sql(_ADD, {**values, "code": f"a.{number}"})
    page = client.get("/dead").text
    assert page.count('<th scope="row">') == MAX_GROUPS
    assert f"{MAX_GROUPS + 1} groups" in page
