"""One message processes the whole backlog of its queue."""

from importlib import import_module

import pytest
from sqlalchemy import Engine

from services.ledger.topics import TOPICS
from tests.ledger_rows import accept, new_event, statuses

SETS = 2


def test_one_message_processes_its_backlog_and_other_topics_of_its_queue(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = import_module("tasks.runner")  # after the environment is set
    monkeypatch.setattr(runner, "BUDGET_SECONDS", 60.0)  # a slow machine would send another message instead
    topic = TOPICS["order_ingest"]
    many = SETS * topic.batch_size + 1
    accept(engine, *(new_event(n, topic="orders/edited") for n in range(many)))
    accept(engine, new_event(many, topic="customers/merge"))

    served = runner.run_message(topic, [1])

    assert served == {"done": many + 1, "retried": 0, "dead": 0}
    assert statuses(engine) == {"done": many + 1}
