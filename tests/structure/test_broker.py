"""The message that the ingress sends equals the message of Celery."""

import json
import logging
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import redis

from services.core import broker
from services.core.broker import BrokerUnreachable, Sender, connect, make_queue, queue_depths, task_message
from services.fleet.embedded.servers import EmbeddedServers
from tests.cli.programs import run_celery
from tests.fakes.tcp_proxy import TcpProxy
from tests.fleet.waiting import run_within


@pytest.mark.parametrize(
    ("task", "args", "expires_at"),
    [
        ("order_ingest", [[1, 2, 3]], None),
        ("sweep", [], datetime(2026, 11, 21, 9, 0, 10, 5, tzinfo=UTC)),
        ("canary", ["email"], datetime(2026, 11, 21, 9, 0, 30, tzinfo=UTC)),
    ],
)
def test_message_equals_that_of_celery(
    environment: dict[str, str], task: str, args: list[Any], expires_at: datetime | None
) -> None:
    from tasks.celery import app

    task_id = str(uuid4())
    expected = app.amqp.as_task_v2(
        task_id,
        task,
        args=tuple(args),
        kwargs={},
        ignore_result=True,
        origin=broker._ORIGIN,
        expires=expires_at,
    )
    headers, body = task_message(task, args, task_id, expires_at)

    assert headers == expected.headers
    assert json.loads(json.dumps(body)) == json.loads(json.dumps(expected.body))


def test_stored_message_differs_from_celerys_only_in_its_tags(broker_url: str) -> None:
    from tasks.celery import app

    Sender(broker_url).send("webhooks", "order_ingest", [[7]])
    # Without send_task: Sentry's SDK, once started by a test, adds headers there.
    message = app.amqp.as_task_v2(str(uuid4()), "order_ingest", args=([7],), kwargs={}, ignore_result=True)
    with app.producer_pool.acquire(block=True) as producer:
        app.amqp.send_task_message(producer, "order_ingest", message, queue="webhooks", retry=False)
    with redis.Redis.from_url(broker_url) as valkey:
        expected, message_sent = (json.loads(raw) for raw in valkey.lrange("webhooks", 0, -1))

    def shape(value: object) -> object:
        return {k: shape(v) for k, v in value.items()} if isinstance(value, dict) else type(value).__name__

    assert shape(message_sent["headers"]) == shape(expected["headers"])
    assert shape(message_sent) == shape(expected)
    assert message_sent["body"] == expected["body"]


def test_depths_count_messages_and_an_absent_queue_is_empty(broker_url: str) -> None:
    sender = Sender(broker_url)
    for number in range(3):
        sender.send("webhooks", "order_ingest", [[number]])
    assert queue_depths(["webhooks", "email"]) == {"webhooks": 3, "email": 0}
    assert sender.count_messages(["webhooks", "email"]) == {"webhooks": 3, "email": 0}


def test_a_planned_purge_counts_the_messages_of_its_queues_and_deletes_none(broker_url: str) -> None:
    sender = Sender(broker_url)
    for queue in ("webhooks", "webhooks", "email", "ops"):
        sender.send(queue, "canary", [queue])
    every = run_celery("-A", "tasks", "purge", "--dry-run")
    two = run_celery("-A", "tasks", "purge", "--dry-run", "-Q", "webhooks,email", "-X", "email")

    assert (every.returncode, two.returncode) == (0, 0), every.stderr + two.stderr
    assert "4 messages would be deleted" in every.stdout
    assert "2 messages would be deleted" in " ".join(two.stdout.split())
    assert "email" not in two.stdout
    assert queue_depths(["webhooks", "email", "ops"]) == {"webhooks": 2, "email": 1, "ops": 1}


def test_a_sender_that_lost_its_connection_counts_over_a_new_one(broker_url: str) -> None:
    broker = urlsplit(broker_url)
    with TcpProxy("127.0.0.1", broker.port or 0) as proxy:
        sender = Sender(broker_url.replace(f":{broker.port}/", f":{proxy.port}/"))
        sender.send("ops", "sweep", [])
        proxy.cut()
        assert sender.count_messages(["ops"]) is None
        proxy.restore()

        assert sender.count_messages(["ops"]) == {"ops": 1}


def test_depths_count_messages_of_every_priority(broker_url: str) -> None:
    with connect(broker_url) as connection:
        for priority in (0, 3, 9):
            connection.Producer().publish({}, routing_key="sync", priority=priority)
    assert queue_depths(["email", "sync"]) == {"email": 0, "sync": 3}


def test_unreachable_broker_raises_within_seconds() -> None:
    with pytest.raises(BrokerUnreachable):
        run_within(
            lambda: Sender("redis://127.0.0.1:1/0").send("webhooks", "order_ingest", [[1]]), seconds=15
        )


def test_broker_without_memory_refuses_a_message_until_it_has_some(broker_url: str) -> None:
    sender = Sender(broker_url)
    with redis.Redis.from_url(broker_url) as valkey:
        valkey.config_set("maxmemory", 1)
        try:
            with pytest.raises(BrokerUnreachable):
                sender.send("ops", "sweep", [])
        finally:
            valkey.config_set("maxmemory", 0)

    sender.send("ops", "sweep", [])
    assert queue_depths(["ops"]) == {"ops": 1}


def test_workers_hold_no_unacknowledged_message(
    environment: dict[str, str],
) -> None:
    from tasks.celery import app

    with app.connection_for_read() as connection:
        assert connection.default_channel.ack_emulation is False
    assert app.conf.worker_disable_prefetch
    assert app.conf.accept_content == ["json"]
    assert app.conf.result_backend is None


def test_broker_lost_with_unacknowledged_messages_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    with EmbeddedServers.start(
        tmp_path / "home", auto_ports=True, with_postgres=False, throwaway=True
    ) as servers:
        url = servers.broker_url
        Sender(url).send("webhooks", "order_ingest", [[7]])
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


def test_every_process_with_a_broker_connection_writes_no_messages_to_files(
    environment: dict[str, str],
) -> None:
    """Checked by module: workers, beat and Flower load the app, the ingress and commands the sender."""
    assertion = (
        "from kombu.transport.virtual import base\n"
        "assert base.emergency_dump_state.__module__ == 'services.core.broker'"
    )
    for module in ("tasks.celery", "services.ingress.app", "services.ledger.dispatch"):
        subprocess.run([sys.executable, "-c", f"import {module}\n{assertion}"], check=True, timeout=60)
