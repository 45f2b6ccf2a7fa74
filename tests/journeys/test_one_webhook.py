"""One webhook from the ingress to the push at Shopify."""

import base64
import json
import os
import subprocess
import sys

import pytest
import redis

from tests.journeys.journey_fleet import JourneyFleet, wait_for

pytestmark = pytest.mark.xdist_group("journeys")


def test_webhook_becomes_an_order_and_shopify_holds_the_new_stock(fleet: JourneyFleet) -> None:
    shop = fleet.shops[0]
    place = fleet.reserve_item(shop)
    before, _ = fleet.read_stock(shop, place)

    order = fleet.sell(shop, place)

    sold = order["line_items"][0]["quantity"]
    wait_for(lambda: fleet.read_stock(shop, place) == (before - sold, before - sold))
    (row,) = fleet.select(
        "select name, currency, financial_status from orders where order_gid = :gid",
        gid=order["admin_graphql_api_id"],
    )
    assert row == (order["name"], shop.currency, "paid")


def test_one_request_id_goes_from_the_webhook_to_the_push(fleet: JourneyFleet) -> None:
    shop = fleet.shops[0]
    place = fleet.reserve_item(shop)
    item = shop.items[place].inventory_item_id
    pushes = "select request_id from work_queue where topic = 'inventory_push' and key like :key"
    before = len(fleet.select(pushes, key=f"{item}:%"))

    fleet.sell(shop, place)

    wait_for(lambda: len(fleet.select(pushes, key=f"{item}:%")) > before)
    request_id = fleet.select(pushes + " order by id desc limit 1", key=f"{item}:%")[0][0]
    found = fleet.select("select topic from inbound_events where request_id = :id", id=request_id)
    assert found == [("orders/create",)]


@pytest.mark.parametrize("words", [("inspect", "ping"), ("status",)], ids="-".join)
def test_celery_reaches_every_worker(fleet: JourneyFleet, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "celery", "-A", "tasks", *words, "-t", "3", "--json"]

    done = subprocess.run(
        command, env={**os.environ, **fleet.env}, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert {node.partition("@")[0] for node in answers} == {"webhooks", "outbound", "ops"}


def test_under_light_load_each_item_has_a_message_of_its_own(fleet: JourneyFleet) -> None:
    shop = fleet.shops[1]
    fleet.supervisor.hold("worker-webhooks")
    try:
        with redis.Redis.from_url(fleet.env["BROKER_URL"]) as client:
            client.delete("webhooks")
            orders = [fleet.sell(shop, fleet.reserve_item(shop)) for _ in range(3)]

            def sent_ids() -> list[list[int]]:
                bodies = [json.loads(raw) for raw in client.lrange("webhooks", 0, -1)]
                ingests = [body for body in bodies if body["headers"]["task"] == "order_ingest"]
                return [json.loads(base64.b64decode(body["body"]))[0][0] for body in ingests]

            wait_for(lambda: len(sent_ids()) == len(orders))
            assert [len(ids) for ids in sent_ids()] == [1, 1, 1]
    finally:
        fleet.supervisor.release("worker-webhooks")
    wait_for(lambda: fleet.count_orders(orders) == len(orders))
