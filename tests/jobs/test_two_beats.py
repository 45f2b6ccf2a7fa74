"""Two real beats: one is the leader, both may be killed, each run starts once."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from tests.fleet.waiting import wait_for
from tests.jobs.job_rows import add_jobs, add_shops, run_tick, runs

ROOT = Path(__file__).parents[2]
SHOPS = 12
COUNT = "select count(*), count(distinct (shop_id, period)) from job_runs where job = 'daily-reconciliation'"
FORGET_LAST_NIGHT = """
delete from job_runs where period = (select max(period) from job_runs where job = 'daily-reconciliation')
"""
WORK = "select count(*) from work_queue where topic = 'reconcile'"


class Beat:
    """A beat process."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str]) -> None:
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tasks", "beat"],
                cwd=ROOT,
                env=os.environ | environment | {"FLEET_PROCESS": name, "LOG_LEVEL": "info"},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def leads(self) -> bool:
        """Return whether it logged that it is the leader."""
        return "beat_became_leader" in self.log.read_text()

    def kill(self) -> None:
        """Send SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


@pytest.fixture
def beats(
    engine: Engine, broker_url: str, environment: dict[str, str], tmp_path: Path
) -> Iterator[list[Beat]]:
    """Two beats, and shops whose job was due in the last three nights."""
    from beat_schedule import JOBS

    now = utc_now()
    add_shops(engine, now - timedelta(days=30), **{f"shop-{n}": "America/Los_Angeles" for n in range(SHOPS)})
    add_jobs(engine, now - timedelta(days=3), *JOBS)
    run_tick(engine, now - timedelta(days=3))
    started = [
        Beat(name, tmp_path, environment | {"BROKER_URL": broker_url}) for name in ("beat-1", "beat-2")
    ]
    yield started
    for beat in started:
        beat.kill()


def test_two_beats_start_each_run_once_even_if_the_leader_is_killed(
    engine: Engine, beats: list[Beat]
) -> None:
    wait_for(lambda: runs(engine, COUNT)[0][0] > 0, seconds=40)
    assert runs(engine, COUNT) == [(SHOPS * 3, SHOPS * 3)]
    assert [beat.leads for beat in beats].count(True) == 1

    (leader,) = [beat for beat in beats if beat.leads]
    (other,) = [beat for beat in beats if not beat.leads]
    leader.kill()
    with transaction(engine) as tx:  # another night becomes due without a leader
        tx.execute(text(FORGET_LAST_NIGHT))
        tx.execute(
            text(
                "update job_schedule_state "
                "set scheduled_until = scheduled_until - interval '1 day', next_due_at = now()"
            )
        )

    wait_for(lambda: other.leads, seconds=20)
    wait_for(lambda: runs(engine, COUNT)[0][0] == SHOPS * 3, seconds=20)
    assert runs(engine, COUNT) == [(SHOPS * 3, SHOPS * 3)]
    assert runs(engine, WORK) == [(SHOPS * 4,)]  # deleted runs have work twice, the others once
