"""kill -9 of the supervisor: nothing it started is left, and the next start works."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

from services.fleet.embedded import EmbeddedServers
from services.fleet.orphans import end_recorded, find_recorded
from tests.fleet.waiting import is_running, wait_for

_SCRIPT = """
import json, os, sys, time
from pathlib import Path
from services.fleet.child import Program
from services.fleet.embedded import EmbeddedServers
from services.fleet.reaper import Guard
from services.fleet.processes import Supervisor
home, guard = Path(sys.argv[1]), Guard()
servers = EmbeddedServers.start(home, auto_ports=True, durable=False, guard=guard)
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\\nwhile True: time.sleep(60)"
family = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
programs = [Program(name=n, argv=(sys.executable, "-c", c), env=dict(os.environ))
            for n, c in (("stubborn", stubborn), ("family", family))]
supervisor = Supervisor(programs, guard=guard, adopted=servers.children, record=home / "processes.json")
supervisor.start()
supervisor.wait_healthy(20)
print("ready", guard.pid, flush=True)
supervisor.wait()
"""


@contextmanager
def started(home: Path) -> Iterator[tuple[subprocess.Popen[str], int, list[int]]]:
    """Yield the supervisor, its guard's id, and every process below it; end what a failing test leaves."""
    process = subprocess.Popen([sys.executable, "-c", _SCRIPT, str(home)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    guard_pid = 0
    for line in process.stdout:
        if line.startswith("ready"):
            guard_pid = int(line.split()[1])
            break
    below = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert guard_pid in below
    try:
        yield process, guard_pid, below
    finally:
        for pid in (process.pid, *below):
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
        process.stdout.close()
        process.wait()


def test_killed_supervisor_leaves_nothing_behind(home: Path) -> None:
    with started(home) as (supervisor, _, below):
        assert len(below) >= 9  # the guard, two servers with their own, a stubborn one, a family of two

        supervisor.kill()

        wait_for(lambda: not any(map(is_running, below)), seconds=12)


def test_next_start_clears_what_a_killed_supervisor_and_guard_left(home: Path) -> None:
    with started(home) as (supervisor, guard_pid, below):
        os.kill(supervisor.pid, signal.SIGSTOP)  # so that it cannot replace the guard in between
        os.kill(guard_pid, signal.SIGKILL)
        supervisor.kill()
        supervisor.wait()
        left = find_recorded(home / "processes.json")
        assert {"stubborn", "family", "postgres", "valkey"} <= left.keys()

        with EmbeddedServers.start(home, auto_ports=True, durable=False) as servers:
            with psycopg.connect(servers.database_url) as connection:
                assert connection.execute("select 1").fetchone() == (1,)
            end_recorded(home / "processes.json")

        wait_for(lambda: not any(map(is_running, below)), seconds=12)


def test_recorded_number_that_belongs_to_another_process_now_is_left_alone(home: Path) -> None:
    home.mkdir(parents=True)
    record = home / "processes.json"
    record.write_text(json.dumps({"ingress": [os.getpid(), 1.0]}))

    assert end_recorded(record) == []
    assert not record.exists()


def test_killed_servers_are_started_again_with_their_data(home: Path) -> None:
    import io

    from services.fleet.processes import Supervisor
    from services.fleet.reaper import Guard

    guard, out = Guard(), io.StringIO()
    with EmbeddedServers.start(home, auto_ports=True, guard=guard) as servers:
        supervisor = Supervisor([], guard=guard, adopted=servers.children, out=out)
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
    guard.close()
