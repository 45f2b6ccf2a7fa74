"""Workers and the broker fail on the way; every webhook still arrives, once."""

import os
import re
import subprocess
import sys
import time

import pytest
import redis

from tests.journeys.running_fleet import House, wait_for

pytestmark = pytest.mark.xdist_group("journeys")

CUT_SECONDS = 10.0


def expire_leases(house: House) -> None:
    """Have half a minute pass for the leases: a dead worker renews none."""
    house.write("update work_queue set lease_until = now() where locked_at is not null")


def test_call_in_the_hand_of_a_killed_worker_is_done_once(house: House) -> None:
    shop = house.shops[0]
    place = house.take_item(shop)
    before, _ = house.stock(shop, place)
    house.slow_down(shop, 30.0)

    order = house.sell(shop, place)
    wait_for(lambda: house.stock(shop, place)[1] != before)  # Shopify has done it, and has not answered
    assert house.count_in_hand("inventory_push") == 1
    house.supervisor.kill("worker-outbound")
    house.slow_down(shop, 0.0)
    expire_leases(house)

    wait_for(lambda: not house.count_waiting())
    sold = order["line_items"][0]["quantity"]
    assert house.stock(shop, place) == (before - sold, before - sold)
    assert house.changes(shop, place) == [before - sold]


def test_purge_and_flush_lose_nothing(house: House) -> None:
    shop = house.shops[1]
    place = house.take_item(shop)
    house.supervisor.hold("worker-webhooks")
    try:
        purged = [house.sell(shop, place) for _ in range(5)]
        with redis.Redis.from_url(house.env["BROKER_URL"]) as client:
            wait_for(lambda: client.llen("webhooks") >= len(purged))
            told = subprocess.run(
                [sys.executable, "-m", "celery", "-A", "tasks", "purge", "-f"],
                env={**os.environ, **house.env}, capture_output=True, timeout=60, check=True, text=True,
            ).stdout  # fmt: skip
            # By its own word: the sweep may have rung for one of them again by now.
            purged_messages = re.search(r"Purged (\d+) message", told)
            assert purged_messages and int(purged_messages[1]) >= len(purged), told
            flushed = [house.sell(shop, place) for _ in range(5)]
            client.flushall()
    finally:
        house.supervisor.release("worker-webhooks")

    wait_for(lambda: house.count_orders(purged + flushed) == 10)
    wait_for(lambda: not house.count_waiting())


def test_busy_worker_outlives_a_broker_that_is_away(house: House) -> None:
    shop = house.shops[2]
    place, later = house.take_item(shop), house.take_item(shop)
    pids = {name: pid for name, pid in house.supervisor.pids().items() if name.startswith("worker-")}
    house.slow_down(shop, 3.0)
    first = house.sell(shop, place)
    wait_for(lambda: house.count_in_hand("inventory_push") == 1)

    cut_at = time.monotonic()
    house.line.cut()
    second = house.sell(shop, later)  # answered 200: a broker that is away refuses nobody
    wait_for(lambda: house.count_in_hand("inventory_push") == 0)
    wait_for(lambda: time.monotonic() - cut_at > CUT_SECONDS)
    house.line.mend()
    house.slow_down(shop, 0.0)

    wait_for(lambda: house.count_orders([first, second]) == 2)
    wait_for(lambda: not house.count_waiting())
    assert {name: house.supervisor.pids()[name] for name in pids} == pids


def test_worker_that_is_asked_to_stop_gives_its_calls_back(house: House) -> None:
    shop = house.shops[2]
    places = [house.take_item(shop) for _ in range(3)]
    before = [house.stock(shop, place)[0] for place in places]
    house.supervisor.hold("worker-outbound")
    house.slow_down(shop, 30.0)
    orders = [house.sell(shop, place) for place in places]
    wait_for(lambda: house.count_orders(orders) == 3)
    house.supervisor.release("worker-outbound")
    wait_for(lambda: house.count_in_hand("inventory_push") == 3)

    house.supervisor.hold("worker-outbound", grace_seconds=10.0)

    assert house.count_in_hand("inventory_push") == 0
    house.slow_down(shop, 0.0)
    house.supervisor.release("worker-outbound")
    wait_for(lambda: not house.count_waiting())
    sold = [order["line_items"][0]["quantity"] for order in orders]
    for place, was, pieces in zip(places, before, sold, strict=True):
        assert house.stock(shop, place) == (was - pieces, was - pieces)
        assert house.changes(shop, place) == [was - pieces]
