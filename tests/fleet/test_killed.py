"""kill -9 of the supervisor leaves no process, and the next start works."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

from services.fleet.embedded.servers import EmbeddedServers
from services.fleet.embedded.state import end_orphans
from tests.fleet.waiting import is_running, wait_for

_SCRIPT = """
import json, os, sys, time
from pathlib import Path
from services.fleet.child import Program
from services.fleet.embedded.servers import EmbeddedServers
from services.fleet.child import Reaper
from services.fleet.processes import Supervisor
home, reaper = Path(sys.argv[1]), Reaper()
servers = EmbeddedServers.start(home, auto_ports=True, durable=False, reaper=reaper)
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\\nwhile True: time.sleep(60)"
family = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
env = os.environ | {"FLEET_HOME": str(home), "FLEET_PROCESS": "test"}
programs = [Program(name=n, argv=(sys.executable, "-c", c), env=env)
            for n, c in (("stubborn", stubborn), ("family", family))]
supervisor = Supervisor(programs, reaper=reaper, adopted=servers.children)
supervisor.start()
supervisor.wait_healthy(20)
print("ready", reaper.pid, flush=True)
supervisor.wait()
"""


@contextmanager
def started(home: Path) -> Iterator[tuple[subprocess.Popen[str], int, list[int]]]:
    """Yield the supervisor, the id of its reaper and all child processes; end them after the test."""
    process = subprocess.Popen([sys.executable, "-c", _SCRIPT, str(home)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    reaper_pid = 0
    for line in process.stdout:
        if line.startswith("ready"):
            reaper_pid = int(line.split()[1])
            break
    below = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert reaper_pid in below
    try:
        yield process, reaper_pid, below
    finally:
        for pid in (process.pid, *below):
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
        process.stdout.close()
        process.wait()


def name_of(pid: int) -> str:
    return psutil.Process(pid).name()


def test_killed_supervisor_leaves_nothing_behind(home: Path) -> None:
    with started(home) as (supervisor, _, below):
        assert len(below) >= 9  # reaper, servers and their children, one ignoring SIGTERM

        supervisor.kill()

        wait_for(lambda: not any(map(is_running, below)))


def test_next_start_ends_processes_left_by_a_killed_supervisor_and_reaper(home: Path) -> None:
    with started(home) as (supervisor, reaper_pid, below):
        os.kill(supervisor.pid, signal.SIGSTOP)  # so that it cannot replace the reaper in between
        os.kill(reaper_pid, signal.SIGKILL)
        supervisor.kill()
        supervisor.wait()
        left = [pid for pid in below if is_running(pid)]
        assert len(left) >= 8
        assert {name_of(pid) for pid in left} > {"postgres", "valkey-server"}

        end_orphans(home)
        with (
            EmbeddedServers.start(home, auto_ports=True, durable=False) as servers,
            psycopg.connect(servers.database_url) as connection,
        ):
            assert connection.execute("select 1").fetchone() == (1,)

        wait_for(lambda: not any(map(is_running, left)))


def test_killed_servers_are_started_again_with_their_data(home: Path) -> None:
    import io

    from services.fleet.child import Reaper
    from services.fleet.processes import Supervisor

    reaper, out = Reaper(), io.StringIO()
    with EmbeddedServers.start(home, auto_ports=True, reaper=reaper) as servers:
        supervisor = Supervisor([], reaper=reaper, adopted=servers.children, out=out)
        supervisor.start()
        with psycopg.connect(servers.migrate_database_url) as owner:
            owner.execute("create table kept as select 7 as id")
        before = supervisor.pids()

        supervisor.kill("postgres", signal.SIGKILL)
        supervisor.kill("valkey", signal.SIGKILL)

        def is_back() -> bool:
            now = supervisor.pids()
            return all(now[name] not in (None, before[name]) for name in before)

        wait_for(is_back)

        def has_row() -> bool:
            try:
                with psycopg.connect(servers.migrate_database_url, connect_timeout=2) as owner:
                    return owner.execute("select id from kept").fetchone() == (7,)
            except psycopg.OperationalError:
                return False

        wait_for(has_row)
        supervisor.stop()
    reaper.close()
