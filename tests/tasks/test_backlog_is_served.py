"""One message that meets a backlog works through it, and through what else waits in its queue."""

from importlib import import_module

import pytest
from sqlalchemy import Engine

from services.ledger.topics import TOPICS
from tests.ledger_rows import accept, new_event, statuses

SETS = 2


def test_one_message_serves_its_backlog_and_its_queues_other_topics(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = import_module("tasks.runner")  # not before the environment is there
    monkeypatch.setattr(runner, "BUDGET_SECONDS", 60.0)  # a slow machine would ring again instead
    topic = TOPICS["order_ingest"]
    many = SETS * topic.batch_size + 1
    accept(engine, *(new_event(n, topic="orders/edited") for n in range(many)))
    accept(engine, new_event(many, topic="customers/merge"))

    served = runner.run_message(topic, [1])

    assert served == {"done": many + 1, "retried": 0, "dead": 0}
    assert statuses(engine) == {"done": many + 1}
