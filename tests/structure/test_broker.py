"""The message that ingress writes is what Celery itself would have written."""

import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from services.core import broker
from services.core.broker import BrokerUnreachable, Sender, connect, make_queue, queue_depths, task_message
from services.fleet.embedded.servers import EmbeddedServers
from tests.fleet.waiting import run_within


def test_our_message_is_celerys_own_to_the_last_header(environment: dict[str, str]) -> None:
    from tasks.celery import app

    task_id = str(uuid4())
    theirs = app.amqp.as_task_v2(
        task_id, "order_ingest", args=([1, 2, 3],), kwargs={}, ignore_result=True, origin=broker._ORIGIN
    )
    headers, body = task_message("order_ingest", [1, 2, 3], task_id)

    assert headers == theirs.headers
    assert json.loads(json.dumps(body)) == json.loads(json.dumps(theirs.body))


def test_on_the_wire_it_differs_from_celerys_in_nothing_but_tags(broker_url: str) -> None:
    from tasks.celery import app

    Sender(broker_url).send("webhooks", "order_ingest", [7])
    # Not by send_task: Sentry's SDK, once any test has started it, adds headers of its own there.
    message = app.amqp.as_task_v2(str(uuid4()), "order_ingest", args=([7],), kwargs={}, ignore_result=True)
    with app.producer_pool.acquire(block=True) as producer:
        app.amqp.send_task_message(producer, "order_ingest", message, queue="webhooks", retry=False)
    with redis.Redis.from_url(broker_url) as valkey:
        theirs, ours = (json.loads(raw) for raw in valkey.lrange("webhooks", 0, -1))

    def shape(value: object) -> object:
        return {k: shape(v) for k, v in value.items()} if isinstance(value, dict) else type(value).__name__

    assert shape(ours["headers"]) == shape(theirs["headers"])
    assert shape(ours) == shape(theirs)
    assert ours["body"] == theirs["body"]


def test_depths_count_messages_and_an_absent_queue_is_empty(broker_url: str) -> None:
    sender = Sender(broker_url)
    for number in range(3):
        sender.send("webhooks", "order_ingest", [number])
    assert queue_depths(["webhooks", "email"]) == {"webhooks": 3, "email": 0}


def test_depths_count_messages_of_every_priority(broker_url: str) -> None:
    with connect(broker_url) as connection:
        for priority in (0, 3, 9):
            connection.Producer().publish({}, routing_key="sync", priority=priority)
    assert queue_depths(["email", "sync"]) == {"email": 0, "sync": 3}


def test_a_broker_that_is_away_says_so_within_seconds() -> None:
    with pytest.raises(BrokerUnreachable):
        run_within(lambda: Sender("redis://127.0.0.1:1/0").send("webhooks", "order_ingest", [1]), seconds=15)


def test_workers_hold_no_unacknowledged_message_that_a_lost_broker_would_crash_them_over(
    environment: dict[str, str],
) -> None:
    from tasks.celery import app

    with app.connection_for_read() as connection:
        assert connection.default_channel.ack_emulation is False
    assert app.conf.worker_disable_prefetch
    assert app.conf.accept_content == ["json"]
    assert app.conf.result_backend is None


def test_broker_that_dies_with_messages_in_hand_leaves_no_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    with EmbeddedServers.start(
        tmp_path / "home", auto_ports=True, with_postgres=False, throwaway=True
    ) as servers:
        url = servers.broker_url
        Sender(url).send("webhooks", "order_ingest", [7])
        link = connect(url)
        channel = link.channel()
        message = make_queue("webhooks", url).bind(channel).get(no_ack=False)
        assert message is not None
        assert servers.valkey is not None
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        with caplog.at_level(logging.WARNING, logger="services.core.broker"):
            servers.valkey.stop(0)
            channel.qos.restore_unacked_once()

    assert list(folder.iterdir()) == []
    assert [(r.getMessage(), r.__dict__["fields"]) for r in caplog.records if r.name.endswith("broker")] == [
        ("messages_not_returned", {"count": 1})
    ]


def test_every_process_that_speaks_with_the_broker_keeps_messages_out_of_files(
    environment: dict[str, str],
) -> None:
    """By what each of them loads: workers, beat and Flower the app, ingress its own, commands the sender."""
    said = (
        "from kombu.transport.virtual import base\n"
        "assert base.emergency_dump_state.__module__ == 'services.core.broker'"
    )
    for module in ("tasks.celery", "services.ingress.app", "services.ledger.dispatch"):
        subprocess.run([sys.executable, "-c", f"import {module}\n{said}"], check=True, timeout=60)
