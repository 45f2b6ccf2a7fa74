"""``celery -A tasks backlog`` and ``fleet doctor`` name a worker that hangs."""

import json
import subprocess
import sys
from datetime import timedelta

from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.fleet.doctor_database import check_processes
from tasks.commands import backlog
from tasks.commands.backlog import BELOW_ZERO
from tests.cli.test_celery_commands import run
from tests.health.fleet_rows import add_heartbeats

_HANGS = """
update heartbeats set at = %(at)s, detail = '{"worker": "shelf:4711"}' where name = 'queue:email'
"""
_BEAT_STOPPED = "update heartbeats set at = at - interval '1 hour' where name = 'beat'"


def test_a_worker_that_hangs_is_named(engine: Engine, broker_url: str) -> None:
    now = utc_now()
    with transaction(engine) as tx:
        assert check_processes(tx).seen == "beat has not run yet"
        add_heartbeats(tx, now)
        assert check_processes(tx).seen == "beat, the sweep and a worker of each queue answer"
        tx.exec_driver_sql(_HANGS, {"at": now - timedelta(minutes=3)})
        found = check_processes(tx)
    shown, document = run(backlog).output, json.loads(run(backlog, "--json").output)

    assert (found.ok, found.is_note) == (False, False)
    for text in (shown, document["down"]["worker:email"], found.seen):
        assert "no worker has answered on the queue email for 3m" in text
        assert "the last was shelf:4711: if it still runs, it hangs: restart it" in text
    assert [*document["down"]] == ["worker:email"]


def test_a_fleet_that_was_stopped_is_only_noted(engine: Engine) -> None:
    with transaction(engine) as tx:
        add_heartbeats(tx, utc_now())
        tx.exec_driver_sql(_BEAT_STOPPED)
        found = check_processes(tx)

    assert (found.ok, found.is_note) == (True, True)
    assert found.seen.startswith("no beat has sent a message for 1h")


def test_messages_without_a_row_are_explained(engine: Engine, broker_url: str) -> None:
    assert BELOW_ZERO not in run(backlog).output
    line = [sys.executable, "-m", "celery", "-A", "tasks", "call", "canary", "-a", '["email"]']
    subprocess.run([*line, "--queue", "email"], capture_output=True, check=True, timeout=60)

    assert BELOW_ZERO in run(backlog).output
