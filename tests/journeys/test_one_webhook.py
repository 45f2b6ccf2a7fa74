"""The way of one webhook, from the door to the world."""

import base64
import json
import os
import subprocess
import sys

import pytest
import redis

from tests.journeys.running_fleet import House, wait_for

pytestmark = pytest.mark.xdist_group("journeys")


def test_webhook_becomes_an_order_and_shopify_holds_the_new_stock(house: House) -> None:
    shop = house.shops[0]
    place = house.take_item(shop)
    before, _ = house.stock(shop, place)

    order = house.sell(shop, place)

    sold = order["line_items"][0]["quantity"]
    wait_for(lambda: house.stock(shop, place) == (before - sold, before - sold))
    (row,) = house.ask(
        "select name, currency, financial_status from orders where order_gid = :gid",
        gid=order["admin_graphql_api_id"],
    )
    assert row == (order["name"], shop.currency, "paid")


def test_one_request_id_goes_from_the_webhook_to_the_push(house: House) -> None:
    shop = house.shops[0]
    place = house.take_item(shop)
    item = shop.items[place].inventory_item_id
    pushes = "select request_id from work_queue where topic = 'inventory_push' and key like :key"
    before = len(house.ask(pushes, key=f"{item}:%"))

    house.sell(shop, place)

    wait_for(lambda: len(house.ask(pushes, key=f"{item}:%")) > before)
    request_id = house.ask(pushes + " order by id desc limit 1", key=f"{item}:%")[0][0]
    found = house.ask("select topic from inbound_events where request_id = :id", id=request_id)
    assert found == [("orders/create",)]


def test_celery_reaches_every_worker(house: House) -> None:
    command = [sys.executable, "-m", "celery", "-A", "tasks", "inspect", "ping", "-t", "3", "--json"]

    done = subprocess.run(
        command, env={**os.environ, **house.env}, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout[done.stdout.index("{") :])
    assert {node.partition("@")[0] for node in answers} == {"webhooks", "outbound", "ops"}


def test_under_light_load_each_item_has_a_message_of_its_own(house: House) -> None:
    shop = house.shops[1]
    house.supervisor.hold("worker-webhooks")
    try:
        with redis.Redis.from_url(house.env["BROKER_URL"]) as client:
            client.delete("webhooks")
            orders = [house.sell(shop, house.take_item(shop)) for _ in range(3)]

            def told() -> list[list[int]]:
                bodies = [json.loads(raw) for raw in client.lrange("webhooks", 0, -1)]
                ours = [body for body in bodies if body["headers"]["task"] == "order_ingest"]
                return [json.loads(base64.b64decode(body["body"]))[0][0] for body in ours]

            wait_for(lambda: len(told()) == len(orders))
            assert [len(ids) for ids in told()] == [1, 1, 1]
    finally:
        house.supervisor.release("worker-webhooks")
    wait_for(lambda: house.count_orders(orders) == len(orders))
