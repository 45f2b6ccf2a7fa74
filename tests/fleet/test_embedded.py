"""The embedded servers: real servers, real connections."""

import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from services.fleet.embedded.servers import EmbeddedServers
from services.fleet.embedded.state import HomeLock, find_owner
from services.fleet.errors import AlreadyRunning, FleetError, PortTaken
from services.fleet.ports import find_free_port
from tests.fleet.conftest import IS_ROOT
from tests.fleet.waiting import is_running


def start(home: Path, *, throwaway: bool = False) -> EmbeddedServers:
    return EmbeddedServers.start(
        home, postgres_port=0, valkey_port=0, auto_ports=True, durable=False, throwaway=throwaway
    )


@pytest.fixture(scope="module")
def running(shared_home: Path) -> Iterator[EmbeddedServers]:
    """Servers for tests that change nothing about them."""
    with start(shared_home) as servers:
        yield servers


def test_both_servers_answer_on_their_urls(running: EmbeddedServers) -> None:
    with psycopg.connect(running.database_url) as connection:
        row = connection.execute("select current_user, current_setting('server_encoding')").fetchone()
    with redis.from_url(running.broker_url) as broker:
        answered = broker.ping()
        policy = broker.config_get("maxmemory-policy")

    assert row == ("shopfleet_app", "UTF8")
    assert answered
    assert policy == {"maxmemory-policy": "noeviction"}


def test_application_role_makes_no_tables_and_owner_does(running: EmbeddedServers) -> None:
    with psycopg.connect(running.migrate_database_url) as owner:
        owner.execute("create table things (id int)")
    with psycopg.connect(running.database_url) as app:
        for statement in ("create table mine (id int)", "create schema mine", "drop table things"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute(statement)
            app.rollback()


def test_data_is_there_after_a_restart(home: Path) -> None:
    with start(home) as servers, psycopg.connect(servers.migrate_database_url) as owner:
        owner.execute("create table kept as select 1 as id")

    with start(home) as servers, psycopg.connect(servers.migrate_database_url) as owner:
        assert owner.execute("select id from kept").fetchone() == (1,)


def test_durable_servers_sync_every_commit(home: Path) -> None:
    with (
        EmbeddedServers.start(home, auto_ports=True, with_valkey=False) as servers,
        psycopg.connect(servers.database_url) as connection,
    ):
        names = ("fsync", "synchronous_commit", "full_page_writes")
        settings = {n: connection.execute("select current_setting(%s)", [n]).fetchone() for n in names}

    assert settings == dict.fromkeys(names, ("on",))
    assert servers.broker_url == ""


def test_connection_without_the_password_is_refused(running: EmbeddedServers) -> None:
    wrong = running.database_url.replace("shopfleet_app:", "shopfleet_app:x")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=running.valkey_port).ping()


def test_passwords_are_in_private_files_and_on_no_command_line(running: EmbeddedServers) -> None:
    url = psycopg.conninfo.conninfo_to_dict(running.database_url)
    lines = [" ".join(psutil.Process(child.pid).cmdline()) for child in running.children]
    passwords = running.home / "servers.json"

    assert stat.S_IMODE(passwords.stat().st_mode) == 0o600
    assert not any(str(url["password"]) in line or "requirepass" in line for line in lines)


def test_old_home_gets_the_archive_role_and_keeps_its_passwords(home: Path) -> None:
    with start(home):
        pass
    passwords = home / "servers.json"
    kept = json.loads(passwords.read_text())
    del kept["archive"]
    passwords.write_text(json.dumps(kept))

    with start(home) as servers, psycopg.connect(servers.archive_database_url) as archive:
        assert archive.execute("select current_user").fetchone() == ("shopfleet_archive",)

    assert kept.items() < json.loads(passwords.read_text()).items()
    assert stat.S_IMODE(passwords.stat().st_mode) == 0o600


def test_servers_listen_on_loopback_only(running: EmbeddedServers) -> None:
    seen = {
        connection.laddr.ip
        for child in running.children
        for connection in psutil.Process(child.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }

    assert seen == {"127.0.0.1"}


def test_stop_leaves_no_process_and_a_free_home(home: Path) -> None:
    others = {process.pid for process in psutil.Process().children(recursive=True)}
    servers = start(home)
    pids = {process.pid for process in psutil.Process().children(recursive=True)} - others
    assert find_owner(home) == os.getpid()

    servers.stop()

    assert not [pid for pid in pids if is_running(pid)]
    assert find_owner(home) is None


def test_second_start_on_one_home_is_refused_with_the_owner_named(running: EmbeddedServers) -> None:
    with pytest.raises(AlreadyRunning, match=rf"already running on .*pid {os.getpid()}"):
        start(running.home)


def test_taken_port_is_refused_with_its_listener_named(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(PortTaken, match=rf"port {port} .*EMBEDDED_POSTGRES_PORT.*pid {os.getpid()}"):
            EmbeddedServers.start(home, postgres_port=port, valkey_port=find_free_port(), durable=False)

    assert find_owner(home) is None


def test_taken_port_is_left_alone_with_auto_ports(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with EmbeddedServers.start(home, postgres_port=port, auto_ports=True, durable=False) as servers:
            assert servers.postgres_port not in (0, port)


def test_stale_pid_file_of_a_running_process_does_not_prevent_the_start(home: Path) -> None:
    with start(home) as servers:
        assert servers.postgres is not None
        data = Path(servers.postgres.program.argv[2])
    now = int(time.time())
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n{now}\n5432\n\n\n1 1\nready\n")

    with start(home) as servers, psycopg.connect(servers.database_url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_half_made_cluster_is_made_again(home: Path) -> None:
    with start(home) as servers:
        assert servers.postgres is not None
        data = Path(servers.postgres.program.argv[2])
    data.rename(data.with_name("new"))

    with start(home) as servers, psycopg.connect(servers.database_url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_throwaway_servers_leave_no_data(home: Path) -> None:
    with start(home, throwaway=True) as servers:
        assert servers.postgres is not None
        data = Path(servers.postgres.program.argv[2])
        assert data.is_dir()

    assert not data.exists()
    assert not (home / "servers.json").exists()


@pytest.mark.skipif(not IS_ROOT, reason="an ordinary user's servers run as that user")
def test_roots_servers_run_as_an_unprivileged_account(running: EmbeddedServers) -> None:
    names = {psutil.Process(child.pid).username() for child in running.children}

    assert names == {"nobody"}


@pytest.mark.skipif(not IS_ROOT, reason="only root's servers run as another account")
def test_home_in_a_closed_folder_keeps_data_elsewhere_and_the_folder_closed(home: Path) -> None:
    home.mkdir(parents=True)
    home.chmod(0o700)
    with start(home, throwaway=True) as servers:
        assert servers.postgres is not None
        data = Path(servers.postgres.program.argv[2])
        note = (home / "servers-at").read_text().splitlines()[0]
        with psycopg.connect(servers.database_url) as connection:
            assert connection.execute("select 1").fetchone() == (1,)

        assert data.is_relative_to(note)
        assert not data.is_relative_to(home)
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert not Path(note).exists()


@pytest.mark.skipif(not IS_ROOT, reason="only root's servers run as another account")
def test_throwaway_data_of_a_killed_run_is_removed_by_the_next(home: Path) -> None:
    killed, later = home / "killed", home / "later"
    for closed in (killed, later):
        closed.mkdir(parents=True)
        closed.chmod(0o700)
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from services.fleet.embedded.servers import EmbeddedServers\n"
        "EmbeddedServers.start(Path(sys.argv[1]), auto_ports=True, durable=False, throwaway=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(killed)], check=False)
    left = Path((killed / "servers-at").read_text().splitlines()[0])
    assert left.is_dir()

    start(later, throwaway=True).stop()

    assert not left.exists()


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_home_that_cannot_be_a_folder_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(FleetError, match=f"^{tmp_path / name} cannot be made or used .*set FLEET_HOME"):
        HomeLock(tmp_path / name)
