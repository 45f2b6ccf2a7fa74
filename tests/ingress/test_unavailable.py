"""Outage of database or broker, a full queue, a stop of the ingress: no event is lost or invented."""

import asyncio
import threading
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
import redis
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.ingress import group_commit
from services.ingress.app import Ingress
from services.ingress.secret_cache import SecretSnapshot
from services.ledger.accept import AcceptedEvent, NewEvent
from services.shops.secrets import record_secret
from services.shops.shops import add_shop
from tests.fakes.tcp_proxy import TcpProxy
from tests.fleet.waiting import run_within
from tests.ingress.conftest import SHOPIFY_SECRET
from tests.ingress.posting import post_order, stored
from tests.ingress.rsgi import Client, Reply, running

SHOPIFY_GIVES_UP_SECONDS = 4.5
"""Half a second less than Shopify waits for an answer."""


def test_without_the_database_the_answer_is_503_within_two_seconds_until_it_is_back(
    client: Client, engine: Engine, database_proxy: TcpProxy
) -> None:
    assert post_order(client, webhook_id="before").status_code == 200
    for fault in (database_proxy.cut, database_proxy.silence):
        fault()
        answer = run_within(partial(post_order, client, webhook_id=fault.__name__), seconds=6)
        assert (answer.status_code, answer.json) == (503, {"error": "unavailable"})
        assert int(answer.headers["Retry-After"]) > 0
        database_proxy.restore()
        deadline = time.monotonic() + 60
        while post_order(client, webhook_id=fault.__name__).status_code != 200:
            assert time.monotonic() < deadline, f"the ingress did not recover from {fault.__name__}"
    assert {e.delivery_key for e in stored(engine)} == {"before", "cut", "silence"}


def test_a_sender_that_cannot_be_looked_up_now_is_asked_to_come_back(
    client: Client, ingress: Ingress, engine: Engine, shop_id: int
) -> None:
    with transaction(engine) as tx:
        shop = add_shop(tx, slug="new", name="New", timezone="UTC", currency="CAD", now=utc_now())
        record_secret(tx, shop.id, "shopify-webhook", SHOPIFY_SECRET, utc_now())
        record_secret(tx, shop_id, "shopify-webhook", "the-new-client-secret", utc_now())
    before = ingress.secrets.snapshot
    with ingress.secrets._lock:  # a refresh that a slow database holds up, begun before the change
        ingress.secrets.snapshot = SecretSnapshot(keys=before.keys, shop_ids={"acme": shop_id}, version=(1,))
        answers = [
            post_order(client, shop="new"),
            post_order(client, secret="the-newest-client-secret"),
        ]
    assert [(one.status_code, one.json) for one in answers] == [(503, {"error": "unavailable"})] * 2
    assert int(answers[0].headers["Retry-After"]) > 0

    assert post_order(client, shop="new").status_code == 200
    assert post_order(client, secret="the-newest-client-secret").status_code == 401


def test_forged_webhooks_are_503_while_the_database_is_away(client: Client, database_proxy: TcpProxy) -> None:
    database_proxy.cut()
    assert post_order(client, secret="another").status_code == 503
    assert post_order(client, shop="nobody").status_code == 503


@pytest.mark.parametrize("other", [{"secret": "another"}, {"shop": "nobody"}])
def test_a_webhook_whose_secret_a_frozen_database_must_confirm_is_503_before_shopify_gives_up(
    client: Client, ingress: Ingress, database_proxy: TcpProxy, other: dict[str, str]
) -> None:
    ingress.secrets.stop()
    with ingress.secrets._lock:  # the request itself reads the secrets, not the thread that refreshes them
        pass
    assert ingress.secrets.reload()
    database_proxy.silence()  # open connections stay open
    try:
        answer = run_within(partial(post_order, client, **other), seconds=SHOPIFY_GIVES_UP_SECONDS)
    finally:
        database_proxy.restore()
    assert (answer.status_code, answer.json) == (503, {"error": "unavailable"})


def test_without_the_broker_the_answer_is_still_200(
    settings: Any, shop_id: int, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.core.settings import get_settings
    from services.ledger import dispatch

    monkeypatch.setenv("BROKER_URL", "redis://:nobody@127.0.0.1:1/0")
    get_settings.cache_clear()
    try:
        with running(get_settings()) as app:
            assert post_order(Client(app)).status_code == 200
    finally:
        dispatch.reset_sender()
        get_settings.cache_clear()


def test_accepted_event_sends_a_message_to_the_broker(
    client: Client, ingress: Ingress, broker_url: str
) -> None:
    post_order(client)
    ingress.notifier.close()
    with redis.Redis.from_url(broker_url) as valkey:
        assert valkey.llen("webhooks") == 1


def test_full_queue_is_503_and_memory_is_bounded(
    ingress: Ingress, client: Client, database_proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MAX_WAITING", 2)
    database_proxy.silence()
    answers: list[int] = []
    threads = [
        threading.Thread(
            target=lambda n=n: answers.append(post_order(client, webhook_id=f"f{n}").status_code)
        )
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database_proxy.restore()
    assert answers == [503] * 12


def test_event_that_the_database_refuses_does_not_affect_other_events(
    ingress: Ingress, engine: Engine
) -> None:
    def event(number: int, **changes: Any) -> NewEvent:
        values: dict[str, Any] = {
            "shop_id": 1,
            "provider": "shopify",
            "topic": "orders/create",
            "delivery_key": f"k{number}",
            "body": b"{}",
            "received_at": datetime.now(UTC),
        }
        return NewEvent(**(values | changes))

    first, bad, last = ingress.commits._commit([event(1), event(2, delivery_key="nul\0byte"), event(3)])

    assert isinstance(first, AcceptedEvent)
    assert isinstance(last, AcceptedEvent)
    assert isinstance(bad, Exception)
    assert {e.delivery_key for e in stored(engine)} == {"k1", "k3"}


def test_requests_that_arrive_together_share_a_commit_and_each_gets_its_own_answer(
    client: Client, engine: Engine
) -> None:
    replies: list[Reply] = []
    threads = [
        threading.Thread(target=lambda n=n: replies.append(post_order(client, webhook_id=f"g{n % 30}")))
        for n in range(60)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [r.status_code for r in replies] == [200] * 60
    assert sorted(r.json["status"] for r in replies) == ["accepted"] * 30 + ["duplicate"] * 30
    assert len({r.json["id"] for r in replies}) == len(stored(engine)) == 30


def test_pending_requests_are_answered_when_the_ingress_stops(
    settings: Any, shop_id: int, engine: Engine
) -> None:
    replies: list[Reply] = []
    with running(settings) as app:
        client = Client(app)
        threads = [
            threading.Thread(target=lambda n=n: replies.append(post_order(client, webhook_id=f"s{n}")))
            for n in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        asyncio.run_coroutine_threadsafe(app.commits.close(), client._loop).result(60)
        assert post_order(client, webhook_id="late").status_code == 503
    assert [r.status_code for r in replies] == [200] * 20
    assert len(stored(engine)) == 20
