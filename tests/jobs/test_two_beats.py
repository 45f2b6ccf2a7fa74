"""Two real beats: one is the leader, both may be killed, frozen or cut off, each run starts once."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from tests.fakes.tcp_proxy import TcpProxy
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

    def logged(self, text: str) -> bool:
        """Return whether its log has ``text``."""
        return text in self.log.read_text()

    @property
    def leads(self) -> bool:
        """Return whether it logged that it is the leader."""
        return self.logged("beat_became_leader")

    def kill(self) -> None:
        """Send SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(90)


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
    wait_for(lambda: runs(engine, COUNT)[0][0] > 0, seconds=120)
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

    wait_for(lambda: other.leads, seconds=90)
    wait_for(lambda: runs(engine, COUNT)[0][0] == SHOPS * 3, seconds=90)
    assert runs(engine, COUNT) == [(SHOPS * 3, SHOPS * 3)]
    assert runs(engine, WORK) == [(SHOPS * 4,)]  # deleted runs have work twice, the others once


def sent_after(engine: Engine, moment: datetime) -> bool:
    """Return whether the broker took a message of a beat after ``moment``."""
    return any(at > moment for (at,) in runs(engine, "select at from heartbeats where name = 'beat'"))


@pytest.fixture
def proxy(broker_url: str) -> Iterator[TcpProxy]:
    """A proxy to the broker."""
    with TcpProxy("127.0.0.1", urlsplit(broker_url).port or 0) as proxy:
        yield proxy


@pytest.fixture
def start(
    engine: Engine, broker_url: str, proxy: TcpProxy, environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[[str], Beat]]:
    """Start a beat that reaches the broker through ``proxy`` if it is ``beat-1``, else directly."""
    through = broker_url.replace(f":{urlsplit(broker_url).port}/", f":{proxy.port}/")
    started = []

    def start(name: str) -> Beat:
        url = through if name == "beat-1" else broker_url
        started.append(Beat(name, tmp_path, environment | {"BROKER_URL": url}))
        return started[-1]

    yield start
    for beat in started:
        beat.kill()


FAULTS: dict[str, Callable[[Beat, TcpProxy], object]] = {
    "frozen": lambda leader, _: psutil.Process(leader.process.pid).suspend(),
    "cut off from the broker": lambda _, proxy: proxy.cut(),
    "without answer from the broker": lambda _, proxy: proxy.silence(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_standby_takes_over_from_a_leader_that_is(
    engine: Engine, start: Callable[[str], Beat], proxy: TcpProxy, fault: str
) -> None:
    leader = start("beat-1")
    wait_for(lambda: leader.leads, seconds=120)
    standby = start("beat-2")

    FAULTS[fault](leader, proxy)
    wait_for(lambda: standby.leads, seconds=180)
    led_at = utc_now()
    wait_for(lambda: sent_after(engine, led_at), seconds=60)

    proxy.restore()
    psutil.Process(leader.process.pid).resume()
    wait_for(lambda: leader.logged("beat_not_leading"), seconds=60)
    assert not standby.logged("beat_not_leading")


@pytest.mark.parametrize("fault", ["cut", "silence"])
def test_a_leader_sends_again_over_a_new_connection_when_the_broker_is_back(
    engine: Engine, start: Callable[[str], Beat], proxy: TcpProxy, fault: str
) -> None:
    beat = start("beat-1")
    wait_for(lambda: sent_after(engine, utc_now() - timedelta(hours=1)), seconds=120)

    getattr(proxy, fault)()
    wait_for(lambda: beat.logged("beat_send_failed"), seconds=60)
    restored_at = utc_now()
    proxy.restore()

    wait_for(lambda: sent_after(engine, restored_at), seconds=180)
    assert beat.logged("beat_send_resumed")
