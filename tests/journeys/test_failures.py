"""Workers and the broker fail; every webhook still has its effect once."""

import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest
import redis
from celery.platforms import EX_UNAVAILABLE

from services.demo.delivery import BAD_SIGNATURE
from services.fleet.embedded.servers import EmbeddedServers
from tests.journeys.journey_fleet import JourneyFleet, wait_for

pytestmark = pytest.mark.xdist_group("journeys")

CUT_SECONDS = 10.0
GIVE_UP_SECONDS = 4.5
"""Half a second less than Shopify waits for an answer."""


def expire_leases(fleet: JourneyFleet) -> None:
    """Expire all leases: a dead worker renews none."""
    fleet.execute("update work_queue set lease_until = now() where locked_at is not null")


def test_call_of_a_killed_worker_is_done_once(fleet: JourneyFleet) -> None:
    shop = fleet.shops[0]
    place = fleet.reserve_item(shop)
    before, _ = fleet.read_stock(shop, place)
    fleet.delay_calls(shop, 30.0)

    order = fleet.sell(shop, place)
    wait_for(lambda: fleet.read_stock(shop, place)[1] != before)  # Shopify has done it, and has not answered
    assert fleet.count_leased("inventory_push") == 1
    fleet.supervisor.kill("worker-outbound")
    fleet.delay_calls(shop, 0.0)
    expire_leases(fleet)

    wait_for(lambda: not fleet.count_open_work())
    sold = order["line_items"][0]["quantity"]
    assert fleet.read_stock(shop, place) == (before - sold, before - sold)
    assert fleet.list_changes(shop, place) == [before - sold]


def test_purge_and_flush_lose_nothing(fleet: JourneyFleet) -> None:
    shop = fleet.shops[1]
    place = fleet.reserve_item(shop)
    fleet.supervisor.hold("worker-webhooks")
    try:
        purged = [fleet.sell(shop, place) for _ in range(5)]
        with redis.Redis.from_url(fleet.env["BROKER_URL"]) as client:
            wait_for(lambda: client.llen("webhooks") >= len(purged))
            output = subprocess.run(
                [sys.executable, "-m", "celery", "-A", "tasks", "purge", "-f"],
                env={**os.environ, **fleet.env}, capture_output=True, timeout=60, check=True, text=True,
            ).stdout  # fmt: skip
            # As reported by Celery: the sweep may have sent another message in the meantime.
            purged_messages = re.search(r"Purged (\d+) message", output)
            assert purged_messages and int(purged_messages[1]) >= len(purged), output
            flushed = [fleet.sell(shop, place) for _ in range(5)]
            client.flushall()
    finally:
        fleet.supervisor.release("worker-webhooks")

    wait_for(lambda: fleet.count_orders(purged + flushed) == 10)
    wait_for(lambda: not fleet.count_open_work())


def test_the_log_level_of_one_worker_changes_while_it_runs(fleet: JourneyFleet) -> None:
    shop = fleet.shops[0]
    log, place = Path(fleet.env["FLEET_HOME"]) / "log", fleet.reserve_item(shop)

    def set_level(level: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "celery", "-A", "tasks", "control", "-t", "60",
             "-d", f"webhooks@{socket.gethostname()}", "log_level", level],
            env={**os.environ, **fleet.env}, capture_output=True, timeout=120, check=True, text=True,
        ).stdout  # fmt: skip

    line = [sys.executable, "-m", "celery", "-A", "tasks", "control", "-d", "sync@HOST", "log_level", "info"]
    refused = subprocess.run(
        line, env={**os.environ, **fleet.env}, capture_output=True, timeout=120, check=False, text=True
    )
    assert refused.returncode == EX_UNAVAILABLE
    assert "sync@HOST does not answer; the nodes that do: " in refused.stderr
    assert f"webhooks@{socket.gethostname()}" in refused.stderr

    def count_lines(worker: str) -> int:
        lines = [line for line in log.read_text().splitlines() if '"batch_settled"' in line]
        return sum(f'"process":"{worker}"' in line for line in lines)

    before = count_lines("worker-webhooks"), count_lines("worker-outbound")
    assert "log level is info until the worker restarts" in set_level("info")
    try:
        fleet.sell(shop, place)
        wait_for(lambda: count_lines("worker-webhooks") > before[0])
        wait_for(lambda: not fleet.count_open_work())
        assert count_lines("worker-outbound") == before[1]
    finally:
        set_level("warning")
    after = count_lines("worker-webhooks")
    assert fleet.count_orders([fleet.sell(shop, place)]) <= 1
    wait_for(lambda: not fleet.count_open_work())
    assert count_lines("worker-webhooks") == after


def test_busy_worker_survives_a_broker_outage(fleet: JourneyFleet) -> None:
    shop = fleet.shops[2]
    place, later = fleet.reserve_item(shop), fleet.reserve_item(shop)
    pids = {name: pid for name, pid in fleet.supervisor.pids().items() if name.startswith("worker-")}
    fleet.delay_calls(shop, 3.0)
    first = fleet.sell(shop, place)
    wait_for(lambda: fleet.count_leased("inventory_push") == 1)

    cut_at = time.monotonic()
    fleet.broker_proxy.cut()
    second = fleet.sell(shop, later)  # answered 200 without the broker
    wait_for(lambda: fleet.count_leased("inventory_push") == 0)
    wait_for(lambda: time.monotonic() - cut_at > CUT_SECONDS)
    fleet.broker_proxy.restore()
    fleet.delay_calls(shop, 0.0)

    wait_for(lambda: fleet.count_orders([first, second]) == 2)
    wait_for(lambda: not fleet.count_open_work())
    assert {name: fleet.supervisor.pids()[name] for name in pids} == pids


def test_frozen_database_answers_503_before_providers_give_up_and_loses_nothing(
    fleet: JourneyFleet, servers: EmbeddedServers
) -> None:
    shop = fleet.shops[0]
    first, order = fleet.make_order(shop, fleet.reserve_item(shop))
    forged = replace(first, fault=BAD_SIGNATURE)
    ingress = f"http://127.0.0.1:{fleet.env['INGRESS_PORT']}"
    assert servers.postgres
    postmaster = psutil.Process(servers.postgres.pid)
    frozen = [postmaster, *postmaster.children()]
    for process in frozen:
        process.suspend()
    try:
        for delivery in (forged, first, forged, forged, first):  # a newer secret may verify a forged one
            headers = fleet.sender._headers(delivery)
            answer = httpx.post(
                ingress + delivery.path, content=delivery.body, headers=headers, timeout=GIVE_UP_SECONDS
            )
            assert answer.status_code == 503
    finally:
        for process in reversed(frozen):
            process.resume()

    fleet.sender.send(first)
    wait_for(lambda: fleet.count_orders([order]) == 1)
    wait_for(lambda: not fleet.count_open_work())


def test_stopping_worker_releases_its_leases(fleet: JourneyFleet) -> None:
    shop = fleet.shops[2]
    places = [fleet.reserve_item(shop) for _ in range(3)]
    before = [fleet.read_stock(shop, place)[0] for place in places]
    fleet.supervisor.hold("worker-outbound")
    fleet.delay_calls(shop, 30.0)
    orders = [fleet.sell(shop, place) for place in places]
    wait_for(lambda: fleet.count_orders(orders) == 3)
    fleet.supervisor.release("worker-outbound")
    wait_for(lambda: fleet.count_leased("inventory_push") == 3)

    fleet.supervisor.hold("worker-outbound", grace_seconds=10.0)

    assert fleet.count_leased("inventory_push") == 0
    fleet.delay_calls(shop, 0.0)
    fleet.supervisor.release("worker-outbound")
    wait_for(lambda: not fleet.count_open_work())
    sold = [order["line_items"][0]["quantity"] for order in orders]
    for place, was, pieces in zip(places, before, sold, strict=True):
        assert fleet.read_stock(shop, place) == (was - pieces, was - pieces)
        assert fleet.list_changes(shop, place) == [was - pieces]
